"""Envoy's static configuration: a listener and a cluster for each path.

Side A takes plaintext on loopback and calls side B by mutual TLS 1.3; B takes that and calls the application. Both
check the other's SPIFFE ID. No session is resumed: each new connection is a full handshake.
"""

from sidecars.bed import ADDRESS_B
from sidecars.peers.peer import PATHS
from sidecars.pki import spiffe_id

TYPE = "type.googleapis.com/envoy."
NO_LIMIT = 100_000
SERVICES_OF_ISTIO = 50


def configuration(side, pki, http2_between, like_istio, services):
    """The whole configuration of a side, with so many clusters of ten endpoints besides."""
    chain = Chain(side, pki, http2_between, like_istio)
    clusters = [chain.cluster(path) for path in PATHS]
    clusters += [chain.unused_cluster(number) for number in range(services)]
    return {"static_resources": {"listeners": [chain.listener(path) for path in PATHS], "clusters": clusters}}


class Chain:
    """What the listeners and clusters of one side have in common."""

    def __init__(self, side, pki, http2_between, like_istio):
        self.is_client = side == "A"
        self.me, self.other = ("a", "b") if self.is_client else ("b", "a")
        self.pki, self.http2_between, self.like_istio = pki, http2_between, like_istio

    def listener(self, path):
        if path.opaque:
            content = {"@type": TYPE + "extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": path.name,
                       "cluster": path.name}
        else:
            content = self.http_manager(path)
        chain = {"filters": [{"name": "filter", "typed_config": content}]}
        address, port = ("127.0.0.1", path.client_port) if self.is_client else (ADDRESS_B, path.server_port)
        if not self.is_client:
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": True, "disable_stateless_session_resumption": True,
                "disable_stateful_session_resumption": True,
                "common_tls_context": self.tls(path, [] if path.opaque else ["h2", "http/1.1"])}}
        return {"name": path.name, "address": socket_address(address, port), "filter_chains": [chain],
                "tcp_backlog_size": 4096}

    def cluster(self, path):
        address, port = (ADDRESS_B, path.server_port) if self.is_client else ("127.0.0.1", path.application)
        cluster = {
            "name": path.name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": path.name, "endpoints": [{"lb_endpoints": [endpoint(address, port)]}]},
            "circuit_breakers": {"thresholds": [{
                "max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT, "max_requests": NO_LIMIT,
                "max_retries": 1000}]}}
        speaks_http2 = self.http2_between if self.is_client else path.http2
        if not path.opaque:
            protocol = "http2_protocol_options" if speaks_http2 else "http_protocol_options"
            options = {"@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                       "explicit_http_config": {protocol: {}}}
            if self.is_client and path.connection_per_request:
                options["common_http_protocol_options"] = {"max_requests_per_connection": 1}
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
        if self.is_client:
            protocols = [] if path.opaque else ["h2" if speaks_http2 else "http/1.1"]
            cluster["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": TYPE + "extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "b",
                "max_session_keys": 0, "common_tls_context": self.tls(path, protocols)}}
        if self.like_istio:
            cluster["outlier_detection"] = {"consecutive_5xx": 5, "interval": "10s"}
            cluster["circuit_breakers"]["thresholds"][0]["track_remaining"] = True
        return cluster

    def unused_cluster(self, number):
        """A service of the mesh that nobody calls."""
        cluster = self.cluster(PATHS[0])
        cluster["name"] = f"outbound|80||size-{number}.default.svc.cluster.local"
        endpoints = [endpoint(f"10.{number >> 8}.{number & 255}.{host}", 80) for host in range(1, 11)]
        cluster["load_assignment"] = {"cluster_name": cluster["name"], "endpoints": [{"lb_endpoints": endpoints}]}
        return cluster

    def tls(self, path, protocols):
        context = {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
                           "ecdh_curves": [path.exchange]},
            "tls_certificates": [{"certificate_chain": {"filename": f"{self.pki}/{self.me}.pem"},
                                  "private_key": {"filename": f"{self.pki}/{self.me}.key"}}],
            "validation_context": {
                "trusted_ca": {"filename": f"{self.pki}/ca.pem"},
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"exact": spiffe_id(self.other)}}]}}
        if protocols:
            context["alpn_protocols"] = protocols
        return context

    def http_manager(self, path):
        route = {"match": {"prefix": "/"}, "route": {"cluster": path.name, "timeout": "0s"}}
        hosts = [{"name": "any", "domains": ["*"], "routes": [route]}]
        manager = {
            "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": path.name, "route_config": {"name": path.name, "virtual_hosts": hosts}}
        filters = self.add_istio(path, manager, route, hosts) if self.like_istio else []
        manager["http_filters"] = [*filters, http_filter("router", "router.v3.Router")]
        return manager

    def add_istio(self, path, manager, route, hosts):
        """Gives a manager and its route what Istio does; the filters to put before the router."""
        route["route"]["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
            "retriable_status_codes": [503], "host_selection_retry_max_attempts": "5"}
        for number in range(SERVICES_OF_ISTIO):
            host = f"service-{number}.default.svc.cluster.local"
            hosts.append({"name": host, "domains": [host, f"{host}:80", f"service-{number}"],
                          "routes": [{"match": {"prefix": "/"}, "route": {"cluster": path.name}}]})
        manager.update(use_remote_address=False, normalize_path=True, server_header_transformation="PASS_THROUGH")
        filters = []
        if not self.is_client:
            who = {"authenticated": {"principal_name": {"exact": spiffe_id(self.other)}}}
            rules = {"action": "ALLOW", "policies": {"a": {"permissions": [{"any": True}], "principals": [who]}}}
            filters.append(http_filter("rbac", "rbac.v3.RBAC", rules=rules))
            manager.update(forward_client_cert_details="APPEND_FORWARD",
                           set_current_client_cert_details={"subject": True, "uri": True})
        return filters + [
            http_filter("fault", "fault.v3.HTTPFault"), http_filter("cors", "cors.v3.Cors"),
            http_filter("grpc_stats", "grpc_stats.v3.FilterConfig", emit_filter_state=True, stats_for_all_methods=False)]


def http_filter(name, kind, **fields):
    return {"name": name, "typed_config": {"@type": TYPE + "extensions.filters.http." + kind, **fields}}


def socket_address(address, port):
    return {"socket_address": {"address": address, "port_value": port}}


def endpoint(address, port):
    return {"endpoint": {"address": socket_address(address, port)}}

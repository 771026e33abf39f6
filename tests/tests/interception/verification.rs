//! What `weft-proxy init` says where interception holds, and where it does not.

use std::process::Output;

use weft_tests::{
    ground::init,
    namespace::{self, Namespace, User},
    network::Network,
};

use crate::rules::{listed, succeeded, text};

/// It wrote the rules, but says that they do not hold, and all of this.
fn does_not_hold(output: &Output, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn both_families_are_probed_at_addresses_that_nobody_has() {
    if !namespace::available("both_families_are_probed_at_addresses_that_nobody_has") {
        return;
    }
    let network = Network::routed(1);
    let said = succeeded(&init(network.pod(0), &[]).await);
    for family in ["holds (by a connection to 192.0.2.1:9)", "to [2001:db8::1]:9)"] {
        assert!(said.contains(family), "{said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
    // What is left out would tell nothing.
    let flags = ["--skip-outbound-cidrs=192.0.2.0/24,2001:db8::/32", "--skip-outbound-ports=1-9"];
    let said = succeeded(&init(network.pod(0), &flags).await);
    assert!(said.contains("to 198.51.100.1:10)") && said.contains("ipv6=\"not probed"), "{said}");
    let said = succeeded(&init(network.pod(0), &["--skip-outbound-ports=1-65535"]).await);
    assert_eq!(said.matches("not probed: all that there is a route to").count(), 2, "{said}");
}

#[tokio::test]
async fn without_a_default_route_the_pods_own_network_is_probed() {
    if !namespace::available("without_a_default_route_the_pods_own_network_is_probed") {
        return;
    }
    let network = Network::switched(2);
    let pod = network.pod(0);
    pod.ip_command("route del default");
    pod.ip_command("-6 route del default");
    let said = succeeded(&init(pod, &[]).await);
    // The first address there but its own.
    assert!(said.contains("to 10.77.0.1:9)") && said.contains("to [fd77::1]:9)"), "{said}");
    // Without any route at all nothing can be tried, and nothing goes out either.
    pod.ip_command("link set eth0 down");
    let said = succeeded(&init(pod, &[]).await);
    assert_eq!(said.matches("not probed: there is no route").count(), 2, "{said}");
    assert!(listed(pod, "table inet weft").contains("redirect to :4140"));
}

#[tokio::test]
async fn where_ipv6_is_off_ipv4_alone_is_probed() {
    if !namespace::available("where_ipv6_is_off_ipv4_alone_is_probed") {
        return;
    }
    let network = Network::routed(1);
    network.pod(0).set("net/ipv6/conf/all/disable_ipv6", "1");
    let said = succeeded(&init(network.pod(0), &[]).await);
    assert!(said.contains("ipv4=\"holds") && said.contains("ipv6=\"not probed"), "{said}");
}

#[tokio::test]
async fn rules_of_others_that_take_the_connection_are_found_and_named() {
    if !namespace::available("rules_of_others_that_take_the_connection_are_found_and_named") {
        return;
    }
    let dnat = "table ip cni { chain out { type nat hook output priority -150; policy accept; \
                ip daddr 192.0.2.0/24 tcp dport 9 dnat to 127.0.0.1:99; }; }";
    let drop = "table inet wall { chain out { type filter hook output priority 10; policy accept; \
                tcp dport 4140 drop; }; }";
    let reject = "table ip6 wall { chain into { type filter hook input priority 0; policy accept; \
                  tcp dport 4140 reject with tcp reset; }; }";
    for (rules, parts) in [
        (dnat, ["192.0.2.1:9", "was refused", "table ip cni, chain out (output, priority -150)"]),
        (drop, ["192.0.2.1:9", "not answered within 400ms", "table inet wall, chain out (output"]),
        (reject, ["[2001:db8::1]:9", "was refused", "table ip6 wall, chain into (input"]),
    ] {
        let network = Network::routed(1);
        network.pod(0).nft(rules);
        let output = init(network.pod(0), &["--timeout=400ms"]).await;
        does_not_hold(&output, &parts);
        // Who knows better may go on.
        let said = succeeded(&init(network.pod(0), &["--no-verify"]).await);
        assert!(said.contains("not probed: --no-verify"), "{said}");
    }
}

#[tokio::test]
async fn a_connection_that_others_led_here_under_another_name_is_found() {
    if !namespace::available("a_connection_that_others_led_here_under_another_name_is_found") {
        return;
    }
    // Somebody listens where theirs leads to: the connection is made, but does not come to the outbound port.
    let network = Network::routed(1);
    let elsewhere = || std::net::TcpListener::bind("127.0.0.1:99");
    let listener = network.pod(0).run(User::Root, elsewhere).join().expect("no panic");
    network.pod(0).nft(
        "table ip cni { chain out { type nat hook output priority -150; policy accept; \
         ip daddr 192.0.2.0/24 tcp dport 9 dnat to 127.0.0.1:99; }; }",
    );
    let output = init(network.pod(0), &["--timeout=400ms"]).await;
    does_not_hold(&output, &["was taken by somebody else", "table ip cni, chain out"]);
    drop(listener);
}

#[tokio::test]
async fn the_proxys_own_connections_must_not_come_back_to_it() {
    if !namespace::available("the_proxys_own_connections_must_not_come_back_to_it") {
        return;
    }
    let network = Network::routed(1);
    network.pod(0).nft(
        "table inet loops { chain out { type nat hook output priority -150; policy accept; \
         meta skuid 4140 tcp dport 9 redirect to :4140; }; }",
    );
    let output = init(network.pod(0), &[]).await;
    does_not_hold(&output, &["of user 4140, the proxy's own, came", "table inet loops, chain out"]);
    // Another user's are none of its business.
    succeeded(&init(network.pod(0), &["--proxy-user=4141"]).await);
}

#[tokio::test]
async fn where_the_proxy_runs_already_it_takes_the_probe() {
    if !namespace::available("where_the_proxy_runs_already_it_takes_the_probe") {
        return;
    }
    let network = Network::routed(1);
    let proxy = || std::net::TcpListener::bind("[::]:4140");
    let listener = network.pod(0).run(User::Proxy, proxy).join().expect("no panic");
    let said = succeeded(&init(network.pod(0), &[]).await);
    assert_eq!(said.matches("taken by who listens on the outbound port").count(), 2, "{said}");
    drop(listener);
}

#[tokio::test]
async fn the_proxy_can_listen_as_soon_as_the_rules_are_written() {
    if !namespace::available("the_proxy_can_listen_as_soon_as_the_rules_are_written") {
        return;
    }
    let network = Network::routed(1);
    let listen = |pod: &Namespace| {
        // Without SO_REUSEADDR, which would hide a port that a closed connection still occupies.
        let bind = || {
            let socket = tokio::net::TcpSocket::new_v6()?;
            socket.bind("[::]:4140".parse().expect("an address"))
        };
        pod.run(User::Proxy, bind).join().expect("no panic")
    };
    succeeded(&init(network.pod(0), &[]).await);
    listen(network.pod(0)).expect("the port is free");
}

#[tokio::test]
async fn without_loopback_that_is_said() {
    if !namespace::available("without_loopback_that_is_said") {
        return;
    }
    let network = Network::routed(1);
    network.pod(0).ip_command("addr flush dev lo");
    let output = init(network.pod(0), &[]).await;
    does_not_hold(&output, &["cannot listen on 127.0.0.1:4140", "is loopback up?"]);
}

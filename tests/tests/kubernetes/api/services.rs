//! Services and their slices: addresses that are given, and addresses that are refused.

use std::net::IpAddr;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api as Objects,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{
    Cluster,
    cluster::{
        refusal,
        slices::{EndpointWish, SliceWish},
    },
};

use super::objects::object;

#[tokio::test]
async fn services_get_an_address_and_keep_it() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let services: Objects<Service> = cluster.objects(&namespace);
    let service = |name: &str, more: Value| -> Service {
        let mut spec =
            json!({"ports": [{"port": 80, "targetPort": "http"}], "selector": {"app": "web"}});
        json_patch::merge(&mut spec, &more);
        object(json!({"metadata": {"name": name}, "spec": spec}))
    };

    let made = cluster.create(&services, &service("web", json!({}))).await.spec.expect("a spec");
    let address: IpAddr = made.cluster_ip.as_deref().expect("one").parse().expect("an address");
    assert_eq!(made.cluster_ips, Some(vec![address.to_string()]));
    assert_eq!(made.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(made.ports.expect("ports")[0].protocol.as_deref(), Some("TCP"));
    let headless = service("headless", json!({"clusterIP": "None"}));
    let headless = cluster.create(&services, &headless).await.spec.expect("a spec");
    assert_eq!(headless.cluster_ip.as_deref(), Some("None"));
    let both = service("both", json!({"ipFamilyPolicy": "PreferDualStack"}));
    let both = cluster.create(&services, &both).await.spec.expect("a spec");
    let addresses: Vec<IpAddr> =
        both.cluster_ips.iter().flatten().flat_map(|ip| ip.parse()).collect();
    let is_v6: Vec<bool> = addresses.iter().map(IpAddr::is_ipv6).collect();
    // A real cluster may have one family alone.
    let expected: &[bool] = if is_v6.len() == 1 { &is_v6 } else { &[false, true] };
    assert!(is_v6 == expected && !addresses.contains(&address), "{addresses:?}");
    assert!(cluster.in_memory().is_none() || addresses.len() == 2, "{addresses:?}");
    let external = json!({"type": "ExternalName", "externalName": "example.com", "selector": null});
    let external = cluster.create(&services, &service("external", external)).await;
    assert_eq!(external.spec.expect("a spec").cluster_ip, None);

    let other =
        Patch::Merge(json!({"spec": {"clusterIP": "10.96.255.1", "clusterIPs": ["10.96.255.1"]}}));
    let status = refusal(services.patch("web", &PatchParams::default(), &other).await);
    assert_eq!(status.code, 422, "{status:?}");
    let two = json!({"ports": [{"port": 80}, {"port": 81}]});
    let status = refusal(services.create(&PostParams::default(), &service("two", two)).await);
    assert_eq!(status.details.expect("details").causes[0].field, "spec.ports[0].name");
}

#[tokio::test]
async fn slices_hold_addresses_of_their_family_that_others_can_reach() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let slices: Objects<EndpointSlice> = cluster.objects(&namespace);
    let slice = |family: &str, address: &str| -> EndpointSlice {
        object(json!({
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": family, "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        }))
    };

    for (family, address) in [
        ("IPv4", "127.0.0.1"),
        ("IPv4", "169.254.1.1"),
        ("IPv4", "224.0.0.1"),
        ("IPv4", "0.0.0.0"),
        ("IPv4", "fd00::1"),
        ("IPv6", "192.0.2.1"),
        ("IPv6", "::1"),
        ("IPv6", "fe80::1"),
        ("IPv4", "web"),
    ] {
        let status = refusal(slices.create(&PostParams::default(), &slice(family, address)).await);
        assert_eq!(status.code, 422, "{family} {address}: {status:?}");
        let field = &status.details.expect("details").causes[0].field;
        assert_eq!(field, "endpoints[0].addresses[0]", "{family} {address}");
    }
    let made = cluster.apply_slice(&namespace, &slice("IPv4", "192.0.2.1")).await;
    assert_eq!(made.ports.expect("ports")[0].protocol.as_deref(), Some("TCP"));
    let status =
        refusal(slices.replace("web-1", &PostParams::default(), &slice("IPv6", "fd00::1")).await);
    assert_eq!(status.details.expect("details").causes[0].field, "addressType");
}

#[tokio::test]
async fn a_slice_says_of_each_endpoint_how_it_is() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let address = |last: u8| IpAddr::from([192, 0, 2, last]);
    let wish = SliceWish::of("web", "web-1")
        .port("http", 8080)
        .endpoint(EndpointWish::ready(address(1)).pod("web-0").on("node-a", "a"))
        .endpoint(EndpointWish::ready(address(2)).unready())
        .endpoint(EndpointWish::ready(address(3)).terminating());

    let made = cluster.slice(&namespace, &wish).await;

    let states: Vec<_> = made
        .endpoints
        .iter()
        .map(|endpoint| endpoint.conditions.clone().expect("conditions"))
        .map(|is| [is.ready, is.serving, is.terminating].map(Option::unwrap_or_default))
        .collect();
    assert_eq!(states, [[true, true, false], [false, false, false], [false, true, true]]);
    assert_eq!(made.endpoints[0].zone.as_deref(), Some("a"));
    let pod = made.endpoints[0].target_ref.as_ref().expect("a pod");
    assert_eq!((pod.name.as_deref(), pod.namespace.as_ref()), (Some("web-0"), Some(&namespace)));
    cluster.delete_slice(&namespace, "web-1").await;
}

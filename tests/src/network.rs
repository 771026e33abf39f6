//! Networks of namespaces: machines on one switch, or pods on a node that routes between them.
//!
//! | | [`Network::switched`] | [`Network::routed`] |
//! |---|---|---|
//! | stands for | machines of one link | pods on a node, whose services are kube-proxy's ([`Network::balance`]) |
//! | in the middle | a bridge | a namespace that forwards, with a veth pair to each pod |
//! | an address on the way | is on the link | is the node's to route |
//!
//! Root only. Everything is removed when the [`Network`] is dropped, and what a killed test left behind by the next
//! one.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::namespace::{Namespace, ip, remove_leftovers};

/// Pods, and what joins them.
#[derive(Debug)]
pub struct Network {
    middle: Namespace,
    is_routed: bool,
    pods: Vec<Namespace>,
}

impl Network {
    /// This many machines on one switch.
    #[must_use]
    pub fn switched(pods: u8) -> Self {
        let network = Self::make(pods, false);
        network.middle.ip_command("link add br0 type bridge");
        network.middle.ip_command("link set br0 up");
        for (index, pod) in network.pods.iter().enumerate() {
            network.plug_in(index, pod);
            network.middle.ip_command(&format!("link set port{index} master br0"));
            pod.ip_command(&format!("addr add {}/24 dev eth0", pod.v4));
            pod.ip_command(&format!("-6 addr add {}/64 dev eth0 nodad", pod.v6));
            // Service addresses lie outside the link: packets to them must be routable to be intercepted.
            pod.ip_command("route add default dev eth0");
            pod.ip_command("-6 route add default dev eth0");
        }
        network
    }

    /// This many pods on one node.
    #[must_use]
    pub fn routed(pods: u8) -> Self {
        let network = Self::make(pods, true);
        let node = &network.middle;
        for (index, pod) in network.pods.iter().enumerate() {
            network.plug_in(index, pod);
            for (end, here, there) in
                [(pod, "eth0".to_owned(), node), (node, format!("port{index}"), pod)]
            {
                end.ip_command(&format!("addr add {}/32 dev {here}", end.v4));
                end.ip_command(&format!("-6 addr add {}/128 dev {here} nodad", end.v6));
                end.ip_command(&format!("route add {} dev {here}", there.v4));
                end.ip_command(&format!("-6 route add {} dev {here}", there.v6));
            }
            pod.ip_command(&format!("route add default via {} dev eth0", node.v4));
            pod.ip_command(&format!("-6 route add default via {} dev eth0", node.v6));
        }
        node.set("net/ipv4/ip_forward", "1");
        node.set("net/ipv6/conf/all/forwarding", "1");
        node.nft(
            "table inet kube-proxy { chain services { \
             type nat hook prerouting priority dstnat; policy accept; }; }",
        );
        network
    }

    fn make(pods: u8, is_routed: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_leftovers);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("weft{}-{number}", std::process::id());
        let namespace = |name: String, host: u8| {
            let v4 = Ipv4Addr::new(10, 77, 0, host);
            let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host));
            Namespace::make(&format!("{prefix}-{name}"), v4, v6)
        };
        let pods = (0..pods).map(|index| namespace(index.to_string(), index + 2)).collect();
        Self { middle: namespace("sw".to_owned(), 1), is_routed, pods }
    }

    /// Joins a pod's `eth0` to a port in the middle.
    fn plug_in(&self, index: usize, pod: &Namespace) {
        let name = pod.name();
        let pair = format!("link add port{index} type veth peer name eth0 netns {name}");
        self.middle.ip_command(&pair);
        self.middle.ip_command(&format!("link set port{index} up"));
        pod.ip_command("link set eth0 up");
    }

    /// A pod by its number.
    #[must_use]
    pub fn pod(&self, index: usize) -> &Namespace {
        &self.pods[index]
    }

    /// The node that routes between the pods: where a kubelet asks from.
    ///
    /// # Panics
    /// When the network is not routed.
    #[must_use]
    pub fn node(&self) -> &Namespace {
        assert!(self.is_routed, "machines have no node");
        &self.middle
    }

    /// Gives a pod a further address, which all others reach.
    pub fn add_address(&self, index: usize, address: IpAddr) {
        self.pods[index].add_address(address);
        if self.is_routed {
            let family = if address.is_ipv4() { "-4" } else { "-6" };
            self.middle.ip_command(&format!("{family} route add {address} dev port{index}"));
        }
    }

    /// Joins the node to the machine itself; every pod reaches the machine at the address that is returned. What leaves
    /// comes from the node's address, so that several networks may have pods of the same addresses.
    ///
    /// # Panics
    /// When the network is not routed.
    #[must_use]
    pub fn uplink(&self) -> Ipv4Addr {
        assert!(self.is_routed, "a switch leads nowhere");
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Of the range for tests between networks (RFC 2544), a few addresses for each process and network.
        let number =
            std::process::id().wrapping_mul(31).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (number % 0x7fff) * 4;
        let (machine, node) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let name = format!("weft{number:x}");
        let name = &name[..name.len().min(15)];
        let middle = self.middle.name();
        ip(&format!("link add {name} type veth peer name uplink netns {middle}"));
        ip(&format!("addr add {machine}/30 dev {name}"));
        ip(&format!("link set {name} up"));
        self.middle.ip_command(&format!("addr add {node}/30 dev uplink"));
        self.middle.ip_command("link set uplink up");
        self.middle.nft(
            "table ip uplink { chain leaving { type nat hook postrouting priority srcnat; policy accept; \
             oifname \"uplink\" masquerade; }; }",
        );
        machine
    }

    /// Lets the node send connections to a service's address to one of these pods' ports, as kube-proxy does: by
    /// destination NAT, at random.
    ///
    /// # Panics
    /// When the network is not routed: nobody stands between caller and service then.
    pub fn balance(&self, service: SocketAddr, pods: &[usize], port: u16) {
        assert!(self.is_routed, "a switch does not translate addresses");
        let family = if service.is_ipv4() { "ip" } else { "ip6" };
        let instances = pods.iter().enumerate().map(|(number, &index)| {
            format!("{number} : {}", self.pods[index].ip(service.is_ipv6()))
        });
        let instances = instances.collect::<Vec<_>>().join(", ");
        self.middle.nft(&format!(
            "add rule inet kube-proxy services {family} daddr {} tcp dport {} \
             dnat {family} to numgen random mod {} map {{ {instances} }} : {port}",
            service.ip(),
            service.port(),
            pods.len(),
        ));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.pods.iter().chain([&self.middle]) {
            namespace.remove();
        }
    }
}

//! What interception is played on: namespaces, and rules that redirect their connections.
//!
//! There are machines whose rules are those that users load (deploy/vm/transparent.nft), and pods on a node whose rules
//! `weft-proxy init` has written; each in both families. A case that holds on all of them plays on [`grounds`], one
//! of Kubernetes alone on [`cluster_grounds`].

use std::process::Output;

use crate::{
    namespace::{self, Namespace},
    network::Network,
    process,
};

/// The rules of machines, as users load them.
const RULES: &str = include_str!("../../deploy/vm/transparent.nft");
/// The ports that those rules leave out.
const SKIPPED: [&str; 2] = ["--skip-inbound-ports=22,4480", "--skip-outbound-ports=22,4480"];

/// Where and in which family a case is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// Whether connections between pods are IPv6's.
    pub v6: bool,
    /// What the pods are.
    pub place: Place,
}

/// What the pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Machines on a switch, with the rules that users load.
    Machines,
    /// Pods on a node that translates services' addresses, with the rules that `weft-proxy init` writes.
    Cluster,
}

/// The grounds to play on, both in both families: none where namespaces cannot be made.
#[must_use]
pub fn grounds(test: &str) -> Vec<Ground> {
    let places = [Place::Cluster, Place::Machines];
    let on_both = |ground: Ground| places.map(|place| Ground { place, ..ground });
    cluster_grounds(test).into_iter().flat_map(on_both).collect()
}

/// Kubernetes' grounds, in both families: none where namespaces cannot be made.
#[must_use]
pub fn cluster_grounds(test: &str) -> Vec<Ground> {
    let families: &[bool] = if namespace::available(test) { &[false, true] } else { &[] };
    families.iter().map(|&v6| Ground { v6, place: Place::Cluster }).collect()
}

/// Lets `weft-proxy init` with these flags write a pod's rules, as root.
///
/// # Panics
/// When it cannot be started.
pub async fn init(pod: &Namespace, flags: &[&str]) -> Output {
    let mut command = pod.root_program(process::program().await);
    command.arg("init").args(flags);
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.expect("no panic").expect("the program starts")
}

impl Ground {
    /// This many pods, whose connections are not redirected yet.
    #[must_use]
    pub fn network(self, pods: u8) -> Network {
        match self.place {
            Place::Machines => Network::switched(pods),
            Place::Cluster => Network::routed(pods),
        }
    }

    /// Redirects a pod's connections; with further flags where `weft-proxy init` does it.
    ///
    /// # Panics
    /// When the rules are refused, or do not hold.
    pub async fn intercept(self, pod: &Namespace, flags: &[&str]) {
        match self.place {
            Place::Machines => pod.nft(RULES),
            Place::Cluster => {
                let output = init(pod, &[&SKIPPED, flags].concat()).await;
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

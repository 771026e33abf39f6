//! Network namespaces that stand for pods: joined by a bridge, each with an IPv4 and an IPv6 address.
//!
//! Root only. A namespace's sockets are made by threads that moved into it: [`Namespace::run`] starts one, and
//! what it spawns stays there. Everything is removed when the [`Network`] is dropped.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Pods on one bridge.
#[derive(Debug)]
pub struct Network {
    bridge: String,
    pods: Vec<Namespace>,
}

/// One pod.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// Whether namespaces can be made here; says SKIPPED loudly where not.
#[must_use]
pub fn available(test: &str) -> bool {
    if rustix::process::geteuid().is_root() && has("ip") && has("nft") {
        return true;
    }
    crate::skip(test, "needs root, ip and nft");
    false
}

fn has(program: &str) -> bool {
    Command::new(program).arg("-V").output().is_ok()
}

impl Network {
    /// Makes this many pods.
    #[must_use]
    pub fn new(pods: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("weft{}-{number}", std::process::id());
        let bridge = format!("{prefix}-sw");
        let mut network = Self { bridge: bridge.clone(), pods: Vec::new() };
        ip(&format!("netns add {bridge}"));
        ip(&format!("-n {bridge} link add br0 type bridge"));
        ip(&format!("-n {bridge} link set br0 up"));
        for index in 0..pods {
            let host = index + 2;
            let pod = Namespace {
                name: format!("{prefix}-{index}"),
                v4: Ipv4Addr::new(10, 77, 0, host),
                v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host)),
            };
            network.pods.push(pod.clone());
            pod.attach(&bridge, index);
        }
        network
    }

    /// A pod by its number.
    #[must_use]
    pub fn pod(&self, index: usize) -> &Namespace {
        &self.pods[index]
    }
}

impl Namespace {
    fn attach(&self, bridge: &str, index: u8) {
        let name = &self.name;
        ip(&format!("netns add {name}"));
        ip(&format!("-n {bridge} link add port{index} type veth peer name eth0 netns {name}"));
        ip(&format!("-n {bridge} link set port{index} master br0 up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} addr add {}/24 dev eth0", self.v4));
        ip(&format!("-n {name} -6 addr add {}/64 dev eth0 nodad", self.v6));
        ip(&format!("-n {name} link set eth0 up"));
        // Service addresses lie outside the link: packets to them must be routable to be intercepted.
        ip(&format!("-n {name} route add default dev eth0"));
        ip(&format!("-n {name} -6 route add default dev eth0"));
    }

    /// The address in this family.
    #[must_use]
    pub const fn ip(&self, v6: bool) -> IpAddr {
        if v6 { IpAddr::V6(self.v6) } else { IpAddr::V4(self.v4) }
    }

    /// Runs work on a thread inside the pod; threads that it starts are inside as well.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        thread::spawn(move || {
            let namespace = File::open(&path).expect("the namespace was made");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            work()
        })
    }

    /// Runs a program inside the pod as an ordinary user: its traffic is the application's.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--reuid=65534", "--regid=65534"]);
        command.args(["--clear-groups", program]);
        command
    }

    /// Loads nftables rules inside the pod, in one transaction.
    pub fn nft(&self, rules: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "nft", rules]);
        check(&mut command);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _ = Command::new("ip").args(["netns", "del", &pod.name]).output();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.bridge]).output();
    }
}

fn ip(arguments: &str) {
    check(Command::new("ip").args(arguments.split(' ')));
}

fn check(command: &mut Command) -> Output {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

//! Network namespaces that stand for pods: joined by a bridge, each with an IPv4 and an IPv6 address.
//!
//! Root only. A namespace's sockets are made by threads that moved into it: [`Namespace::run`] starts one, and
//! what it spawns stays there; a [`Pod`] has a runtime of such threads. Everything is removed when the
//! [`Network`] is dropped, and what a killed test left behind by the next one.

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    fs::Uid,
    thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_uid},
};
use tokio::runtime::{Builder, Runtime};

/// Whom a thread's connections belong to: what redirecting rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Who makes the namespaces: servers, the control plane.
    Root,
    /// An ordinary user without privileges, as applications are.
    Application,
    /// The sidecar's own, as in deploy/vm/transparent.nft; without privileges too.
    Proxy,
}

impl User {
    /// The user's number.
    #[must_use]
    pub const fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Application => 65534,
            Self::Proxy => 4140,
        }
    }

    /// Makes this thread, and those that it starts from now on, this user's.
    fn take_over(self) {
        let uid = Uid::from_raw(self.uid());
        set_thread_res_uid(uid, uid, uid).expect("root may become anybody");
    }
}

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
    if rustix::process::geteuid().is_root() && ["ip", "nft", "setpriv", "curl"].into_iter().all(has)
    {
        return true;
    }
    crate::skip(test, "needs root, ip, nft, setpriv and curl");
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
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_leftovers);
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

    /// Runs work on a thread inside the pod whose connections belong to this user; threads that it starts are
    /// inside as well.
    pub fn run<T: Send + 'static>(
        &self,
        user: User,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        thread::spawn(move || {
            let namespace = File::open(&path).expect("the namespace was made");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            user.take_over();
            work()
        })
    }

    /// A runtime inside the pod whose connections belong to this user.
    ///
    /// # Panics
    /// When there are no threads to be had.
    #[must_use]
    pub fn runtime(&self, user: User) -> Pod {
        let make = move || {
            let mut builder = Builder::new_multi_thread();
            let builder = builder.worker_threads(2).enable_all();
            builder.on_thread_start(move || user.take_over()).build()
        };
        let runtime = self.run(User::Root, make).join().expect("no panic");
        Pod { runtime: Some(runtime.expect("threads can be made")) }
    }

    /// Runs a program inside the pod as an ordinary user: its traffic is the application's.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        let uid = User::Application.uid();
        let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={uid}"));
        command.args(["netns", "exec", &self.name, "setpriv", &uid, &gid]);
        command.args(["--clear-groups", program]);
        command
    }

    /// Adds a further address to the pod, of either family.
    pub fn add_address(&self, address: IpAddr) {
        let (family, prefix) = if address.is_ipv4() { ("-4", 32) } else { ("-6", 128) };
        let nodad = if address.is_ipv4() { "" } else { " nodad" };
        ip(&format!("-n {} {family} addr add {address}/{prefix} dev eth0{nodad}", self.name));
    }

    /// Loads a file of nftables rules inside the pod, in one transaction.
    ///
    /// # Panics
    /// When the rules are refused.
    pub fn nft(&self, rules: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "nft", "-f", "-"]).stdin(Stdio::piped());
        let mut nft = command.stderr(Stdio::piped()).spawn().expect("ip and nft are there");
        let mut stdin = nft.stdin.take().expect("it is piped");
        stdin.write_all(rules.as_bytes()).expect("nft reads all");
        drop(stdin);
        let output = nft.wait_with_output().expect("nft ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A runtime inside a pod; what it runs is stopped when it is dropped.
#[derive(Debug)]
pub struct Pod {
    runtime: Option<Runtime>,
}

impl Pod {
    /// Runs work inside the pod, and waits for it.
    ///
    /// # Panics
    /// When the work does.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        match runtime.spawn(work).await {
            Ok(output) => output,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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

/// Removes the namespaces of tests that were killed: their names say which process made them.
fn remove_leftovers() {
    let list = check(Command::new("ip").args(["netns", "list"]));
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    for name in names {
        let process = name.strip_prefix("weft").and_then(|rest| rest.split('-').next());
        let is_gone = process
            .and_then(|process| process.parse::<u32>().ok())
            .is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists());
        if is_gone {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
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

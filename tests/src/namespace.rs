//! Network namespaces that stand for pods and nodes: made, entered, and removed.
//!
//! Root only. A namespace's sockets are made by threads that moved into it: [`Namespace::run`] starts one, and
//! what it spawns stays there; a [`Pod`] has a runtime of such threads. How they are joined is
//! [`crate::network`]'s, which also removes them, and what a killed test left behind.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::Path,
    process::{Command, Output, Stdio},
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

/// One namespace.
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

impl Namespace {
    /// Makes a namespace of this name, with loopback up; whoever makes it removes it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn make(name: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self { name: name.to_owned(), v4, v6 }
    }

    /// Removes it; what still runs in it keeps it alive.
    pub fn remove(&self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }

    /// Its name, as `ip netns` has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Carries out a command of `ip` inside.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip_command(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Sets a setting of its network (sysctl), such as `net/ipv4/ip_forward`.
    ///
    /// # Panics
    /// When there is no such setting.
    pub fn set(&self, setting: &str, value: &'static str) {
        let file = format!("/proc/sys/{setting}");
        let write =
            move || std::fs::write(&file, value).map_err(|error| format!("{file}: {error}"));
        self.run(User::Root, write).join().expect("no panic").expect("there is such a setting");
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

    /// A program inside the pod as root, with the privileges of whoever runs the test.
    #[must_use]
    pub fn root_program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Adds a further address to the pod, of either family.
    pub fn add_address(&self, address: IpAddr) {
        let (family, prefix) = if address.is_ipv4() { ("-4", 32) } else { ("-6", 128) };
        let nodad = if address.is_ipv4() { "" } else { " nodad" };
        self.ip_command(&format!("{family} addr add {address}/{prefix} dev eth0{nodad}"));
    }

    /// Loads a file of nftables rules inside the pod, in one transaction.
    ///
    /// # Panics
    /// When the rules are refused.
    pub fn nft(&self, rules: &str) {
        let mut command = self.root_program("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped());
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

/// Removes the namespaces of tests that were killed: their names say which process made them.
pub(crate) fn remove_leftovers() {
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

pub(crate) fn ip(arguments: &str) {
    check(Command::new("ip").args(arguments.split(' ')));
}

fn check(command: &mut Command) -> Output {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

//! Connections of which it is not known yet what they are: when the application is dialled for them, what they are
//! counted as, and how long they keep their place.

use std::{
    cell::Cell,
    io::Read,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Socket as System, Type};
use tokio::sync::Notify;

use super::{
    limits::{limited_within, narrow},
    scene::*,
    *,
};
use crate::policy::rate_limit::{Key, Rate, RateLimit, RateLimits, Settings};

const IMPATIENT: &[&str] = &["--header-timeout=100ms"];

fn permissive(protocol: Protocol, port: InboundPort) -> InboundPort {
    InboundPort { strict: false, protocol, ..port }
}

fn renamed(port: &InboundPort) -> InboundPort {
    InboundPort { label: "shop/basket:80".into(), ..port.clone() }
}

async fn pause(millis: u64) {
    // The pause is what is tested.
    clock::sleep(Duration::from_millis(millis)).await;
}

/// An application that greets each connection when it is told to, and sends back what it gets.
struct Greeter {
    address: SocketAddr,
    greet: Rc<Notify>,
    dialled: Rc<Cell<usize>>,
}

impl Greeter {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (greet, dialled) = (Rc::<Notify>::default(), Rc::<Cell<usize>>::default());
        let greeter = Self { address, greet: greet.clone(), dialled: dialled.clone() };
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                dialled.set(dialled.get() + 1);
                let greet = greet.clone();
                tokio::task::spawn_local(async move {
                    greet.notified().await;
                    let _ = stream.write_all(b"hello\r\n").await;
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        greeter
    }
}

/// An application whose line of connections is full until it accepts them.
struct Busy {
    listener: System,
    address: SocketAddr,
    full: Vec<System>,
}

impl Busy {
    fn start() -> Self {
        let new = || System::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = new();
        listener.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("a free port");
        listener.listen(0).expect("listens");
        let address = listener.local_addr().expect("bound");
        let mut full = Vec::new();
        loop {
            let further = new();
            if further.connect_timeout(&address, Duration::from_millis(50)).is_err() {
                let address = address.as_socket().expect("an address");
                return Self { listener, address, full };
            }
            full.push(further);
        }
    }

    /// What comes on each connection until its end.
    fn accept(self) -> Arc<Mutex<Vec<u8>>> {
        let Self { listener, full, .. } = self;
        drop(full);
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let all = received.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                all.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            }
        });
        received
    }
}

#[test]
fn who_half_closes_while_the_application_is_dialled_is_heard() {
    let test = async {
        let busy = Busy::start();
        let limits = limited_within(Protocol::Unspecified, 5, Box::new([]));
        let port = permissive(Protocol::Unspecified, limits);
        let scene = Scene::before(busy.address, port, &[]).await;
        let mut client = scene.stranger().await;
        pause(50).await;
        client.send("*1\r\n").await;
        client.0.shutdown().await.expect("half-closed");
        pause(50).await;
        let received = busy.accept();
        until("the bytes", || {
            *received.lock().unwrap_or_else(PoisonError::into_inner) == b"*1\r\n"
        })
        .await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn who_may_not_come_any_more_is_told_while_the_application_is_dialled() {
    let test = async {
        let busy = Busy::start();
        let policy = InboundPort::plain(Protocol::Tcp, "shop/cart:80".into());
        let scene = Scene::before(busy.address, policy, &[]).await;
        let mut client = scene.web(Alpn::Tcp).await;
        client.send("*1\r\n").await;
        pause(50).await;
        scene.change(port(Protocol::Tcp, Vec::new(), true));
        assert_eq!(client.rest().await, "");
        scene.refused(Reason::AuthzDenied, 1).await;
        let _application = busy;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn who_says_nothing_and_hears_nothing_does_not_keep_its_place() {
    let test = async {
        for protocol in [Protocol::Unspecified, Protocol::Tcp] {
            let scene = Scene::under(permissive(protocol, narrow(1, 1)), IMPATIENT).await;
            let mut silent = scene.stranger().await;
            until("the application to be dialled", || scene.app.saw("connection") == 1).await;
            let mut next = scene.web(Alpn::Tcp).await;
            next.send("*1\r\n").await;
            next.reads("*1\r\n").await;
            let end = soon("the end", silent.0.read(&mut [0; 1])).await;
            assert_eq!(end.is_ok_and(|count| count == 0), protocol == Protocol::Unspecified);
            scene.refused(Reason::HeaderTimeout, 1).await;
            assert_eq!(scene.metric("weft_concurrency_waiting", &[]), 0);
        }
        // Nor who has only ended its side, where the application goes on.
        let greeter = Greeter::start().await;
        let port = permissive(Protocol::Tcp, narrow(1, 1));
        let scene = Scene::before(greeter.address, port, IMPATIENT).await;
        let mut silent = scene.stranger().await;
        until("the application to be dialled", || greeter.dialled.get() == 1).await;
        silent.0.shutdown().await.expect("half-closed");
        assert_eq!(silent.rest().await, "");
        scene.refused(Reason::HeaderTimeout, 1).await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn whoever_has_spoken_once_may_be_silent_for_long() {
    let test = async {
        for protocol in [Protocol::Unspecified, Protocol::Tcp] {
            let greeter = Greeter::start().await;
            let port = permissive(protocol, narrow(9, 1));
            let scene = Scene::before(greeter.address, port, IMPATIENT).await;
            let mut greeted = scene.stranger().await;
            until("the application to be dialled", || greeter.dialled.get() == 1).await;
            greeter.greet.notify_one();
            greeted.reads("hello\r\n").await;
            let mut spoken = scene.stranger().await;
            spoken.send("*1\r\n").await;
            until("the application to be dialled", || greeter.dialled.get() == 2).await;
            pause(300).await;
            greeter.greet.notify_one();
            spoken.reads("hello\r\n*1\r\n").await;
            greeted.send("*2\r\n").await;
            greeted.reads("*2\r\n").await;
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_verified_caller_may_keep_connections_to_a_declared_port_ready() {
    let test = async {
        let port = InboundPort { protocol: Protocol::Tcp, ..narrow(1, 1) };
        let scene = Scene::under(port, IMPATIENT).await;
        let mut ready = scene.web(Alpn::Tcp).await;
        until("the application to be dialled", || scene.app.saw("connection") == 1).await;
        pause(300).await;
        ready.send("*1\r\n").await;
        ready.reads("*1\r\n").await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_change_of_policy_that_does_not_matter_to_a_silent_client_costs_it_nothing() {
    let test = async {
        let limits = [|| limited_within(Protocol::Unspecified, 1, Box::new([])), || narrow(1, 0)];
        for limits in limits {
            for is_greeted in [false, true] {
                let policy = permissive(Protocol::Unspecified, limits());
                let greeter = Greeter::start().await;
                let scene = Scene::before(greeter.address, policy.clone(), &[]).await;
                let mut client = scene.stranger().await;
                until("the application to be dialled", || greeter.dialled.get() == 1).await;
                scene.change(renamed(&policy));
                pause(20).await;
                if !is_greeted {
                    client.send("*1\r\n").await;
                    pause(20).await;
                }
                greeter.greet.notify_one();
                client.reads("hello\r\n").await;
                if is_greeted {
                    client.send("*1\r\n").await;
                }
                client.reads("*1\r\n").await;
                assert_eq!(greeter.dialled.get(), 1);
            }
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn what_was_dialled_for_a_silent_client_is_let_go_when_its_port_must_be_http() {
    let test = async {
        let greeter = Greeter::start().await;
        let policy = permissive(Protocol::Unspecified, narrow(1, 0));
        let scene = Scene::before(greeter.address, policy.clone(), &[]).await;
        let mut client = scene.stranger().await;
        until("the application to be dialled", || greeter.dialled.get() == 1).await;
        scene.change(InboundPort { protocol: Protocol::Http1, ..policy.clone() });
        greeter.greet.notify_one();
        let gate = policy.concurrency.as_ref().map(|limit| &limit.gate).expect("set");
        until("its place to be free", || gate.out() == 0).await;
        client.send("*1\r\n").await;
        assert_eq!(client.rest().await, "");
        scene.refused(Reason::ProtocolMismatch, 1).await;
    };
    worker::run(test).expect("a runtime");
}

fn limit(policy: &str) -> Arc<RateLimit> {
    const HOUR: u64 = 3_600_000_000_000;
    RateLimit::new(Settings {
        policy: policy.into(),
        rate: Rate::new(1, HOUR, 1).expect("not zero"),
        operations: Box::new([]),
        key: Key::All,
    })
}

#[test]
fn of_limits_that_change_while_a_client_is_silent_those_count_it_that_are_new() {
    let test = async {
        let (old, new) = (limit("old"), limit("new"));
        let under = |limits: &[&Arc<RateLimit>], concurrency| {
            let rate_limits =
                RateLimits::new(limits.iter().map(|limit| Arc::clone(limit)).collect());
            let port = InboundPort::plain(Protocol::Unspecified, "shop/cart:80".into());
            permissive(Protocol::Unspecified, InboundPort { rate_limits, concurrency, ..port })
        };
        let scene = Scene::with(under(&[&old], None)).await;
        let mut client = scene.stranger().await;
        until("the application to be dialled", || scene.app.saw("connection") == 1).await;
        let concurrency = narrow(2, 0).concurrency;
        scene.change(under(&[&old, &new], concurrency.clone()));
        client.send("*1\r\n").await;
        client.reads("*1\r\n").await;
        assert_eq!(concurrency.as_ref().map(|limit| limit.gate.out()), Some(1));

        scene.change(under(&[&new], concurrency.clone()));
        let mut other = scene.stranger().await;
        other.send("*1\r\n").await;
        assert_eq!(other.rest().await, "");
        scene.refused(Reason::RateLimited, 1).await;
        assert_eq!(scene.app.saw("connection"), 1);
        drop(client);
        until("its place to be free", || concurrency.as_ref().is_some_and(|it| it.gate.out() == 0))
            .await;
    };
    worker::run(test).expect("a runtime");
}

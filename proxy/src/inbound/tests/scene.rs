//! What the tests of policies share: a sidecar in front of an application that keeps what it gets, and clients.

use std::{cell::RefCell, time::Duration};

use bytes::BytesMut;
use tokio::sync::Notify;

use super::*;
use crate::policy::{
    authz::{Access, Caller, Effect, Fallback, IdentityMatch, Rule as AccessRule},
    operation::{Operation, PathMatch},
};

/// Answers each request with "hi", those to `/hold` when it is told to, `/upgrade` with 101; `/stream` begins at once, and
/// ends when it is told to. Bytes that are no HTTP it sends back.
pub(super) struct App {
    pub(super) address: SocketAddr,
    seen: Rc<RefCell<Vec<String>>>,
    release: Rc<Notify>,
}

impl App {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (seen, release) = (Rc::<RefCell<Vec<String>>>::default(), Rc::<Notify>::default());
        let app = Self { address, seen: seen.clone(), release: release.clone() };
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.borrow_mut().push("connection".to_owned());
                tokio::task::spawn_local(Self::serve(stream, seen.clone(), release.clone()));
            }
        });
        app
    }

    async fn serve(
        mut stream: net::TcpStream,
        seen: Rc<RefCell<Vec<String>>>,
        release: Rc<Notify>,
    ) {
        let mut received = BytesMut::new();
        while stream.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&received).into_owned();
            let line = text.lines().next().unwrap_or_default().to_owned();
            if !line.contains(" HTTP/1.1") {
                let _ = stream.write_all(&received.split()).await;
                continue;
            }
            if !text.contains("\r\n\r\n") {
                continue;
            }
            received.clear();
            seen.borrow_mut().push(line.clone());
            if line.contains("/stream") {
                let begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
                let _ = stream.write_all(begin).await;
                release.notified().await;
                let _ = stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await;
                continue;
            }
            if line.contains("/hold") {
                release.notified().await;
            }
            let answer = match line.contains("/upgrade") {
                true => Self::switched(&text),
                false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    /// The response to an upgrade; to `/upgrade/deaf` one that has not heard the key.
    fn switched(request: &str) -> String {
        let mut answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                .to_owned();
        let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        if let Some(key) = key.filter(|_| !request.contains("/upgrade/deaf")) {
            let accept = h2::websocket_accept(&key.parse().expect("a value"));
            answer.push_str(&format!("Sec-WebSocket-Accept: {accept}\r\n"));
        }
        answer + "\r\n"
    }

    /// How many requests came whose line contains this.
    pub(super) fn saw(&self, text: &str) -> usize {
        self.seen.borrow().iter().filter(|line| line.contains(text)).count()
    }

    /// Lets one request to `/hold` or `/stream` go on.
    pub(super) fn release(&self) {
        self.release.notify_one();
    }
}

/// A sidecar in front of an application.
pub(super) struct Scene {
    pub(super) app: App,
    pub(super) sidecar: Sidecar,
}

impl Scene {
    /// The application's port has this policy.
    pub(super) async fn with(port: InboundPort) -> Self {
        Self::under(port, &[]).await
    }

    /// The same, of a sidecar with these flags.
    pub(super) async fn under(port: InboundPort, flags: &[&str]) -> Self {
        Self::of(App::start().await, port, flags)
    }

    /// The same, in front of another application than [`App`].
    pub(super) async fn before(address: SocketAddr, port: InboundPort, flags: &[&str]) -> Self {
        Self::of(App { address, ..App::start().await }, port, flags)
    }

    fn of(app: App, port: InboundPort, flags: &[&str]) -> Self {
        let sidecar = Sidecar::with(Self::ports(&app, port), flags);
        Self { app, sidecar }
    }

    fn ports(app: &App, port: InboundPort) -> InboundPorts {
        let number = Port::new(app.address.port()).expect("bound");
        InboundPorts { ports: [(number, port)].into(), others: None }
    }

    /// The port's policy is another from now on.
    pub(super) fn change(&self, port: InboundPort) {
        self.sidecar.directory.pin_inbound(Self::ports(&self.app, port));
    }

    /// A connection of `web`, verified.
    pub(super) async fn web(&self, alpn: Alpn) -> Client {
        let (address, port) = (self.app.address, self.app.address.port());
        Client(self.sidecar.secured_for(Some(address), port, alpn).await)
    }

    /// An HTTP/2 connection of `web`.
    pub(super) async fn http2(&self) -> ::h2::client::SendRequest<bytes::Bytes> {
        let socket = self.web(Alpn::Http2).await.0;
        let (client, connection) = ::h2::client::handshake(socket).await.expect("HTTP/2");
        tokio::task::spawn_local(async move { drop(connection.await) });
        client
    }

    /// A connection of somebody who shows no identity.
    pub(super) async fn stranger(&self) -> Client {
        Client(self.sidecar.connect(Some(self.app.address)).await)
    }

    /// What web gets for one GET of this path.
    pub(super) async fn get(&self, path: &str) -> String {
        self.web(Alpn::Http1).await.get(path).await
    }

    /// The value of a metric with these labels; zero when there is none.
    pub(super) fn metric(&self, name: &str, labels: &[&str]) -> u32 {
        let text = self.sidecar.metrics.text();
        let is_it =
            |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        let values = text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<u32>().ok()).sum()
    }

    /// Waits until so many connections were refused or ended for this reason.
    pub(super) async fn refused(&self, reason: Reason, count: u32) {
        until("connections to be refused", || self.sidecar.refused(reason) >= count).await;
        assert_eq!(self.sidecar.refused(reason), count, "{reason}");
    }
}

/// A client's connection.
pub(super) struct Client(pub(super) Socket);

impl Client {
    pub(super) async fn send(&mut self, bytes: &str) {
        let _ = self.0.write_all(bytes.as_bytes()).await;
        let _ = self.0.flush().await;
    }

    /// One whole response; empty when the connection ended before.
    pub(super) async fn answer(&mut self) -> String {
        soon("an answer", self.whole()).await
    }

    async fn whole(&mut self) -> String {
        let mut received = String::new();
        loop {
            if let Some((head, body)) = received.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                if body.len() >= length.unwrap_or(0) {
                    return received;
                }
            }
            match self.0.read_u8().await {
                Ok(byte) => received.push(char::from(byte)),
                Err(_) => return String::new(),
            }
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: cart\r\n\r\n")).await;
        self.answer().await
    }

    /// What comes next is this.
    pub(super) async fn reads(&mut self, expected: &str) {
        let mut received = vec![0; expected.len()];
        let read = soon(expected, self.0.read_exact(&mut received)).await;
        read.expect("the connection is open");
        assert_eq!(String::from_utf8_lossy(&received), expected);
    }

    /// All that still comes until the connection ends.
    pub(super) async fn rest(&mut self) -> String {
        let mut received = Vec::new();
        let _ = soon("the connection's end", self.0.read_to_end(&mut received)).await;
        String::from_utf8_lossy(&received).into_owned()
    }
}

/// Waits for something that comes.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = clock::timeout(Duration::from_secs(20), future).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Waits for a condition.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            // What is written leaves when the worker parks.
            clock::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(clock::timeout(Duration::from_secs(20), wait).await.is_ok(), "waited for {what}");
}

/// A rule about everybody and everything.
pub(super) fn rule(effect: Effect) -> AccessRule {
    AccessRule {
        policy: "AccessPolicy shop/cart rules[0]".into(),
        effect,
        audit: false,
        callers: Box::new([]),
        operations: Box::new([]),
    }
}

/// Requests whose path begins so.
pub(super) fn within(path: &str) -> Box<[Operation]> {
    let paths: Box<[PathMatch]> = Box::new([PathMatch::Prefix(path.into())]);
    Box::new([Operation { paths, ..Operation::default() }])
}

/// The service account of this name, or the beginning of several.
pub(super) fn account(name: &str) -> Box<[Caller]> {
    let identity = match name.strip_suffix('*') {
        Some(prefix) => {
            IdentityMatch::Prefix(format!("spiffe://weft.local/ns/shop/sa/{prefix}").into())
        }
        None => IdentityMatch::Exact(spiffe_id(name)),
    };
    Box::new([Caller {
        identities: Box::new([identity]),
        namespaces: Box::new([]),
        ranges: Box::new([]),
    }])
}

/// A strict port with these rules.
pub(super) fn port(protocol: Protocol, rules: Vec<AccessRule>, deny: bool) -> InboundPort {
    let fallback = || Fallback { deny, policy: if deny { "MeshConfig mesh" } else { "" }.into() };
    let access = Access::new(rules, fallback(), fallback());
    InboundPort {
        access: Some(Arc::new(access)),
        ..InboundPort::plain(protocol, "shop/cart:80".into())
    }
}

//! A DNS server for tests, over UDP: it says what the test says.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::UdpSocket, task::JoinSet};

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER: usize = 12;

/// A DNS server, stopped when dropped.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    /// By name: the addresses, and for how many seconds they hold.
    names: Mutex<HashMap<String, (Vec<IpAddr>, u32)>>,
    broken: Mutex<bool>,
    asked: AtomicUsize,
}

impl FakeDns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let (address, zone) = (socket.local_addr().expect("bound"), Arc::<Zone>::default());
        let mut serving = JoinSet::new();
        serving.spawn(serve(socket, Arc::clone(&zone)));
        Self { address, zone, _serving: serving }
    }

    /// Says what a name stands for from now on, for so many seconds.
    pub(crate) fn says(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
        self.zone.names.lock().expect("no panic").insert(name.to_owned(), (addresses, ttl));
    }

    /// Fails each question from now on, or no longer.
    pub(crate) fn is_broken(&self, broken: bool) {
        *self.zone.broken.lock().expect("no panic") = broken;
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.zone.asked.load(Ordering::SeqCst)
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Zone>) {
    let mut buffer = [0; 1500];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.expect("a socket");
        let answer = zone.answer(&buffer[..length]);
        socket.send_to(&answer, client).await.expect("a socket");
        zone.asked.fetch_add(1, Ordering::SeqCst);
    }
}

impl Zone {
    /// The response (RFC 1035 4.1) to a query with one question.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let (name, end) = name_at(query, HEADER);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        let names = self.names.lock().expect("no panic");
        let (code, records) = match names.get(&name) {
            _ if *self.broken.lock().expect("no panic") => (2, vec![]),
            None => (3, vec![]),
            Some((addresses, ttl)) => {
                let wanted = |ip: &&IpAddr| match kind {
                    TYPE_A => ip.is_ipv4(),
                    TYPE_AAAA => ip.is_ipv6(),
                    _ => false,
                };
                (0, addresses.iter().filter(wanted).map(|ip| record(kind, *ttl, *ip)).collect())
            }
        };
        let count = u8::try_from(records.len()).expect("few");
        let mut answer = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        answer.extend(&query[HEADER..end + 4]);
        answer.extend(records.concat());
        answer
    }
}

/// The name at an offset, in lower case, and where it ends.
fn name_at(query: &[u8], mut offset: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while query[offset] != 0 {
        let length = usize::from(query[offset]);
        labels.push(String::from_utf8_lossy(&query[offset + 1..=offset + length]).to_lowercase());
        offset += 1 + length;
    }
    (labels.join("."), offset + 1)
}

fn record(kind: u16, ttl: u32, ip: IpAddr) -> Vec<u8> {
    let data = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // The name is the question's; the class is IN.
    let mut record = vec![0xC0, 0x0C];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend([0, u8::try_from(data.len()).expect("short")]);
    record.extend(data);
    record
}

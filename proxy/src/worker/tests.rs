//! Workers start, serve one port together, drain, and stop.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    drain::{self, Drain},
    io::Socket,
    net,
    tasks::Tasks,
};

const SOON: Duration = Duration::from_secs(10);

/// Echoes on every connection until drained.
async fn echo(drain: Drain, binding: net::Binding, served: Arc<AtomicUsize>) {
    let listener = binding.listen().await.expect("listen");
    let tasks = Tasks::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let socket = Socket::new(accepted.expect("accept").0);
                let served = Arc::clone(&served);
                tasks.spawn(async move {
                    served.fetch_add(1, Ordering::SeqCst);
                    let mut buffer = BytesMut::new();
                    while std::future::poll_fn(|cx| socket.poll_fill(cx, &mut buffer)).await.expect("read") > 0 {
                        assert_ne!(&buffer[..], b"panic", "as the client wants");
                        socket.write_bytes(buffer.split().freeze()).expect("open");
                    }
                });
            }
            () = drain.started() => break,
        }
    }
    drop(listener);
    tasks.drain(clock::now() + SOON).await;
}

fn start(count: usize, drain: &Drain) -> (Workers, std::net::SocketAddr, Arc<AtomicUsize>) {
    let bindings = net::bind((Ipv4Addr::LOCALHOST, 0).into(), count).expect("bind");
    let address = bindings[0].address();
    let bindings = Mutex::new(bindings);
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&served);
    let drain = drain.clone();
    let workers = Workers::start(count, move |_| {
        let binding = bindings.lock().expect("no panic").pop().expect("one each");
        echo(drain.clone(), binding, Arc::clone(&counted))
    });
    (workers.expect("started"), address, served)
}

async fn client(address: std::net::SocketAddr) -> tokio::net::TcpStream {
    tokio::net::TcpStream::connect(address).await.expect("connect")
}

async fn echoes(client: &mut tokio::net::TcpStream) {
    client.write_all(b"ping").await.expect("write");
    let mut answer = [0; 4];
    clock::timeout(SOON, client.read_exact(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn workers_share_a_port_and_drain() {
    let (trigger, drain) = drain::channel();
    let (workers, address, served) = start(3, &drain);
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = client(address).await;
        echoes(&mut client).await;
        clients.push(client);
    }
    assert_eq!(served.load(Ordering::SeqCst), 20);

    trigger.start();
    let finish = tokio::spawn(workers.finish(SOON));
    // No new connection is taken, and the open ones are still served until they close.
    clock::timeout(SOON, async { while tokio::net::TcpStream::connect(address).await.is_ok() {} })
        .await
        .expect("in time");
    for client in &mut clients {
        echoes(client).await;
    }
    assert!(!finish.is_finished());
    drop(clients);
    assert!(clock::timeout(SOON, finish).await.expect("in time").expect("no panic"));
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let (trigger, drain) = drain::channel();
    let (workers, address, _) = start(1, &drain);
    let mut client = client(address).await;
    echoes(&mut client).await;
    trigger.start();
    assert!(!workers.finish(Duration::from_millis(20)).await);
    let mut rest = Vec::new();
    let end = clock::timeout(SOON, client.read_to_end(&mut rest)).await.expect("in time");
    assert!(end.is_err() || rest.is_empty());
}

#[tokio::test]
async fn a_panic_in_a_connection_leaves_the_others() {
    let (trigger, drain) = drain::channel();
    let (workers, address, _) = start(1, &drain);
    let mut other = client(address).await;
    echoes(&mut other).await;
    let mut broken = client(address).await;
    broken.write_all(b"panic").await.expect("write");
    let mut rest = Vec::new();
    clock::timeout(SOON, broken.read_to_end(&mut rest)).await.expect("in time").expect("read");
    assert_eq!(rest, b"");
    echoes(&mut other).await;
    drop(other);
    trigger.start();
    assert!(workers.finish(SOON).await);
}

#[tokio::test]
async fn a_worker_that_ends_is_noticed() {
    for panics in [true, false] {
        let mut workers = Workers::start(2, move |worker| async move {
            if worker.index == 0 {
                assert!(!panics, "on purpose");
            } else {
                std::future::pending::<()>().await;
            }
        })
        .expect("started");
        clock::timeout(SOON, workers.ended()).await.expect("in time");
    }
}

#[test]
fn a_port_that_is_taken_is_refused_for_any_number_of_workers() {
    for count in [1, 3] {
        let bindings = net::bind((Ipv4Addr::LOCALHOST, 0).into(), count).expect("bind");
        assert!(bindings.iter().all(|binding| binding.address() == bindings[0].address()));
        for second in [1, 3] {
            let error = net::bind(bindings[0].address(), second).expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}

#[tokio::test]
async fn the_last_answer_of_a_worker_that_ends_arrives() {
    let bindings = net::bind((Ipv4Addr::LOCALHOST, 0).into(), 1).expect("bind");
    let address = bindings[0].address();
    let bindings = Mutex::new(bindings.into_iter());
    let workers = Workers::start(1, move |_| {
        let binding = bindings.lock().expect("no panic").next().expect("one worker");
        async move {
            let listener = binding.listen().await.expect("listen");
            let socket = Socket::new(listener.accept().await.expect("accept").0);
            let mut buffer = BytesMut::new();
            std::future::poll_fn(|cx| socket.poll_fill(cx, &mut buffer)).await.expect("read");
            socket.write(&[b'x'; 3_000_000]).expect("open");
            // Here the worker ends, with bytes unsent and bytes unread.
        }
    })
    .expect("started");
    let mut client = client(address).await;
    client.write_all(&vec![b'y'; 8_000_000]).await.expect("write");
    let mut answer = Vec::new();
    clock::timeout(SOON, client.read_to_end(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(answer.len(), 3_000_000);
    drop(client);
    assert!(workers.finish(SOON).await);
}

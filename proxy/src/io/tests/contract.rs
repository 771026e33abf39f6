//! What a socket promises, line by line as `io.rs` says it; plain TCP, mostly.

use std::{
    io::{ErrorKind, Read, Write},
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
    thread,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{super::LINGER, *};

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Alarm {
    fn rang(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    fn poll<T>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }
}

/// Writes far more than narrow kernel buffers take; returns what was written.
fn stuff(socket: &Socket) -> Vec<u8> {
    let written = pattern(1_000_000);
    for piece in written.chunks(10_007) {
        socket.write(piece).expect("open");
    }
    written
}

/// Both kinds of thread: with a park hook and without.
fn everywhere<F: Future>(test: impl Fn() -> F) {
    worker(test());
    plain(test());
}

#[test]
fn above_high_water_every_waiting_task_is_woken_when_there_is_room() {
    everywhere(|| async {
        let (socket, mut peer) = narrow().await;
        let written = stuff(&socket);
        let alarms: Vec<Arc<Alarm>> = (0..3).map(|_| Arc::default()).collect();
        for alarm in &alarms {
            for _ in 0..2 {
                assert!(alarm.poll(|cx| socket.poll_writable(cx)).is_pending());
            }
        }
        assert!(!alarms.iter().any(|alarm| alarm.rang()));
        let size = written.len();
        let reader = thread::spawn(move || {
            let mut received = vec![0; size];
            peer.read_exact(&mut received).expect("read");
            received
        });
        settle(|| alarms.iter().all(|alarm| alarm.rang())).await;
        assert!(once(|cx| socket.poll_writable(cx)).is_ready());
        settle(|| socket.written_to_kernel() == socket.written()).await;
        assert!(reader.join().expect("no panic") == written);
    });
}

#[test]
fn a_blocked_socket_goes_on_by_itself() {
    everywhere(|| async {
        let mut peers = Vec::new();
        for _ in 0..20 {
            let (socket, peer) = narrow().await;
            let written = stuff(&socket);
            peers.push((socket, peer, written));
        }
        assert_eq!(driver::count(), 20);
        for (socket, mut peer, written) in peers {
            let reader = thread::spawn(move || {
                let mut received = vec![0; written.len()];
                peer.read_exact(&mut received).expect("read");
                assert!(received == written);
            });
            // Nobody polls the socket meanwhile.
            settle(|| socket.written_to_kernel() == socket.written()).await;
            reader.join().expect("no panic");
        }
        settle(|| driver::count() == 0).await;
    });
}

#[test]
fn a_shutdown_drains_and_then_half_closes() {
    everywhere(|| async {
        let (socket, mut peer) = narrow().await;
        let written = stuff(&socket);
        let alarm = Arc::new(Alarm::default());
        assert!(alarm.poll(|cx| socket.poll_shutdown(cx)).is_pending());
        assert_eq!(socket.write(b"late").expect_err("shut").kind(), ErrorKind::BrokenPipe);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).expect("read to the end");
            peer.write_all(b"answer").expect("the other way is open");
            (peer, received)
        });
        shut(&socket).await.expect("drained");
        shut(&socket).await.expect("again");
        assert!(alarm.rang());
        assert_eq!(&fill_to(&socket, 6).await[..], b"answer");
        let (peer, received) = reader.join().expect("no panic");
        assert!(received == written);
        drop(peer);
        assert_eq!(fill(&socket, &mut BytesMut::new()).await.expect("an end"), 0);
    });
}

#[test]
fn what_was_written_before_the_last_handle_was_dropped_arrives() {
    everywhere(|| async {
        let (socket, mut peer) = narrow().await;
        let written = stuff(&socket);
        let other = socket.clone();
        drop(socket);
        other.write(b"GOAWAY").expect("a handle is left");
        drop(other);
        assert_eq!(driver::count(), 1);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).expect("read to the end");
            received
        });
        settle(|| driver::count() == 0).await;
        let received = reader.join().expect("no panic");
        assert!(received.strip_suffix(b"GOAWAY") == Some(&written));
    });
}

#[test]
fn an_answer_is_not_overtaken_by_a_reset_when_the_peer_still_sends() {
    everywhere(|| async {
        let (socket, peer) = pair().await;
        peer.write(&pattern(100_000)).expect("open");
        fill_to(&socket, 10).await;
        socket.write(b"413").expect("open");
        shut(&socket).await.expect("drained");
        drop(socket);
        // Bytes that nobody will read keep coming.
        for _ in 0..20 {
            peer.write(&pattern(100_000)).expect("not reset");
            tokio::task::yield_now().await;
        }
        assert_eq!(&fill_to(&peer, 3).await[..], b"413");
        assert_eq!(fill(&peer, &mut BytesMut::new()).await.expect("an end"), 0);
        drop(peer);
        settle(|| driver::count() == 0).await;
    });
}

#[test]
fn lingering_is_bounded() {
    everywhere(|| async {
        let (socket, peer) = narrow().await;
        stuff(&socket);
        drop(socket);
        assert_eq!(driver::count(), 1);
        // With nothing else to do, paused time runs on to the next timer.
        tokio::time::pause();
        let begin = clock::now();
        clock::sleep(LINGER + std::time::Duration::from_millis(50)).await;
        assert!(begin.elapsed() < LINGER * 2);
        assert_eq!(driver::count(), 0);
        drop(peer);
    });
}

#[test]
fn a_write_error_is_sticky_and_wakes_the_reader() {
    everywhere(|| async {
        let (socket, peer) = pair().await;
        let alarm = Arc::new(Alarm::default());
        let mut buffer = BytesMut::new();
        assert!(alarm.poll(|cx| socket.poll_fill(cx, &mut buffer)).is_pending());
        peer.abort();
        settle(|| socket.write(b"into the void").is_err()).await;
        assert!(alarm.rang());
        for _ in 0..2 {
            assert!(fill(&socket, &mut buffer).await.is_err());
            assert!(socket.write(b"more").is_err());
            assert!(matches!(once(|cx| socket.poll_writable(cx)), Poll::Ready(Err(_))));
            assert!(shut(&socket).await.is_err());
        }
    });
}

#[test]
fn what_the_peer_sent_before_it_closed_is_read_before_the_error() {
    everywhere(|| async {
        let (socket, peer) = streams().await;
        let socket = Socket::new(socket);
        let mut peer = peer.into_std().expect("std");
        peer.write_all(b"413").expect("write");
        socket.write(b"a body").expect("open");
        socket.flush_now();
        // It closes with unread bytes: a reset.
        drop(peer);
        settle(|| socket.write(b"goes on").is_err()).await;
        assert_eq!(&fill_to(&socket, 3).await[..], b"413");
        assert!(fill(&socket, &mut BytesMut::new()).await.is_err());
    });
}

#[test]
fn an_abort_is_a_reset() {
    everywhere(|| async {
        let (socket, peer) = pair().await;
        socket.write(b"never sent").expect("open");
        let other = socket.clone();
        let alarm = Arc::new(Alarm::default());
        assert!(alarm.poll(|cx| other.poll_fill(cx, &mut BytesMut::new())).is_pending());
        socket.abort();
        assert!(alarm.rang());
        assert!(other.write(b"more").is_err());
        let mut rest = BytesMut::new();
        let error = loop {
            match fill(&peer, &mut rest).await {
                Ok(count) => assert_ne!(count, 0, "a clean end"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_peers_end_is_seen_without_losing_bytes() {
    everywhere(|| async {
        let (socket, peer) = pair().await;
        let alarm = Arc::new(Alarm::default());
        assert!(alarm.poll(|cx| socket.poll_peer_gone(cx)).is_pending());
        peer.write(b"pipelined").expect("open");
        settle(|| alarm.rang()).await;
        assert!(alarm.poll(|cx| socket.poll_peer_gone(cx)).is_pending());
        assert!(once(|cx| socket.poll_disturbed(cx)).is_ready());
        drop(peer);
        soon(poll_fn(|cx| socket.poll_peer_gone(cx))).await;
        soon(poll_fn(|cx| socket.poll_peer_gone(cx))).await;
        assert_eq!(&fill_to(&socket, 9).await[..], b"pipelined");
        assert_eq!(fill(&socket, &mut BytesMut::new()).await.expect("an end"), 0);
    });
}

#[test]
fn an_idle_connection_is_disturbed_by_anything() {
    everywhere(|| async {
        let acts: [fn(&mut Option<Socket>); 3] = [
            |peer| peer.as_ref().expect("there").write(b"408").expect("open"),
            |peer| drop(peer.take()),
            |peer| peer.as_ref().expect("there").abort(),
        ];
        for act in acts {
            let (socket, peer) = pair().await;
            assert!(once(|cx| socket.poll_disturbed(cx)).is_pending());
            let mut peer = Some(peer);
            act(&mut peer);
            soon(poll_fn(|cx| socket.poll_disturbed(cx))).await;
        }
    });
}

#[test]
fn what_is_put_back_is_read_first() {
    everywhere(|| async {
        let (socket, peer) = pair().await;
        peer.write(b"cd").expect("open");
        let seen = fill_to(&socket, 2).await;
        socket.unread(seen.freeze());
        socket.unread(Bytes::from_static(b"ab"));
        peer.write(b"ef").expect("open");
        let mut byte = [0; 3];
        let mut reader = socket.clone();
        soon(reader.read_exact(&mut byte)).await.expect("read");
        assert_eq!(&byte, b"abc");
        assert_eq!(&fill_to(&socket, 3).await[..], b"def");
    });
}

#[test]
fn the_count_of_bytes_in_the_kernel_never_errs_downwards() {
    worker(async {
        let configs = configs();
        let (near, far) = narrow_tls(&configs).await;
        let mut sizes = Vec::new();
        while once(|cx| near.poll_writable(cx)).is_ready() {
            near.write(&pattern(30_000)).expect("open");
            near.flush_now();
            sizes.push((near.written(), near.written_to_kernel()));
        }
        assert!(sizes.iter().all(|(written, sent)| sent <= written));
        // Whatever the far end has got is counted.
        let mut buffer = BytesMut::new();
        while buffer.len() < usize::try_from(near.written()).expect("small") {
            fill(&far, &mut buffer).await.expect("read");
            assert!(near.written_to_kernel() >= buffer.len() as u64);
        }
        assert_eq!(near.written_to_kernel(), near.written());
    });
}

/// A TLS connection whose kernel buffers are small.
async fn narrow_tls(configs: &Configs) -> (Socket, Socket) {
    let (near, far) = streams().await;
    for stream in [&near, &far] {
        socket2::SockRef::from(stream).set_send_buffer_size(NARROW).expect("set");
        socket2::SockRef::from(stream).set_recv_buffer_size(NARROW).expect("set");
    }
    tls_over(configs, Socket::new(near), Socket::new(far)).await
}

#[test]
fn an_idle_socket_holds_no_buffer() {
    worker(async {
        let configs = configs();
        for (near, far) in [pair().await, tls_pair(&configs).await] {
            let mut buffers = [BytesMut::new(), BytesMut::new()];
            for size in [10, 300_000, 10] {
                near.write(&pattern(size)).expect("open");
                assert!(fill_to(&far, size).await == pattern(size));
                far.write(&pattern(size)).expect("open");
                assert!(fill_to(&near, size).await == pattern(size));
            }
            for (socket, buffer) in [&near, &far].into_iter().zip(&mut buffers) {
                buffer.reserve(100_000);
                assert!(once(|cx| socket.poll_fill(cx, buffer)).is_pending());
                assert_eq!(buffer.capacity(), 0);
                assert_eq!(socket.connection.buffered_capacity(), 0);
            }
        }
    });
}

#[test]
fn many_bytes_go_both_ways_at_once() {
    everywhere(|| async {
        let configs = configs();
        let size = 3_000_000;
        for (near, far) in [pair().await, tls_pair(&configs).await, narrow_tls(&configs).await] {
            soon(async {
                tokio::join!(
                    transfer(&near, size, 1_000),
                    transfer(&far, size, 70_000),
                    receive(&near, size),
                    receive(&far, size)
                )
            })
            .await;
        }
    });
}

async fn transfer(socket: &Socket, size: usize, step: usize) {
    let content = Bytes::from(pattern(size));
    for (index, begin) in (0..size).step_by(step).enumerate() {
        poll_fn(|cx| socket.poll_writable(cx)).await.expect("open");
        let piece = content.slice(begin..size.min(begin + step));
        // By turns copied, passed along, and through the trait.
        match index % 3 {
            0 => socket.write(&piece).expect("open"),
            1 => socket.write_bytes(piece).expect("open"),
            _ => socket.clone().write_all(&piece).await.expect("open"),
        }
    }
}

async fn receive(socket: &Socket, size: usize) {
    let expected = pattern(size);
    let mut received = 0;
    let mut buffer = BytesMut::new();
    let mut small = [0; 777];
    for index in 0.. {
        if received == size {
            return;
        }
        let chunk = if index % 2 == 0 {
            poll_fn(|cx| socket.poll_fill(cx, &mut buffer)).await.expect("read");
            buffer.split().freeze()
        } else {
            let count = socket.clone().read(&mut small).await.expect("read");
            Bytes::copy_from_slice(&small[..count])
        };
        assert!(!chunk.is_empty(), "ended at {received}");
        assert!(chunk == expected[received..received + chunk.len()], "at {received}");
        received += chunk.len();
    }
}

#[test]
fn hot_structures_stay_small() {
    // One connection's part of the memory that an idle one may take.
    assert_eq!(size_of::<Socket>(), size_of::<usize>());
    assert!(Socket::connection_size() <= 208, "{}", Socket::connection_size());
}

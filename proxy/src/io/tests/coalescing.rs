//! Many writes of a turn are one system call, and one TLS record.

use super::*;

/// What changed while `work` ran.
async fn counted(work: impl Future<Output = ()>) -> turn::Statistics {
    let before = turn::statistics();
    work.await;
    let after = turn::statistics();
    turn::Statistics {
        writes: after.writes - before.writes,
        written_bytes: after.written_bytes - before.written_bytes,
        reads: after.reads - before.reads,
        read_bytes: after.read_bytes - before.read_bytes,
        encryptions: after.encryptions - before.encryptions,
        turns: after.turns - before.turns,
        blocked: after.blocked - before.blocked,
    }
}

#[test]
fn the_writes_of_a_turn_are_one_system_call() {
    worker(async {
        let (near, far) = pair().await;
        let counts = counted(async {
            for _ in 0..100 {
                near.write(b"frame").expect("open");
            }
            assert_eq!(near.written_to_kernel(), 0);
            assert_eq!(&fill_to(&far, 500).await[..], b"frame".repeat(100));
        })
        .await;
        assert_eq!((counts.writes, counts.reads, counts.turns), (1, 1, 1));
        assert_eq!((near.written(), near.written_to_kernel()), (500, 500));
    });
}

#[test]
fn the_writes_of_a_turn_are_one_tls_record() {
    worker(async {
        let (near, far) = tls_pair(&configs()).await;
        far.write(b"with the tickets").expect("open");
        fill_to(&near, 16).await;
        let counts = counted(async {
            for _ in 0..100 {
                near.write(b"frame").expect("open");
            }
            fill_to(&far, 500).await;
        })
        .await;
        assert_eq!((counts.writes, counts.encryptions, counts.reads), (1, 1, 1));
        // A record's header, content type and tag.
        assert_eq!(counts.written_bytes, 500 + 5 + 1 + 16);
        assert_eq!((near.written(), near.written_to_kernel()), (500, 500));
    });
}

#[test]
fn the_writes_of_many_tasks_are_one_system_call() {
    worker(async {
        let (near, far) = pair().await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let near = near.clone();
            tasks.spawn_local(async move { near.write(b"stream") });
        }
        let counts = counted(async {
            fill_to(&far, 300).await;
        })
        .await;
        assert_eq!(counts.writes, 1);
        while let Some(written) = tasks.join_next().await {
            written.expect("no panic").expect("open");
        }
    });
}

#[test]
fn a_full_buffer_does_not_wait_for_the_end_of_the_turn() {
    worker(async {
        let (near, far) = pair().await;
        near.write(&[0; super::super::HIGH_WATER - 1]).expect("open");
        assert_eq!(near.written_to_kernel(), 0);
        near.write(&[0]).expect("open");
        assert!(near.written_to_kernel() > 0);
        fill_to(&far, super::super::HIGH_WATER).await;
    });
}

#[test]
fn a_worker_that_never_rests_still_writes() {
    worker(async {
        let (near, far) = pair().await;
        near.write(b"old").expect("open");
        // Never pending, so the park hook never runs; other sockets are polled.
        let (other, _kept) = pair().await;
        near.write(b"er").expect("open");
        let begin = clock::now();
        while near.written_to_kernel() < 5 {
            assert!(begin.elapsed() < std::time::Duration::from_secs(10));
            let _ = once(|cx| other.poll_writable(cx));
        }
        assert!(begin.elapsed() >= turn::MAX_AGE / 2);
        fill_to(&far, 5).await;
    });
}

#[test]
fn without_a_hook_writes_leave_at_once() {
    plain(async {
        let (near, far) = pair().await;
        near.write(b"now").expect("open");
        assert_eq!(near.written_to_kernel(), 3);
        assert_eq!(&fill_to(&far, 3).await[..], b"now");
    });
}

#[test]
fn large_pieces_leave_in_one_system_call_without_a_copy() {
    worker(async {
        let (near, far) = pair().await;
        let piece = Bytes::from(pattern(20_000));
        let counts = counted(async {
            near.write(b"head").expect("open");
            near.write_bytes(piece.clone()).expect("open");
            near.write(b"trailer").expect("open");
            let received = fill_to(&far, 20_011).await;
            assert_eq!(received[4..20_004], piece);
        })
        .await;
        assert_eq!(counts.writes, 1);
    });
}

#[test]
fn an_answer_costs_one_read_and_one_write() {
    worker(async {
        let (near, far) = tls_pair(&configs()).await;
        far.write(b"with the tickets").expect("open");
        fill_to(&near, 16).await;
        let echo = tokio::task::spawn_local(async move {
            let mut buffer = BytesMut::new();
            while fill(&far, &mut buffer).await.expect("read") > 0 {
                far.write_bytes(buffer.split().freeze()).expect("open");
            }
        });
        let rounds = 100;
        let counts = counted(async {
            for _ in 0..rounds {
                near.write(b"request").expect("open");
                fill_to(&near, 7).await;
            }
        })
        .await;
        // Both ends are here.
        assert_eq!((counts.writes, counts.reads), (2 * rounds, 2 * rounds));
        drop(near);
        soon(echo).await.expect("no panic");
    });
}

//! Turns, in order and within bounds, on paused time.

use futures_util::FutureExt;

use super::*;

fn limit(max_in_flight: u32, max_pending: u32) -> Concurrency {
    Concurrency {
        policy: "TrafficPolicy shop/cart".into(),
        max_in_flight,
        max_pending,
        max_wait: Duration::from_secs(1),
        gate: Arc::default(),
    }
}

/// Whether this is refused, and why.
fn refusal(entered: Result<Turn, Refused>) -> Option<Refused> {
    entered.err()
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_waits_in_order_and_who_finds_no_place_is_refused() {
    let limit = limit(2, 2);
    let first = limit.try_enter().expect("room");
    let second = limit.enter(None).await.expect("room");
    assert!(limit.try_enter().is_none());
    let mut third = Box::pin(limit.enter(None));
    let mut fourth = Box::pin(limit.enter(None));
    assert!(third.as_mut().now_or_never().is_none());
    assert!(fourth.as_mut().now_or_never().is_none());
    assert_eq!(refusal(limit.enter(None).await), Some(Refused::QueueFull));

    drop(first);
    assert!(fourth.as_mut().now_or_never().is_none(), "it is not the fourth's turn");
    let third = third.await.expect("its turn");
    drop((second, third));
    let fourth = fourth.await.expect("its turn");
    assert_eq!(limit.gate.out(), 1);
    drop(fourth);
    assert_eq!(limit.gate.out(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_allowed_or_than_its_deadline() {
    let limit = limit(1, 9);
    let _held = limit.try_enter().expect("room");
    let began = clock::now();
    assert_eq!(refusal(limit.enter(None).await), Some(Refused::WaitedTooLong));
    assert_eq!(clock::now() - began, Duration::from_secs(1));
    let deadline = clock::now() + Duration::from_millis(10);
    assert_eq!(refusal(limit.enter(Some(deadline)).await), Some(Refused::DeadlinePassed));
    assert_eq!(clock::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_the_queue_and_loses_no_turn() {
    let limit = limit(1, 1);
    let held = limit.try_enter().expect("room");
    {
        let mut given_up = Box::pin(limit.enter(None));
        assert!(given_up.as_mut().now_or_never().is_none());
    }
    let mut waiting = Box::pin(limit.enter(None));
    assert!(waiting.as_mut().now_or_never().is_none(), "there is a place again");
    // Given its turn, and gone before it takes it.
    drop(held);
    assert_eq!(limit.gate.out(), 1);
    drop(waiting);
    assert_eq!(limit.gate.out(), 0);
    assert!(limit.try_enter().is_some());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_that_gave_up_are_passed_over() {
    let limit = limit(1, 20_000);
    let held = limit.try_enter().expect("room");
    for _ in 0..10_000 {
        assert!(Box::pin(limit.enter(None)).now_or_never().is_none());
    }
    let mut last = Box::pin(limit.enter(None));
    assert!(last.as_mut().now_or_never().is_none());
    drop(held);
    assert!(last.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_limit_counts_what_is_in_flight() {
    let before = limit(3, 9);
    let held: Vec<_> = (0..3).map(|_| before.try_enter().expect("room")).collect();
    let lower = Concurrency { max_in_flight: 1, ..before.clone() };
    let mut waiting = Box::pin(lower.enter(None));
    assert!(waiting.as_mut().now_or_never().is_none());
    let mut held = held.into_iter();
    drop(held.next());
    drop(held.next());
    assert!(waiting.as_mut().now_or_never().is_none(), "one is in flight");
    let higher = Concurrency { max_in_flight: 5, ..before };
    let mut later = Box::pin(higher.enter(None));
    assert!(later.as_mut().now_or_never().is_some_and(|entered| entered.is_ok()));
    assert!(waiting.as_mut().now_or_never().is_some_and(|entered| entered.is_ok()));
}

/// A seeded sweep: requests come, wait, give up and end in any order.
#[tokio::test(start_paused = true)]
async fn there_are_never_more_in_flight_than_allowed_nor_fewer_while_some_wait() {
    let seed = std::env::var("WEFT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("WEFT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let limit = limit(4, 6);
    let (mut turns, mut waiting) = (Vec::new(), Vec::new());
    for _ in 0..5_000 {
        // What is polled by hand has a budget, which is this task's.
        tokio::task::yield_now().await;
        match random.u8(..4) {
            0 | 1 => {
                let mut entering = Box::pin(limit.enter(None));
                match entering.as_mut().now_or_never() {
                    Some(Ok(turn)) => turns.push(turn),
                    Some(Err(refused)) => assert_eq!(refused, Refused::QueueFull),
                    None => waiting.push(entering),
                }
            }
            2 if !turns.is_empty() => drop(turns.swap_remove(random.usize(..turns.len()))),
            3 if !waiting.is_empty() => drop(waiting.swap_remove(random.usize(..waiting.len()))),
            _ => {}
        }
        let mut index = 0;
        while index < waiting.len() {
            match waiting[index].as_mut().now_or_never() {
                Some(turn) => {
                    drop(waiting.swap_remove(index));
                    turns.push(turn.expect("nothing took a second"));
                }
                None => index += 1,
            }
        }
        assert!(turns.len() <= 4 && waiting.len() <= 6);
        assert_eq!(limit.gate.out() as usize, turns.len());
        assert!(waiting.is_empty() || turns.len() == 4, "some wait while there is room");
    }
}

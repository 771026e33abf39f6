//! The line at the gate: its order, its bounds, and those who leave it.

use std::collections::VecDeque;

use super::*;

fn gate() -> Arc<Gate> {
    Arc::default()
}

fn turn(gate: &Arc<Gate>, most: u32) -> Turn {
    match gate.ask(most, usize::MAX) {
        Answer::Turn(turn) => turn,
        other => panic!("{other:?}"),
    }
}

fn waiting(gate: &Arc<Gate>, most: u32) -> Waits {
    match gate.ask(most, usize::MAX) {
        Answer::Wait(turn) => turn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn turns_go_to_those_who_wait_in_their_order() {
    let gate = gate();
    let (first, _second) = (turn(&gate, 2), turn(&gate, 2));
    let (mut third, mut fourth) = (waiting(&gate, 2), waiting(&gate, 2));
    drop(first);
    let third = third.try_recv().expect("its turn");
    assert!(fourth.try_recv().is_err());
    assert!(matches!(gate.ask(2, usize::MAX), Answer::Wait(_)), "nobody passes");
    drop(third);
    assert!(fourth.try_recv().is_ok());
}

#[test]
fn a_full_line_refuses_and_who_gives_up_leaves_it() {
    let gate = gate();
    let held = turn(&gate, 1);
    let (gone, mut patient) = (waiting(&gate, 1), waiting(&gate, 1));
    assert!(matches!(gate.ask(1, 2), Answer::Full));
    drop(gone);
    assert_eq!(gate.waiting(), 1);
    let Answer::Wait(mut third) = gate.ask(1, 2) else { panic!("there is room in the line") };
    drop(held);
    drop(patient.try_recv().expect("its turn"));
    drop(third.try_recv().expect("its turn"));
    assert_eq!((gate.out(), gate.waiting()), (0, 0));
}

#[test]
fn a_turn_that_came_to_one_who_left_goes_on() {
    let gate = gate();
    let held = turn(&gate, 1);
    let (left, mut next) = (waiting(&gate, 1), waiting(&gate, 1));
    drop(held);
    assert_eq!(gate.out(), 1, "it lies with the one who left");
    drop(left);
    drop(next.try_recv().expect("it went on"));
    assert_eq!(gate.out(), 0);
}

#[test]
fn a_new_limit_holds_from_its_first_use() {
    let gate = gate();
    let held = [turn(&gate, 3), turn(&gate, 3), turn(&gate, 3)];
    let mut waits = waiting(&gate, 1);
    let [one, other, last] = held;
    drop((one, other));
    assert!(waits.try_recv().is_err(), "one is still out");
    drop(last);
    let _held = waits.try_recv().expect("its turn");
    let mut another = waiting(&gate, 1);
    let _held_too = waiting(&gate, 2);
    assert!(another.try_recv().is_ok(), "more may be out now");
}

/// However requests come, wait, leave and end, no more are out than the limit, and none is forgotten.
#[test]
fn any_sequence_keeps_the_limit_and_starves_nobody() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let gate = gate();
        let (mut out, mut line) = (Vec::new(), VecDeque::new());
        for _ in 0..400 {
            match random.u8(..4) {
                0 | 1 => match gate.ask(3, 5) {
                    Answer::Turn(turn) => {
                        assert!(line.is_empty(), "seed {seed}: nobody passes those who wait");
                        out.push(turn);
                    }
                    Answer::Wait(waits) => line.push_back(waits),
                    Answer::Full => assert_eq!(line.len(), 5, "seed {seed}"),
                },
                2 if !out.is_empty() => drop(out.swap_remove(random.usize(..out.len()))),
                3 if !line.is_empty() => drop(line.remove(random.usize(..line.len()))),
                _ => {}
            }
            while let Some(turn) = line.front_mut().and_then(|first| first.try_recv().ok()) {
                out.push(turn);
                line.pop_front();
            }
            assert!(out.len() <= 3, "seed {seed}");
            assert_eq!(gate.out() as usize, out.len(), "seed {seed}");
            assert!(out.len() == 3 || line.is_empty(), "seed {seed}: room, and somebody waits");
        }
    }
}

#[test]
fn a_limit_that_is_raised_or_gone_serves_those_who_wait_at_once() {
    let gate = gate();
    let _held = turn(&gate, 1);
    let (mut first, mut second, mut third) =
        (waiting(&gate, 1), waiting(&gate, 1), waiting(&gate, 1));
    gate.limit(2);
    let _first = first.try_recv().expect("its turn");
    assert!(second.try_recv().is_err());
    gate.limit(u32::MAX);
    assert!(second.try_recv().is_ok() && third.try_recv().is_ok());
    assert!(!gate.has_line());
}

#[test]
fn for_each_who_presses_one_turn_is_to_be_given_back() {
    let gate = gate();
    let held = turn(&gate, 1);
    assert!(!gate.answer(), "nobody waits");
    let (mut one, other) = (waiting(&gate, 1), waiting(&gate, 1));
    gate.press();
    gate.press();
    assert!(gate.answer());
    drop(held);
    let one = one.try_recv().expect("its turn");
    drop(other);
    drop(one);
    assert!(!gate.answer(), "who pressed has left");
}

#[test]
fn a_turn_that_a_lowered_limit_swallows_is_asked_for_again() {
    let gate = gate();
    let (one, other) = (turn(&gate, 2), turn(&gate, 2));
    let mut waits = waiting(&gate, 1);
    gate.press();
    assert!(gate.answer());
    drop(one);
    assert!(waits.try_recv().is_err() && gate.answer());
    drop(other);
    assert!(waits.try_recv().is_ok());
}

#[test]
fn a_holder_hears_whether_somebody_else_has_waited_longest() {
    let gate = gate();
    let _held = turn(&gate, 1);
    let [holder, another] = [Holder::unique(), Holder::unique()];
    let wait = |served_by| match gate.ask_for(served_by, 1, usize::MAX) {
        Answer::Wait(turn) => turn,
        other => panic!("{other:?}"),
    };
    let others = Others::than(holder, Arc::clone(&gate));
    assert!(!others.are_first());
    let own = wait(Some(holder));
    let someone = wait(Some(another));
    let _nobodys = wait(None);
    assert!(!others.are_first());
    drop(own);
    assert!(others.are_first());
    let others_than_another = Others::than(another, Arc::clone(&gate));
    assert!(!others_than_another.are_first());
    drop(someone);
    assert!(others.are_first() && others_than_another.are_first());
}

#[test]
fn a_turn_that_a_lowered_limit_leaves_no_room_for_is_given_back_by_what_can_end() {
    let gate = gate();
    let mut held = [3, 3, 3].map(|most| Some(turn(&gate, most)));
    assert!(held.iter_mut().all(|turn| gate.permits(turn)));
    gate.limit(1);
    let mut waits = waiting(&gate, 1);
    assert_eq!(held.each_mut().map(|turn| gate.permits(turn)), [false, false, true]);
    assert_eq!(gate.out(), 1);
    assert!(held[0].is_none() && waits.try_recv().is_err(), "nobody is served beyond the limit");
    drop(held);
    assert!(waits.try_recv().is_ok());
}

#[test]
fn what_holds_no_turn_takes_one_where_there_is_room_and_nobody_waits() {
    let (gate, another) = (gate(), gate());
    let mut of_another = Some(turn(&another, 1));
    gate.limit(1);
    assert!(gate.permits(&mut of_another) && another.out() == 0);
    let mut none = None;
    assert!(!gate.permits(&mut none) && none.is_none());
    let waits = waiting(&gate, 1);
    gate.limit(0);
    drop(of_another);
    gate.state().most = 1;
    assert!(!gate.permits(&mut none), "somebody waits");
    drop(waits);
    assert!(gate.permits(&mut none));
}

#[test]
fn many_who_wait_for_one_turn_are_counted_each() {
    let gate = gate();
    let held = turn(&gate, 1);
    let Err(mut one) = gate.ask_for_many(Holder::unique(), 1) else { panic!("no room") };
    let [first, _second] = [gate.join(2), gate.join(2)].map(|it| it.expect("room in the line"));
    assert!(gate.join(2).is_none() && matches!(gate.ask(1, 2), Answer::Full));
    assert_eq!(gate.waiting(), 2);
    drop(first);
    let Answer::Wait(next) = gate.ask(1, 2) else { panic!("there is room in the line") };
    drop(held);
    assert!(one.try_recv().is_ok(), "it came first");
    drop(next);
    assert_eq!(gate.waiting(), 1);
}

//! Which names are asked for, once and together, and when their answers are forgotten.

use super::*;
use crate::discovery::{Destination, OutsideScope};

fn scope(namespaces: &[&str]) -> Arc<MeshScope> {
    Arc::new(MeshScope {
        trust_domain: "weft.local".parse().expect("valid"),
        ranges: Vec::new(),
        suffixes: vec!["svc.cluster.local".to_owned()],
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        outside: OutsideScope::default(),
    })
}

fn destination() -> Resolution {
    Resolution::Mesh(Arc::new(Destination {
        protocol: weft_proto::discovery::Protocol::Http1,
        ..Destination::empty("shop/cart:80".into())
    }))
}

fn table() -> (Table, mpsc::UnboundedReceiver<Question>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Table::new(sender), receiver)
}

fn drain(questions: &mut mpsc::UnboundedReceiver<Question>) -> Vec<Question> {
    std::iter::from_fn(|| questions.try_recv().ok()).collect()
}

#[test]
fn nothing_is_asked_or_answered_before_the_scope_is_known() {
    let (mut table, mut questions) = table();
    let cart = table.resolve("cart:80");
    let outside = table.resolve("example.com:443");
    assert!(matches!(*outside.borrow(), Resolution::Pending));
    assert_eq!(drain(&mut questions), []);
    table.set_scope(scope(&["shop"]));
    assert!(matches!(*outside.borrow(), Resolution::Outside));
    assert!(matches!(*cart.borrow(), Resolution::Pending));
    assert_eq!(drain(&mut questions), [Question::Ask("cart:80".into())]);
}

#[test]
fn equal_questions_are_asked_once_and_share_the_answer() {
    let (mut table, mut questions) = table();
    table.set_scope(scope(&["shop"]));
    let one = table.resolve("cart.shop:80");
    let other = table.resolve("cart.shop:80");
    assert_eq!(drain(&mut questions).len(), 1);
    table.publish("cart.shop:80", destination());
    assert!(matches!(*one.borrow(), Resolution::Mesh(_)));
    assert!(matches!(*other.borrow(), Resolution::Mesh(_)));
}

#[test]
fn a_new_namespace_makes_an_outside_name_a_candidate_and_its_end_the_reverse() {
    let (mut table, mut questions) = table();
    table.set_scope(scope(&["shop"]));
    let live = table.resolve("api.payments:80");
    assert!(matches!(*live.borrow(), Resolution::Outside));
    table.set_scope(scope(&["shop", "payments"]));
    assert!(matches!(*live.borrow(), Resolution::Pending));
    assert_eq!(drain(&mut questions), [Question::Ask("api.payments:80".into())]);
    table.publish("api.payments:80", destination());
    table.set_scope(scope(&["shop"]));
    assert!(matches!(*live.borrow(), Resolution::Outside));
    assert_eq!(drain(&mut questions), [Question::Forget("api.payments:80".into())]);
    assert_eq!(table.negative, 1);
}

#[test]
fn an_answer_that_nobody_holds_is_forgotten_after_a_while_and_not_before() {
    let (mut table, mut questions) = table();
    table.set_scope(scope(&[]));
    let start = Instant::now();
    let live = table.resolve("cart:80");
    table.publish("cart:80", destination());
    table.sweep(start + IDLE * 2);
    drop(live);
    table.sweep(start + IDLE * 3);
    let again = table.resolve("cart:80");
    drop(again);
    table.sweep(start + IDLE * 5);
    assert_eq!(drain(&mut questions), [Question::Ask("cart:80".into())]);
    table.sweep(start + IDLE * 6 - Duration::from_millis(1));
    assert_eq!(drain(&mut questions), []);
    table.sweep(start + IDLE * 6);
    assert_eq!(drain(&mut questions), [Question::Forget("cart:80".into())]);
    assert_eq!((table.entries.len(), table.negative), (0, 0));
}

#[test]
fn invented_names_are_bounded_and_what_is_held_stays() {
    let (mut table, mut questions) = table();
    table.set_scope(scope(&[]));
    let held = table.resolve("held:80");
    let positive = table.resolve("cart:80");
    table.publish("cart:80", destination());
    for number in 0..MAX_NEGATIVE * 3 {
        drop(table.resolve(&format!("invented-{number}:80")));
        assert!(table.negative <= MAX_NEGATIVE);
    }
    assert!(table.entries.len() <= MAX_NEGATIVE + 1);
    assert!(held.has_changed().is_ok(), "the held answer is still live");
    assert!(positive.has_changed().is_ok());
    let forgotten = drain(&mut questions)
        .into_iter()
        .filter(|question| matches!(question, Question::Forget(_)))
        .count();
    assert_eq!(forgotten, MAX_NEGATIVE * 3 + 2 - table.entries.len());
}

#[test]
fn an_answer_to_a_question_that_was_withdrawn_is_left() {
    let (mut table, _questions) = table();
    table.set_scope(scope(&["payments"]));
    let live = table.resolve("api.payments:80");
    table.set_scope(scope(&[]));
    table.publish("api.payments:80", destination());
    table.publish("never-asked:80", destination());
    assert!(matches!(*live.borrow(), Resolution::Outside));
    assert_eq!(table.negative, 1);
}

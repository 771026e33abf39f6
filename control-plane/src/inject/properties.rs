//! What must hold of the webhook for any bytes that it is sent: fuzzed, and run over the corpus by the tests.
//!
//! - It ends, with an answer or a refusal that says what is wrong with the bytes.
//! - An answer repeats the question's uid, and its patch makes the pod that was meant of the pod that was sent.
//! - A pod that had no sidecar is as it was when its sidecar is taken out again.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Context, Namespace, Outcome, Settings, pod,
    review::{Answer, Question},
    undo,
};
use crate::model::pod_settings::INJECT;

/// Checks it for a body of these bytes, about a pod of a namespace that asks for sidecars.
pub fn check(bytes: &[u8]) {
    let question = match Question::read(bytes) {
        Ok(question) => question,
        Err(why) => return assert!(!why.trim().is_empty()),
    };
    let namespace = Namespace {
        name: question.namespace.clone(),
        labels: BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]),
        annotations: BTreeMap::new(),
    };
    let workload = question.workload();
    let context = Context {
        settings: &Settings::default(),
        namespace: &namespace,
        asked: question.is_new_pod(),
        workload: &workload,
        overrides: &BTreeMap::new(),
    };
    let outcome = pod(&question.object, &context);
    let answer = serde_json::to_value(Answer::new(&question, &outcome)).expect("it is JSON");
    assert_eq!(answer["response"]["uid"], Value::from(question.uid.as_str()));
    match outcome {
        Outcome::Injected { object, .. } => check_injected(&question.object, &object),
        Outcome::Refused(errors) => assert!(!errors.is_empty()),
        Outcome::Left(_) => {}
    }
}

fn check_injected(before: &Value, after: &Value) {
    let mut patched = before.clone();
    json_patch::patch(&mut patched, &json_patch::diff(before, after)).expect("it fits");
    assert_eq!(patched, *after);
    if !undo::is_injected(before) {
        let undone = undo::undo(after).expect("what was just injected can be undone");
        assert_eq!(undone.as_ref(), Some(before));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_reviews_is_answered() {
        crate::replay::corpus("admission_review", super::check);
    }
}

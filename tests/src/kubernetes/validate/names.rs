//! Names, labels and annotations: RFC 1123's words, and Kubernetes' longer ones.
//!
//! In comes text, out goes whether it is a name, and Kubernetes' sentence where it is none.

use serde_json::{Value, json};

use crate::kubernetes::failure::Cause;

const NOT_LABEL: &str = "a lowercase RFC 1123 label must be made of a-z, 0-9 and '-', \
                         and neither begin nor end with '-'";
const NOT_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must be made of labels of a-z, 0-9 and '-', \
                             with '.' between them";
const NOT_VALUE: &str = "a valid label must be empty or made of letters, digits, '-', '_' and '.', \
                         and begin and end with a letter or digit";
const NOT_KEY: &str = "name part must be made of letters, digits, '-', '_' and '.', \
                       and begin and end with a letter or digit";

/// The most bytes that an object's annotations may have together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Whether it is one word of a DNS name.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63 && is_word(text, inner, |byte| inner(byte) || byte == b'-')
}

/// Whether it is a DNS name.
pub(super) fn is_subdomain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part| is_word(part, inner, |byte| inner(byte) || byte == b'-');
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Whether it is the name of a port: a word with a letter, without two dashes in a row, of 15 letters at most.
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_label(text)
        && !text.contains("--")
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn is_word(text: &str, outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => outer(*only),
        [first, middle @ .., last] => {
            outer(*first) && outer(*last) && middle.iter().all(|&byte| inner(byte))
        }
    }
}

fn is_qualified_word(text: &str) -> bool {
    let outer = |byte: u8| byte.is_ascii_alphanumeric();
    text.len() <= 63 && is_word(text, outer, |byte| outer(byte) || b"-_.".contains(&byte))
}

/// The refusal of what is no DNS word.
pub(super) fn not_label(field: &str, text: &str) -> Cause {
    Cause::invalid(
        field,
        &json!(text),
        if text.len() > 63 { "must be no more than 63 characters" } else { NOT_LABEL },
    )
}

/// The refusal of what is no DNS name.
pub(super) fn not_subdomain(field: &str, text: &str) -> Cause {
    let long = text.len() > 253;
    Cause::invalid(
        field,
        &json!(text),
        if long { "must be no more than 253 characters" } else { NOT_SUBDOMAIN },
    )
}

/// A key of labels or annotations: a word, with a DNS name before it or not.
fn check_key(key: &str, field: &str, causes: &mut Vec<Cause>) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(one, two)| (Some(one), two));
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        causes.push(Cause::invalid(field, &json!(key), &format!("prefix part {NOT_SUBDOMAIN}")));
    }
    if !is_qualified_word(name) {
        let why =
            if name.len() > 63 { "name part must be no more than 63 characters" } else { NOT_KEY };
        causes.push(Cause::invalid(field, &json!(key), why));
    }
}

/// Checks labels, keys and values.
pub(super) fn check_labels(labels: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        check_key(key, field, causes);
        let text = value.as_str().unwrap_or_default();
        if !text.is_empty() && !is_qualified_word(text) {
            let why =
                if text.len() > 63 { "must be no more than 63 characters" } else { NOT_VALUE };
            causes.push(Cause::invalid(field, value, why));
        }
    }
}

/// Checks annotations: their keys, and how much they are.
pub(super) fn check_annotations(annotations: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        check_key(&key.to_lowercase(), "metadata.annotations", causes);
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_LIMIT {
        let mut cause = Cause::invalid("metadata.annotations", &json!(size), "");
        cause.reason = "FieldValueTooLong";
        cause.message = format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes");
        causes.push(cause);
    }
}

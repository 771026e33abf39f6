//! What must hold of trace context for any fields: fuzzed, and run over the corpus by the tests.
//!
//! - A parent that was read is the same when it is written and read again.
//! - A `tracestate` travels on as it is, or not at all.

use super::context::{TRACESTATE, inject, parent};

/// Checks it for the fields of an input of [`crate::http::properties`].
pub fn check(bytes: &[u8]) {
    let fields = crate::http::properties::fields(bytes);
    let Some(read) = parent(&fields) else { return };
    let mut written = fields.clone();
    inject(&mut written, &read);
    assert_eq!(parent(&written), Some(read));
    let is_kept = fields.get_all(TRACESTATE).eq(written.get_all(TRACESTATE));
    assert!(is_kept || !written.contains_key(TRACESTATE));
    let once = written.clone();
    inject(&mut written, &read);
    assert_eq!(written, once);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_fields_has_one_trace_context() {
        crate::replay::corpus("fields", super::check);
    }
}

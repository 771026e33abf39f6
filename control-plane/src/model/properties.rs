//! What must hold of the parser of objects for any text: fuzzed, and run over the corpus by the tests.
//!
//! - It ends, with an object or an error for each document that is not empty.
//! - An error names the file, a line of the file or the one behind its end, and what is wrong.
//! - An object that is written out, as JSON or as YAML, is the same when it is read again.

use super::{Object, ParseError, parse_documents, parse_object};

const FILE: &str = "shop.yaml";

/// Checks it for a file of these bytes; those that are no text never reach the parser.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let outcomes = parse_documents(FILE, text);
    assert!(outcomes.len() <= text.len() + 1);
    for outcome in outcomes {
        match outcome {
            Ok(parsed) => check_object(&parsed.object),
            Err(error) => check_error(&error, text),
        }
    }
}

fn check_object(object: &Object) {
    let json = object.to_json();
    let compact = json.to_string();
    assert_eq!(parse_object(&compact).as_ref(), Ok(object), "{compact}");
    let yaml = serde_norway::to_string(&json).expect("JSON can be written as YAML");
    assert_eq!(parse_object(&yaml).as_ref(), Ok(object), "{yaml}");
}

fn check_error(error: &ParseError, text: &str) {
    assert_eq!(error.file, FILE);
    assert!(error.line <= lines(text) + 1, "line {} of {text:?}", error.line);
    assert!(!error.message.trim().is_empty(), "{error:?}");
    let place = match error.line {
        0 => format!("{FILE}: "),
        line => format!("{FILE}:{line}: "),
    };
    assert!(error.to_string().starts_with(&place), "{error}");
}

/// How many lines YAML sees, with the one behind the last break (YAML 1.1 section 4.2).
fn lines(text: &str) -> usize {
    let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    1 + text.replace("\r\n", "\n").matches(breaks).count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_objects_is_read_and_written_alike() {
        crate::replay::corpus("object_yaml", super::check);
    }
}

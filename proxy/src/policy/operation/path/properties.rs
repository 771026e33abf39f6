//! What must hold of a path's readings for any bytes: fuzzed, and run over the corpus by the tests.
//!
//! - What an application makes of a path is among its readings, whether it resolves first, decodes first, or takes
//!   parameters off in between. The applications here are written from their own rules, not from the readings' steps.
//! - A reading has neither dots nor doubled slashes left, where all steps are taken.

use super::{Readings, decode};

/// Checks all of it for a path of these bytes.
pub fn check(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    let path = format!("/{path}");
    if path.contains(['?', '#']) || path.chars().any(char::is_control) {
        return;
    }
    let readings = match Readings::of(&path) {
        Readings::Unreadable => return,
        Readings::Plain(only) => vec![only.to_owned()],
        Readings::Several(readings) => readings,
    };
    for application in [literal, resolving, decoding_first, decoding_last, tomcat, merging] {
        if let Some(made) = application(&path) {
            assert!(readings.contains(&made), "{made:?} is no reading of {path:?}: {readings:?}");
        }
    }
    let is_clean = |reading: &String| !reading.contains("//") && !reading.contains("/../");
    assert!(readings.iter().any(is_clean), "{readings:?}");
}

/// Decodes, and looks the path up as it is.
fn literal(path: &str) -> Option<String> {
    decode(path).map(|path| path.into_owned())
}

/// RFC 3986 section 6.2.2: decodes, then removes dot segments.
fn resolving(path: &str) -> Option<String> {
    Some(remove_dot_segments(&decode(path)?))
}

/// Decodes twice, as a proxy and an application behind it would, then removes dot segments.
fn decoding_first(path: &str) -> Option<String> {
    Some(remove_dot_segments(&decode(&decode(path)?)?))
}

/// Removes dot segments from what was sent, then decodes.
fn decoding_last(path: &str) -> Option<String> {
    decode(&remove_dot_segments(path)).map(|path| path.into_owned())
}

/// A servlet container: takes parameters off, decodes, makes `\` a `/`, removes dot segments.
fn tomcat(path: &str) -> Option<String> {
    let mut bare = String::new();
    let mut in_parameter = false;
    for character in path.chars() {
        in_parameter = character != '/' && (in_parameter || character == ';');
        if !in_parameter {
            bare.push(character);
        }
    }
    Some(remove_dot_segments(&decode(&bare)?.replace('\\', "/")))
}

/// A web server that merges slashes after decoding, then removes dot segments.
fn merging(path: &str) -> Option<String> {
    let mut path = decode(path)?.into_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    Some(remove_dot_segments(&path))
}

/// RFC 3986 section 5.2.4, to the letter.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") || input == "/." {
            input = format!("/{}", input.get(3..).unwrap_or_default());
        } else if input.starts_with("/../") || input == "/.." {
            input = format!("/{}", input.get(4..).unwrap_or_default());
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input.drain(..end);
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn the_corpus_of_paths_is_read_as_applications_read_it() {
        crate::replay::corpus("paths", super::check);
    }

    proptest! {
        #[test]
        fn paths_are_read_as_applications_read_them(
            pieces in prop::collection::vec(
                "[ab]|/|\\.|\\.\\.|;|%2e|%2E|%2f|%5c|%25|%3b|\\\\|%252e|%252f", 0..12,
            ),
        ) {
            super::check(pieces.concat().as_bytes());
        }
    }
}

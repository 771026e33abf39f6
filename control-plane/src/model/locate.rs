//! The line of a field: a document's text and a path come in, a line number goes out. Only ever asked for
//! when there is an error to report, or an object's place to remember.

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_norway::Deserializer;

/// The line, from 1, on which the field at `path` (`spec.ports[0].port`) of the document with this index
/// stands, or the nearest field around it that exists. 0 when even the document does not.
#[must_use]
pub fn locate(text: &str, document: usize, path: &str) -> usize {
    let segments = segments(path);
    // The nearest field around a missing one: give up one segment after the other.
    (0..=segments.len())
        .rev()
        .find_map(|kept| line_in(Deserializer::from_str(text).nth(document)?, &segments[..kept]))
        .unwrap_or(0)
}

/// The fields of a path, one below the other. What stands in brackets is one field, dots and all:
/// `metadata.annotations[weft.dev/sidecar]`.
fn segments(path: &str) -> Vec<&str> {
    let parts = path.split('[').flat_map(|part| match part.split_once(']') {
        Some((bracketed, rest)) => [bracketed].into_iter().chain(rest.split('.')),
        None => [""].into_iter().chain(part.split('.')),
    });
    parts.filter(|segment| !segment.is_empty()).collect()
}

/// The line of the field at this path in a document.
pub(super) fn line_in(document: Deserializer<'_>, path: &[&str]) -> Option<usize> {
    let found = Seek { path }.deserialize(document);
    found.err().and_then(|error| error.location()).map(|location| location.line())
}

/// Walks down the path and fails at its end: the parser's error then carries the place.
struct Seek<'a> {
    path: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() {
            return deserializer.deserialize_any(Here);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.path[0] {
                map.next_value_seed(Seek { path: &self.path[1..] })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let wanted = self.path[0].parse::<usize>().unwrap_or(usize::MAX);
        for index in 0.. {
            let more = if index == wanted {
                seq.next_element_seed(Seek { path: &self.path[1..] })?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Refuses whatever it finds.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("to be found")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_brackets_is_one_field_with_its_dots() {
        let text = "metadata:\n  annotations:\n    weft.dev/a: x\n    weft.dev/b: y\nspec:\n  ports:\n  - port: 1\n  - \
                    port: 2\n";
        for (path, line) in [
            ("metadata.annotations[weft.dev/a]", 3),
            ("metadata.annotations[weft.dev/b]", 4),
            ("spec.ports[1].port", 8),
            ("spec.ports[1].name", 8),
        ] {
            assert_eq!(locate(text, 0, path), line, "{path}");
        }
    }
}

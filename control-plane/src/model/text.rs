//! Values that are one text with rules of their own, read so that an error carries the field's place.

use std::fmt;

use serde::{Deserializer, de};

/// Reads a text and parses it. The parser's error stands at the text's own line and path, which it would
/// not if the text were read first and parsed afterwards.
pub(super) fn parsed<'de, D, T, E>(
    deserializer: D,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    deserializer.deserialize_str(Parse { parse })
}

struct Parse<T, E> {
    parse: fn(&str) -> Result<T, E>,
}

impl<T, E: fmt::Display> de::Visitor<'_> for Parse<T, E> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<Error: de::Error>(self, text: &str) -> Result<T, Error> {
        (self.parse)(text).map_err(Error::custom)
    }
}

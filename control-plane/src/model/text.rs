//! Values that are one text with rules of their own, read so that an error carries the field's place.

use std::{fmt, time::Duration};

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

/// Reads a duration: "250ms", "30s", "5m" or "24h".
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is no duration: use 250ms, 30s, 5m or 24h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| error())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    // A century: beyond it nothing is meant, and sums with today's date stay in range.
    let century = 100 * 366 * 24 * 3_600_000;
    millis.filter(|millis| *millis <= century).map(Duration::from_millis).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("24h", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "5", "s", "5 s", "-5s", "5d", "99999999999999999999h", "9999999h"] {
            assert!(duration(text).unwrap_err().contains("250ms"), "{text}");
        }
    }
}

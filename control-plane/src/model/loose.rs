//! A document as far as it can be read, for what must be known of one that is refused: YAML comes in, JSON goes out.
//! Tags are dropped, a key that is no text is written as one. A field that is given twice with different values is
//! none of them: it is [`TWICE`]. It must never choose between two things that may both be meant.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, EnumAccess, MapAccess, SeqAccess, VariantAccess as _, Visitor},
};
use serde_json::{Map, Value, map::Entry};

/// Stands for a field of several values. No field takes it: it is no word.
pub(super) const TWICE: &str = "(given more than once)";

/// What could be read.
pub(super) struct Loose(pub(super) Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(document: D) -> Result<Self, D::Error> {
        document.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        // Infinity is no number in JSON; that something was given must not be lost.
        let number = serde_json::Number::from_f64(value);
        Ok(number.map_or_else(|| value.to_string().into(), Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// A text without any document.
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Loose(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((Loose(key), Loose(value))) = fields.next_entry()? {
            let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            match all.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(value);
                }
                Entry::Occupied(mut first) if *first.get() != value => {
                    first.insert(TWICE.into());
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(all.into())
    }

    /// What stands behind a tag.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (Loose(_), content) = tagged.variant()?;
        content.newtype_variant().map(|Loose(value)| value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_and_odd_keys_are_read_and_of_two_values_none_is_chosen() {
        for (text, expected) in [
            ("a: !x 1\nb: !y {c: !z [1, ~]}", json!({"a": 1, "b": {"c": [1, null]}})),
            ("{1: a, [b]: c, ~: .inf}", json!({"1": "a", "[\"b\"]": "c", "null": "inf"})),
            ("a: 1\na: 1\nb: x\nb: y\nc: {d: 1}", json!({"a": 1, "b": TWICE, "c": {"d": 1}})),
            ("", json!(null)),
        ] {
            let read = Loose::deserialize(serde_norway::Deserializer::from_str(text));
            assert_eq!(read.expect(text).0, expected, "{text}");
        }
    }
}

//! Amounts as operators write them: numbers within bounds, times with units, numbers with decimals.
//!
//! Text and numbers come in, checked values go out; an error stands at the field's own place. Each type also says
//! of itself what an API server may take. None of them ever clips: what is out of range is refused.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::text;

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u32, const MAX: u32>(u32);

/// Of a hundred.
pub type Percent = Whole<0, 100>;
/// How many; zero is not one of them.
pub type Count = Whole<1, { u32::MAX }>;
/// How many, or none.
pub type CountOrNone = Whole<0, { u32::MAX }>;

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Whole<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<const MIN: u32, const MAX: u32>;
        impl<const MIN: u32, const MAX: u32> de::Visitor<'_> for Number<MIN, MAX> {
            type Value = Whole<MIN, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                let within = u32::try_from(number).ok().filter(|it| (MIN..=MAX).contains(it));
                let range = || E::custom(format!("{number} is out of range: use {MIN} to {MAX}"));
                within.map(Whole).ok_or_else(range)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => {
                        Err(E::custom(format!("{number} is out of range: use {MIN} to {MAX}")))
                    }
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Whole<MIN, MAX> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Whole_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "format": "int64", "minimum": MIN, "maximum": MAX})
    }
}

/// A time as the Gateway API writes it: "10s", "500ms", "1h30m" (GEP-2257). At least `LEAST` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<const LEAST: u64>(u64);

/// A time that may be zero, which stands for none.
pub type SpanOrNone = Span<0>;
/// A time.
pub type Time = Span<1>;

/// From the longest unit to the shortest. "ms" before "m", of which it is no "s".
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];

impl<const LEAST: u64> Span<LEAST> {
    /// In milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no time: use 500ms, 10s, 5m, 1h or 1h30m");
        let (mut rest, mut millis, mut parts) = (text, 0_u64, 0);
        while !rest.is_empty() || parts == 0 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let unit = UNITS.iter().find_map(|(unit, of)| Some((tail.strip_prefix(unit)?, *of)));
            let (after, of) = unit.ok_or_else(error)?;
            let number: u64 = number.parse().map_err(|_| error())?;
            parts += 1;
            // GEP-2257: at most four parts of at most five digits, which no sum of overflows.
            if digits > 5 || parts > 4 {
                return Err(error());
            }
            millis += number * of;
            rest = after;
        }
        if millis < LEAST {
            return Err(format!("{text:?} is too short: use {LEAST}ms or more"));
        }
        Ok(Self(millis))
    }
}

impl<const LEAST: u64> fmt::Display for Span<LEAST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let (hours, minutes) = (self.0 / 3_600_000, self.0 / 60_000 % 60);
        let (seconds, millis) = (self.0 / 1_000 % 60, self.0 % 1_000);
        for (number, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s"), (millis, "ms")] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl<const LEAST: u64> Serialize for Span<LEAST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const LEAST: u64> Deserialize<'de> for Span<LEAST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, Self::parse)
    }
}

impl<const LEAST: u64> JsonSchema for Span<LEAST> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Span_{LEAST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
        if LEAST == 0 {
            return json_schema!({"type": "string", "maxLength": 32, "pattern": pattern});
        }
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": pattern,
            "x-kubernetes-validations": [{
                "rule": "self.matches('[1-9]')",
                "message": "zero is too short: use 1ms or more",
            }],
        })
    }
}

/// A number from 0 to 100 with at most three decimals, kept in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thousandths(u32);

impl Thousandths {
    const MOST: f64 = 100.0;

    /// In thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// As a number.
    #[must_use]
    pub fn number(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000) {
            return serializer.serialize_u32(self.0 / 1_000);
        }
        serializer.serialize_f64(self.number())
    }
}

impl<'de> Deserialize<'de> for Thousandths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Thousandths;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 100")
            }
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range is checked before"
            )]
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Thousandths, E> {
                if !(0.0..=Thousandths::MOST).contains(&number) {
                    return Err(E::custom(format!("{number} is out of range: use 0 to 100")));
                }
                let thousandths = (number * 1_000.0).round();
                if (thousandths / 1_000.0 - number).abs() > 1e-9 {
                    return Err(E::custom(format!("{number} is too fine: use three decimals")));
                }
                Ok(Thousandths(thousandths as u32))
            }
            #[allow(clippy::cast_precision_loss, reason = "what is not exact is out of range")]
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Thousandths, E> {
                self.visit_f64(number as f64)
            }
            #[allow(clippy::cast_precision_loss, reason = "what is not exact is out of range")]
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Thousandths, E> {
                self.visit_f64(number as f64)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl JsonSchema for Thousandths {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Thousandths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 100})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: de::DeserializeOwned>(text: &str) -> Result<T, String> {
        serde_norway::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn times_are_written_as_the_gateway_api_writes_them() {
        for (text, millis, written) in [
            ("0s", 0, "0s"),
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("1h1m1s1ms", 3_661_001, "1h1m1s1ms"),
            ("99999h", 359_996_400_000, "99999h"),
        ] {
            let span: SpanOrNone = read(text).expect(text);
            assert_eq!((span.millis(), span.to_string().as_str()), (millis, written));
        }
        for text in ["''", "10", "s", "1 s", "-1s", "1d", "100000s", "1s1s1s1s1s", "1.5s"] {
            assert!(read::<SpanOrNone>(text).unwrap_err().contains("10"), "{text}");
        }
        assert!(read::<Time>("0s").unwrap_err().contains("use 1ms or more"));
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        assert_eq!(read::<Percent>("100").map(Percent::get), Ok(100));
        for text in ["101", "-1", "99999999999"] {
            let error = read::<Percent>(text).unwrap_err();
            assert!(error.starts_with(&format!("{text} is out of range: use 0 to 100")), "{error}");
        }
        assert!(read::<Count>("0").is_err() && read::<Count>("1.5").is_err());
        assert!(read::<Count>("many").is_err());
    }

    #[test]
    fn decimals_are_kept_exactly() {
        for (text, thousandths, written) in [
            ("0.1", 100, "0.1"),
            ("50", 50_000, "50"),
            ("1.9", 1_900, "1.9"),
            ("0.001", 1, "0.001"),
        ] {
            let number: Thousandths = read(text).expect(text);
            assert_eq!(number.thousandths(), thousandths);
            assert_eq!(serde_json::to_string(&number).expect("a number"), written);
        }
        for text in ["100.1", "-0.1", "0.0001", ".nan"] {
            assert!(read::<Thousandths>(text).is_err(), "{text}");
        }
    }
}

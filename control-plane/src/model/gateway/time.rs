//! How long a request may take, and when it is tried again: the fields of a rule itself.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{check, other::Other};
use crate::model::{FieldError, text};

/// "99999h" in milliseconds.
const LONGEST: u64 = 99_999 * 3_600_000;

/// A duration as the Gateway API writes it (GEP-2257): "1h30m", "10s", "500ms".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayDuration(pub Duration);

impl GatewayDuration {
    /// Reads a duration: one to four numbers of one to five digits, each with its unit.
    ///
    /// # Errors
    /// Names the text, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no duration: use 500ms, 10s, 5m or 1h30m");
        let mut rest = text;
        let mut millis = 0u64;
        for part in 0.. {
            if rest.is_empty() && part > 0 {
                // What is longer could not be written in this form again.
                return if millis <= LONGEST {
                    Ok(Self(Duration::from_millis(millis)))
                } else {
                    Err(error())
                };
            }
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if part == 4 || !(1..=5).contains(&digits) {
                break;
            }
            let (number, tail) = rest.split_at(digits);
            let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
            let unit =
                units.iter().find_map(|(unit, worth)| Some((tail.strip_prefix(unit)?, worth)));
            let Some((tail, worth)) = unit else { break };
            millis += number.parse::<u64>().map_err(|_| error())? * worth;
            rest = tail;
        }
        Err(error())
    }

    /// Milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for GatewayDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, worth) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            let count = left / worth;
            left %= worth;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for GatewayDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GatewayDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, Self::parse)
    }
}

/// How long a request may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// All of it; zero: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GatewayDuration>,
    /// One try of it; zero: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<GatewayDuration>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl Timeouts {
    pub(super) fn check(&self, at: &str) -> Result<(), FieldError> {
        let (Some(whole), Some(one)) = (self.request, self.backend_request) else { return Ok(()) };
        if whole.0.is_zero() || one <= whole {
            return Ok(());
        }
        let message = format!("{one} is longer than {at}.request ({whole}): use at most that");
        Err(FieldError::new(format!("{at}.backendRequest"), message))
    }
}

/// When a request is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Statuses after which it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    codes: Vec<i64>,
    /// How often, beside the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<i64>,
    /// After how long, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<GatewayDuration>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl Retry {
    /// Statuses after which a request is tried again.
    pub fn codes(&self) -> impl Iterator<Item = u32> {
        self.codes.iter().filter_map(|code| u32::try_from(*code).ok())
    }

    /// How often, beside the first time.
    #[must_use]
    pub fn attempts(&self) -> Option<u32> {
        self.attempts.and_then(|attempts| u32::try_from(attempts).ok())
    }

    pub(super) fn check(&self, at: &str) -> Result<(), FieldError> {
        for (index, code) in self.codes.iter().enumerate() {
            check::within(&format!("{at}.codes[{index}]"), *code, 400, 599)?;
        }
        // The definition sets no bound; whatever is written, a retry budget holds them back.
        self.attempts.map_or(Ok(()), |attempts| {
            check::within(&format!("{at}.attempts"), attempts, 0, i64::from(i32::MAX))
        })
    }
}

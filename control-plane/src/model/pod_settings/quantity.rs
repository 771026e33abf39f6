//! An amount of CPU or memory as Kubernetes writes it: "250m", "64Mi", "1e3". The text is kept as it was
//! written; beside it stands its value, so that two of them can be compared.

use std::{cmp::Ordering, fmt, str::FromStr};

/// An amount, with the text that it was written as. Two are equal when their values are.
#[derive(Debug, Clone)]
pub struct Quantity {
    text: String,
    /// In billionths: the finest unit that Kubernetes has.
    nanos: u128,
}

impl Quantity {
    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

const NANO: u128 = 1_000_000_000;

impl FromStr for Quantity {
    type Err = String;

    /// Reads Kubernetes' notation: a decimal number with at most nine places, then a suffix (n, u, m, k, M, G,
    /// T, P, E, Ki to Ei) or an exponent.
    fn from_str(text: &str) -> Result<Self, String> {
        let error =
            || format!("{text:?} is no amount: use a number with a unit, such as 100m or 64Mi");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let nanos = decimal(number).and_then(|nanos| scale(nanos, suffix)).ok_or_else(error)?;
        Ok(Self { text: text.to_owned(), nanos })
    }
}

/// A decimal number in billionths.
fn decimal(number: &str) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // 18 digits are more than any machine has; with them no product below overflows.
    if whole.is_empty() || whole.len() > 18 || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = format!("{fraction:0<9}").parse().ok()?;
    Some(whole * NANO + fraction)
}

fn scale(nanos: u128, suffix: &str) -> Option<u128> {
    let binary = |power: u32| nanos.checked_mul(1 << (10 * power));
    let decimal = |power: i32| {
        let factor = 10_u128.checked_pow(power.unsigned_abs())?;
        if power < 0 { Some(nanos / factor) } else { nanos.checked_mul(factor) }
    };
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => decimal(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_are_equal_in_every_notation() {
        for (one, other) in [
            ("100m", "0.1"),
            ("1", "1000m"),
            ("1Ki", "1024"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("5e-1", "500m"),
            ("1M", "1000k"),
            ("2u", "2000n"),
            ("1Ei", "1024Pi"),
        ] {
            assert_eq!(one.parse::<Quantity>(), other.parse::<Quantity>(), "{one} {other}");
        }
        assert!("64Mi".parse::<Quantity>().unwrap() < "64.5Mi".parse().unwrap());
        assert_eq!("0.10".parse::<Quantity>().unwrap().as_str(), "0.10");
    }

    #[test]
    fn what_is_no_amount_is_refused_with_what_is() {
        for text in [
            "",
            "m",
            "1 Mi",
            "-1",
            "+1",
            "1mi",
            "1KB",
            "1e",
            "1ee3",
            ".5",
            "1.",
            "1.2.3",
            "0.0000000001",
            "1234567890123456789",
            "1e99",
            "١",
        ] {
            let error = text.parse::<Quantity>().unwrap_err();
            assert!(error.contains("64Mi"), "{text}: {error}");
        }
    }
}

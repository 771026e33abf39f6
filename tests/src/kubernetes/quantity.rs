//! Quantities, as resources are measured in: `250m`, `64Mi`, `1e3`.
//!
//! In comes text, out goes how much it is; none where it is no quantity.

/// How much a quantity is: a number and a suffix, decimal or binary.
#[must_use]
pub fn amount(text: &str) -> Option<f64> {
    let split = text.find(|letter: char| !letter.is_ascii_digit() && !"+-.".contains(letter));
    let (number, suffix) = text.split_at(split.unwrap_or(text.len()));
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?;
            10_f64.powi(exponent.parse().ok()?)
        }
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn quantities_are_numbers_with_known_suffixes() {
        for (text, wanted) in [
            ("1", Some(1.0)),
            ("250m", Some(0.25)),
            ("64Mi", Some(67_108_864.0)),
            ("1e3", Some(1000.0)),
            ("1.5G", Some(1.5e9)),
            ("-1", Some(-1.0)),
            ("", None),
            ("m", None),
            ("64mb", None),
            ("1 Gi", None),
        ] {
            assert_eq!(amount(text), wanted, "{text:?}");
        }
    }
}

//! The parameters of a query, as applications read them.
//!
//! Comes in: a target's query, raw. Goes out: the value of a parameter, decoded as `application/x-www-form-urlencoded`
//! (`%20` and `+` are both a space). Of a parameter that stands more than once the first counts, as the Gateway API
//! recommends; a malformed escape stands for itself.

use std::borrow::Cow;

/// The first value of a parameter; `None` without one. A parameter without `=` has an empty value.
#[must_use]
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    query.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// What the text says, without its escapes.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let raw = text.as_bytes();
    if memchr::memchr2(b'%', b'+', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = after;
        plain.push(match first {
            b'+' => b' ',
            b'%' => match escaped(after) {
                Some(byte) => {
                    rest = &after[2..];
                    byte
                }
                None => b'%',
            },
            other => *other,
        });
    }
    Cow::Owned(plain)
}

/// The byte that two hexadecimal digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (high, low) = (digits.first()?, digits.get(1)?);
    Some(value(*high)? << 4 | value(*low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        for (query, name, expected) in [
            ("animal=whale", "animal", Some("whale")),
            ("a=1&animal=whale&animal=dolphin", "animal", Some("whale")),
            ("animal=a%20b+c", "animal", Some("a b c")),
            ("an%69mal=x", "animal", Some("x")),
            ("animal", "animal", Some("")),
            ("animal=", "animal", Some("")),
            ("&&animal=x=y", "animal", Some("x=y")),
            ("animal=100%", "animal", Some("100%")),
            ("animal=%4", "animal", Some("%4")),
            ("animal=%zz", "animal", Some("%zz")),
            ("Animal=whale", "animal", None),
            ("", "animal", None),
            ("animals=x", "animal", None),
        ] {
            let value = parameter(query, name);
            let value = value.map(|value| String::from_utf8(value.into_owned()).expect("text"));
            assert_eq!(value.as_deref(), expected, "{query} {name}");
        }
    }
}

//! Checks that the definitions of several of the Gateway API's kinds make.

use weft_proto::{Pattern, names::is_subdomain};

use crate::model::FieldError;

/// Checks that a list is no longer than the definition allows.
pub(super) fn at_most(field: &str, count: usize, most: usize) -> Result<(), FieldError> {
    if count <= most {
        return Ok(());
    }
    Err(FieldError::new(field, format!("has {count} entries: use at most {most}")))
}

/// Checks that a list has an entry.
pub(super) fn not_empty(field: &str, count: usize) -> Result<(), FieldError> {
    if count > 0 { Ok(()) } else { Err(FieldError::new(field, "is empty: use at least one entry")) }
}

/// Checks that a number is in a range.
pub(super) fn within(field: &str, value: i64, least: i64, most: i64) -> Result<(), FieldError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(FieldError::new(field, format!("{value} is out of range: use {least} to {most}")))
}

/// Checks that a text has a length of a range, in bytes.
pub(super) fn length(field: &str, text: &str, least: usize, most: usize) -> Result<(), FieldError> {
    if (least..=most).contains(&text.len()) {
        return Ok(());
    }
    let length = text.len();
    Err(FieldError::new(field, format!("has {length} characters: use {least} to {most}")))
}

/// Checks a regular expression.
pub(super) fn pattern(field: &str, text: &str) -> Result<(), FieldError> {
    match Pattern::new(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(FieldError::new(field, format!("{text:?} {error}"))),
    }
}

/// Checks a name of a section, an object or a namespace.
pub(super) fn name(field: &str, text: &str) -> Result<(), FieldError> {
    if is_subdomain(text) {
        return Ok(());
    }
    let right =
        "use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit";
    Err(FieldError::new(field, format!("{text:?} is not a valid name: {right}")))
}

/// Checks a host name; where `wildcard` is set, it may begin with "*.".
pub(super) fn hostname(field: &str, text: &str, wildcard: bool) -> Result<(), FieldError> {
    let host = text.strip_prefix("*.").filter(|_| wildcard).unwrap_or(text);
    if is_subdomain(host) && text.len() <= 253 {
        return Ok(());
    }
    let right = if wildcard { "shop.example.com or *.example.com" } else { "shop.example.com" };
    let right = format!("use one such as {right}, in lower case, without port");
    Err(FieldError::new(field, format!("{text:?} is no host name: {right}")))
}

/// Checks the hosts that a route is for.
pub(super) fn hostnames(hostnames: &[String]) -> Result<(), FieldError> {
    at_most("spec.hostnames", hostnames.len(), 16)?;
    for (index, host) in hostnames.iter().enumerate() {
        hostname(&format!("spec.hostnames[{index}]"), host, true)?;
    }
    Ok(())
}

/// Checks that the names of a list of rules are right, and that none stands twice.
pub(super) fn rule_names<'a>(
    names: impl IntoIterator<Item = Option<&'a str>>,
) -> Result<(), FieldError> {
    let mut seen = Vec::new();
    for (index, rule) in names.into_iter().enumerate() {
        let Some(rule) = rule else { continue };
        let field = format!("spec.rules[{index}].name");
        name(&field, rule)?;
        if seen.contains(&rule) {
            let message = format!("{rule:?} names two rules: use another name");
            return Err(FieldError::new(field, message));
        }
        seen.push(rule);
    }
    Ok(())
}

/// Whether a text is a header's name (RFC 9110 section 5.6.2, token).
pub(super) fn is_token(text: &str) -> bool {
    let is_mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

/// Checks a header's name.
pub(super) fn header_name(field: &str, text: &str) -> Result<(), FieldError> {
    length(field, text, 1, 256)?;
    if is_token(text) {
        return Ok(());
    }
    let right = "use letters, digits and !#$%&'*+-.^_`|~";
    Err(FieldError::new(field, format!("{text:?} is no header's name: {right}")))
}

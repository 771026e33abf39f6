//! What must hold of names for any text: fuzzed, and run over the corpus by the tests.
//!
//! - A name has one text: what was parsed is what is written. TLS server names alone do not tell cases apart.
//! - An identity is made of its parts.
//! - A join token's secret shows neither in an error nor in `Debug`.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use crate::{
    JoinToken, MeshServerName, NameError, Port, ServiceName, ServicePort, SpiffeId, TrustDomain,
    WorkloadName,
};

/// Checks it for a text of these bytes; names come in as text only.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check_written::<TrustDomain>(text);
    check_written::<SpiffeId>(text);
    check_written::<ServiceName>(text);
    check_written::<WorkloadName>(text);
    check_written::<Port>(text);
    check_written::<ServicePort>(text);
    if parse::<MeshServerName>(text).is_some() {
        assert!(MeshServerName::is_mesh(text));
    }
    if let Ok(id) = text.parse::<SpiffeId>() {
        check_parts(&id);
    }
    check_token(text);
}

/// Parses a text, and what is written of it.
fn parse<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = NameError> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(name) => {
            assert_eq!(name.to_string().parse::<T>().as_ref(), Ok(&name));
            Some(name)
        }
        Err(error) => {
            assert!(!error.why.is_empty() && text.contains(&error.value), "{error}");
            None
        }
    }
}

fn check_written<T>(text: &str)
where
    T: FromStr<Err = NameError> + Display + Debug + PartialEq,
{
    if let Some(name) = parse::<T>(text) {
        assert_eq!(name.to_string(), text);
    }
}

fn check_parts(id: &SpiffeId) {
    let domain: TrustDomain = id.trust_domain().parse().expect("an identity has a trust domain");
    let made = SpiffeId::new(&domain, id.namespace(), id.service_account());
    assert_eq!(made.as_ref(), Ok(id));
}

fn check_token(text: &str) {
    match text.parse::<JoinToken>() {
        Ok(token) => {
            assert_eq!(token.to_string(), text.trim());
            assert!(!format!("{token:?}").contains(&token.secret));
        }
        Err(error) => assert_eq!(error.value, "(hidden)"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_names_is_written_as_it_was_read() {
        crate::replay::corpus("names", super::check);
    }
}

//! Join tokens: how a sidecar outside Kubernetes proves, the first time, who it is.
//!
//! Comes in: `weft1.ID.SECRET.ROOT`, read from a 0600 file or an inherited descriptor. Goes out: its parts.
//! `ROOT` is the SHA-256 of the root certificate (DER) under which the control plane serves: whoever holds
//! the token knows whom to trust before the first byte is exchanged. The secret never shows in `Debug`.

use std::{fmt, str::FromStr};

use crate::NameError;

const PREFIX: &str = "weft1";
const FORM: &str = "use the whole text that `weft token create` printed: weft1.ID.SECRET.ROOT";

/// A join token, in parts.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token in `weft token list`; no secret.
    pub id: String,
    /// What proves possession, 64 hexadecimal digits.
    pub secret: String,
    /// SHA-256 of the root certificate, DER.
    pub root_sha256: [u8; 32],
}

impl fmt::Display for JoinToken {
    /// The whole token with its secret: for the file or the terminal it is handed over in, never for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.id, self.secret, hex(&self.root_sha256))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        // The value is not repeated in the error: part of it may be the secret.
        let error = || NameError { what: "join token", value: "(hidden)".into(), why: FORM };
        let mut parts = text.trim().split('.');
        let mut next = || parts.next().ok_or_else(error);
        let (prefix, id, secret, root) = (next()?, next()?, next()?, next()?);
        if prefix != PREFIX || parts.next().is_some() || !is_hex(id, 16) || !is_hex(secret, 64) {
            return Err(error());
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            root_sha256: digest_from_hex(root).ok_or_else(error)?,
        })
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A SHA-256 from its 64 lower-case hexadecimal digits.
#[must_use]
pub fn digest_from_hex(text: &str) -> Option<[u8; 32]> {
    if !is_hex(text, 64) {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { id: "0123456789abcdef".into(), secret: "5a".repeat(32), root_sha256: [7; 32] }
    }

    #[test]
    fn a_token_survives_its_text() {
        let text = format!("  {}\n", token());
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let whole = token().to_string();
        let cut = whole[..whole.len() - 1].to_owned();
        for wrong in
            ["", "weft1", "weft2.a.b.c", &cut, &format!("{whole}.x"), &whole.to_uppercase()]
        {
            let error = wrong.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains("weft token create"), "{error}");
            assert!(!error.contains(&token().secret), "{error}");
        }
    }

    #[test]
    fn the_secret_does_not_show_in_debug() {
        assert!(!format!("{:?}", token()).contains(&token().secret));
    }
}

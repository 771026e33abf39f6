//! How sidecars make handshakes with each other.

use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};
use serde::Serialize;

/// Handshakes between sidecars, whichever side makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args, Serialize)]
pub struct TlsSettings {
    /// How keys are agreed on between sidecars
    #[arg(
        id = "tls-key-exchange",
        long,
        env = "WEFT_TLS_KEY_EXCHANGE",
        value_enum,
        default_value_t = KeyExchange::PostQuantum
    )]
    pub key_exchange: KeyExchange,
    /// Resume sessions with endpoints that were called before, and let callers do so
    #[arg(
        id = "tls-resumption",
        long,
        env = "WEFT_TLS_RESUMPTION",
        default_value_t = true,
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new()
    )]
    pub resumption: bool,
}

/// How keys are agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyExchange {
    /// X25519MLKEM768 with sidecars that have it, else X25519 or P-256
    PostQuantum,
    /// X25519 or P-256
    Classical,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { key_exchange: KeyExchange::PostQuantum, resumption: true }
    }
}

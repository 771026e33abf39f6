//! Why a client codec could not bring back a response's head: what both codecs tell the exchange.
//!
//! It says how much of the request may have reached the application, which decides whether another attempt
//! is safe; a codec that cannot prove that nothing did says [`Delivery::Unknown`].

use std::borrow::Cow;

use crate::{
    error::{Delivery, ProxyError},
    reason::Reason,
};

/// A request that got no response head.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct SendError {
    /// The documented code.
    pub reason: Reason,
    /// How much may have reached the application.
    pub delivery: Delivery,
    /// What exactly happened.
    pub detail: Cow<'static, str>,
}

impl SendError {
    /// Provably nothing reached the application.
    pub fn undelivered(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, delivery: Delivery::Nothing, detail: detail.into() }
    }

    /// Something may have reached the application.
    pub fn after_send(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, delivery: Delivery::Unknown, detail: detail.into() }
    }
}

impl From<SendError> for ProxyError {
    fn from(error: SendError) -> Self {
        match error.delivery {
            Delivery::Nothing => Self::new(error.reason, error.detail),
            Delivery::Unknown => Self::after_send(error.reason, error.detail),
        }
    }
}

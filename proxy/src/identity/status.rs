//! How issuing goes, for readiness and metrics.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use weft_proto::SpiffeId;

use super::{Credentials, IssueError};
use crate::clock;

/// How issuing goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityStatus {
    /// Who we are; `None` before the first SVID.
    pub identity: Option<SpiffeId>,
    /// The last second in which the SVID holds, since the Unix epoch.
    pub not_after: Option<Duration>,
    /// Whether it holds now: without it no mesh connection can be made.
    pub ready: bool,
    /// SVIDs issued since the start.
    pub issued: u64,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// Why the last attempt failed; `None` when it did not.
    pub last_failure: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    issued: AtomicU64,
    failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Record {
    pub(super) fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
        self.set_last(None);
    }

    pub(super) fn failed(&self, error: &IssueError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.set_last(Some(error.to_string()));
    }

    pub(super) fn status(&self, credentials: Option<&Credentials>) -> IdentityStatus {
        let svid = credentials.map(|credentials| &credentials.svid);
        IdentityStatus {
            identity: svid.map(|svid| svid.identity().clone()),
            not_after: svid.map(|svid| svid.not_after()),
            ready: svid.is_some_and(|svid| svid.holds_at(clock::since_epoch())),
            issued: self.issued.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn set_last(&self, failure: Option<String>) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

//! Keeps the identity alive: the first SVID by a token, renewals by the SVID in force.
//!
//! ```text
//!            issued                      due, or another root signs
//! Joining ----------> Holding ---------------------------------------> Renewing
//!    ^                   ^                     issued                      |
//!    |                   +-------------------------------------------------+
//!    +------------------------- the SVID expired --------------------------+
//! ```
//! A failure is tried again after a jittered, growing pause; a renewal goes on trying until the SVID in force has
//! expired, and then the token is the proof again. Each SVID has a key of its own.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Credentials, Identity, IssueError, Issuer, PrivateKey, Proof, Svid, TokenError, TokenSource,
    schedule,
};
use crate::{
    clock,
    tls::{Bundle, Role, fault::at},
};

/// The wall clock is looked at so often while waiting: it may have been set, or the machine asleep.
const LOOK: Duration = Duration::from_secs(30);

/// A pipe must be closed by its writer within so long.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells the time since the Unix epoch.
pub type WallClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Keeps the identity alive.
pub struct Keeper<I> {
    identity: Identity,
    issuer: I,
    source: Option<TokenSource>,
    /// The last proof that could be read: a descriptor can be read once, and a file may be taken away.
    proof: Option<Proof>,
    /// How many SVIDs in a row came under another root than the bundle's newest.
    disagreements: u32,
    wall_clock: WallClock,
}

impl<I: Issuer> Keeper<I> {
    /// Keeps `identity` alive by `issuer`; the first proof comes from `source`.
    #[must_use]
    pub fn new(identity: Identity, issuer: I, source: Option<TokenSource>) -> Self {
        let wall_clock = Arc::new(clock::since_epoch);
        Self { identity, issuer, source, proof: None, disagreements: 0, wall_clock }
    }

    /// With another clock than the system's.
    #[must_use]
    pub fn with_wall_clock(self, wall_clock: WallClock) -> Self {
        Self { wall_clock, ..self }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.identity.watch();
        loop {
            self.issue().await;
            self.wait_until_due(&mut changes).await;
        }
    }

    /// Issues, and tries again until it succeeds.
    async fn issue(&mut self) {
        let mut failures = 0;
        loop {
            let error = match self.try_to_issue().await {
                Ok(()) => return,
                Err(error) => error,
            };
            failures += 1;
            self.identity.shared.record.failed(&error);
            let left = self.left();
            let pause = schedule::retry_after(failures, left, fastrand::f64());
            let holds_for = left.filter(|left| !left.is_zero());
            tracing::warn!(%error, failures, retry_in = ?pause, ?holds_for, "no SVID was issued");
            clock::sleep(pause).await;
        }
    }

    async fn try_to_issue(&mut self) -> Result<(), IssueError> {
        let proof = match self.left() {
            Some(left) if !left.is_zero() => Proof::Svid,
            Some(_) | None => self.read_proof().await?,
        };
        let renewal = matches!(proof, Proof::Svid);
        let key = PrivateKey::generate()?;
        let issued = self.issuer.issue(key.signing_request()?, proof).await?;
        let svid = Svid::new(issued.chain, key)?;
        let now = (self.wall_clock)();
        Bundle::new(issued.roots.clone())?
            .verify(svid.chain(), Role::Client, now)
            .map_err(|fault| IssueError::Unusable(fault.to_string()))?;
        let (identity, not_after) = (svid.identity().clone(), at(svid.not_after()));
        self.identity.install_issued(svid, issued.roots, now)?;
        self.identity.shared.record.issued();
        tracing::info!(%identity, not_after, renewal, "an SVID is in force");
        Ok(())
    }

    /// How long the SVID in force still holds; `None` before the first.
    fn left(&self) -> Option<Duration> {
        let credentials = self.identity.credentials()?;
        Some(credentials.svid.not_after().saturating_sub((self.wall_clock)()))
    }

    /// The proof as it is now in its place; a join token else as it was read last. A pod's token would have expired,
    /// and its roots might be trusted no longer.
    async fn read_proof(&mut self) -> Result<Proof, IssueError> {
        let source = self.source.clone().ok_or(IssueError::NoToken)?;
        if let (TokenSource::Descriptor(_), Some(proof)) = (&source, &self.proof) {
            return Ok(proof.clone());
        }
        let from = source.to_string();
        let failed = |error| TokenError::Read { from: from.clone(), error };
        let read = tokio::task::spawn_blocking(move || source.read());
        let read = match clock::timeout(TOKEN_TIMEOUT, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => Err(failed(std::io::Error::other(error))),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        };
        match (read, &self.proof) {
            (Ok(proof), _) => Ok(self.proof.insert(proof).clone()),
            (Err(TokenError::Read { .. }), Some(proof @ Proof::Token(_))) => Ok(proof.clone()),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Waits until the SVID in force is to be renewed: its time has come, or another root signs now.
    async fn wait_until_due(&mut self, changes: &mut watch::Receiver<Option<Arc<Credentials>>>) {
        let issued_at = (self.wall_clock)();
        let Some(credentials) = changes.borrow_and_update().clone() else { return };
        let not_after = credentials.svid.not_after();
        let mut due = schedule::renew_at(issued_at, not_after, fastrand::f64());
        let mut follows_newest = credentials.bundle.newest_root_issued(credentials.svid.chain());
        if follows_newest {
            self.disagreements = 0;
        } else {
            let least = schedule::after_disagreement(self.disagreements);
            self.disagreements = self.disagreements.saturating_add(1);
            due = due.min(issued_at + self.rotation_delay(not_after).max(least));
        }
        loop {
            let now = (self.wall_clock)();
            if now >= due {
                return;
            }
            tokio::select! {
                () = clock::sleep((due - now).min(LOOK)) => {}
                changed = changes.changed() => {
                    let Ok(()) = changed else { return };
                    let Some(credentials) = changes.borrow_and_update().clone() else { return };
                    let newest = credentials.bundle.newest_root_issued(credentials.svid.chain());
                    if follows_newest && !newest {
                        let delay = self.rotation_delay(not_after);
                        due = due.min((self.wall_clock)() + delay);
                        tracing::info!(renew_in = ?delay, "another root signs now");
                    }
                    follows_newest = newest;
                }
            }
        }
    }

    fn rotation_delay(&self, not_after: Duration) -> Duration {
        let left = not_after.saturating_sub((self.wall_clock)());
        schedule::rotation_delay(left, fastrand::f64())
    }
}

#[cfg(test)]
mod tests;

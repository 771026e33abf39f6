//! Join tokens: made, checked, used, revoked.
//!
//! Comes in: an operator's wish for a token, and secrets that sidecars present. Goes out: a token, once; and
//! whom a presented one stands for. Only the SHA-256 of a secret (256 random bits) is kept. It must never
//! acknowledge a token, a use or a revocation before it is on disk. Blocking: call it off the runtime's
//! threads.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use serde::{Deserialize, Serialize};
use weft_proto::{JoinToken, SpiffeId, TrustDomain, join_token::hex};

use super::{
    CaError,
    durable::{self, Folder, Vault},
    root::unix,
    svid::random,
};

/// Under which name they are kept.
const NAME: &str = "tokens.json";

/// How long a token lives when nobody says.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than this no token lives.
pub const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How long an ended token stays in the list, for an operator to see.
const SHOWN_AFTER_END: Duration = Duration::from_secs(24 * 60 * 60);
/// More tokens than this at once is a mistake.
const MAX_TOKENS: usize = 10_000;

/// A token that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The namespace of the identity.
    pub namespace: String,
    /// The service account of the identity.
    pub service_account: String,
    /// Its life.
    pub ttl: Duration,
    /// How often it may be used; `None`: without bound within its life.
    pub uses: Option<u32>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenStatus {
    /// Its name.
    pub id: String,
    /// The namespace it stands for.
    pub namespace: String,
    /// The service account it stands for.
    pub service_account: String,
    /// When it ends.
    pub expires_at: SystemTime,
    /// Uses left; `None`: without bound.
    pub uses_left: Option<u32>,
    /// Whether an operator ended it.
    pub revoked: bool,
}

/// Why a token does not count.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// It is no token.
    #[error(transparent)]
    Form(#[from] weft_proto::NameError),
    /// No token has this name and secret.
    #[error("the join token is not known here; make one with `weft token create`")]
    Unknown,
    /// Its life is over.
    #[error("the join token {id} has expired; make a new one with `weft token create`")]
    Expired {
        /// Its name.
        id: String,
    },
    /// An operator ended it.
    #[error("the join token {id} was revoked; make a new one with `weft token create`")]
    Revoked {
        /// Its name.
        id: String,
    },
    /// It was used as often as it may be.
    #[error("the join token {id} is used up; make a new one with `weft token create`")]
    UsedUp {
        /// Its name.
        id: String,
    },
    /// The use could not be written down.
    #[error("the join token's use could not be recorded: {0}")]
    Record(CaError),
}

/// The join tokens of a state folder.
pub struct Tokens {
    vault: Arc<dyn Vault>,
    trust_domain: TrustDomain,
    stored: Mutex<Vec<Stored>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    id: String,
    secret_sha256: String,
    namespace: String,
    service_account: String,
    /// Unix seconds.
    expires_at: u64,
    uses_left: Option<u32>,
    revoked: bool,
}

impl Tokens {
    /// Opens the tokens of a state folder.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn open(folder: &Path, trust_domain: TrustDomain) -> Result<Self, CaError> {
        Self::open_in(Arc::new(Folder(folder.to_owned())), trust_domain)
    }

    /// Opens the tokens wherever they are kept.
    ///
    /// # Errors
    /// When they cannot be read or understood.
    pub fn open_in(vault: Arc<dyn Vault>, trust_domain: TrustDomain) -> Result<Self, CaError> {
        let stored = Mutex::new(durable::read(&*vault, NAME)?.unwrap_or_default());
        Ok(Self { vault, trust_domain, stored })
    }

    /// Makes a token that pins a root.
    ///
    /// # Errors
    /// When the identity is malformed, there are too many tokens, or the disk refuses.
    pub fn create(
        &self,
        wanted: NewToken,
        root_sha256: [u8; 32],
        now: SystemTime,
    ) -> Result<(JoinToken, TokenStatus), CaError> {
        SpiffeId::new(&self.trust_domain, &wanted.namespace, &wanted.service_account)?;
        let token =
            JoinToken { id: hex(&random::<8>()?), secret: hex(&random::<32>()?), root_sha256 };
        let new = Stored {
            id: token.id.clone(),
            secret_sha256: secret_hash(&token.secret),
            namespace: wanted.namespace,
            service_account: wanted.service_account,
            expires_at: unix(now + wanted.ttl),
            uses_left: wanted.uses,
            revoked: false,
        };
        let status = new.status();
        self.change(|tokens| {
            tokens.retain(|token| now < token.ends() + SHOWN_AFTER_END);
            if tokens.len() >= MAX_TOKENS {
                let message = format!("there are {MAX_TOKENS} join tokens; let some expire first");
                return Err(CaError::State(message));
            }
            tokens.push(new);
            Ok(true)
        })?;
        Ok((token, status))
    }

    /// Whom a presented token stands for; it is not used by that.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn check(
        &self,
        presented: &JoinToken,
        now: SystemTime,
    ) -> Result<TokenStatus, TokenRefusal> {
        find(&self.lock(), presented, now).map(|(_, status)| status)
    }

    /// Uses a presented token once.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn consume(
        &self,
        presented: &JoinToken,
        now: SystemTime,
    ) -> Result<TokenStatus, TokenRefusal> {
        let mut tokens = self.lock();
        let (index, status) = find(&tokens, presented, now)?;
        if let Some(uses_left) = status.uses_left {
            let mut next = tokens.clone();
            next[index].uses_left = Some(uses_left - 1);
            durable::write(&*self.vault, NAME, &next).map_err(TokenRefusal::Record)?;
            *tokens = next;
        }
        Ok(status)
    }

    /// Ends a token. Returns whether there was one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn revoke(&self, id: &str) -> Result<bool, CaError> {
        self.change(|tokens| {
            let token = tokens.iter_mut().find(|token| token.id == id);
            Ok(token.map(|token| token.revoked = true).is_some())
        })
    }

    /// Every token, the newest last.
    #[must_use]
    pub fn list(&self) -> Vec<TokenStatus> {
        self.lock().iter().map(Stored::status).collect()
    }

    /// Changes the list: on disk, then here. `change` says whether it changed anything.
    fn change(
        &self,
        change: impl FnOnce(&mut Vec<Stored>) -> Result<bool, CaError>,
    ) -> Result<bool, CaError> {
        let mut tokens = self.lock();
        let mut next = tokens.clone();
        let changed = change(&mut next)?;
        if changed {
            durable::write(&*self.vault, NAME, &next)?;
            *tokens = next;
        }
        Ok(changed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stored>> {
        // The list is replaced as a whole: a panic cannot leave it half changed.
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn ends(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.expires_at)
    }

    fn status(&self) -> TokenStatus {
        TokenStatus {
            id: self.id.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            expires_at: self.ends(),
            uses_left: self.uses_left,
            revoked: self.revoked,
        }
    }
}

/// Finds a token by name and secret. Without the secret nobody learns whether the name exists.
fn find(
    tokens: &[Stored],
    presented: &JoinToken,
    now: SystemTime,
) -> Result<(usize, TokenStatus), TokenRefusal> {
    let hash = secret_hash(&presented.secret);
    let (index, token) = tokens
        .iter()
        .enumerate()
        .find(|(_, token)| token.id == presented.id)
        .filter(|(_, token)| {
            verify_slices_are_equal(token.secret_sha256.as_bytes(), hash.as_bytes()).is_ok()
        })
        .ok_or(TokenRefusal::Unknown)?;
    let id = token.id.clone();
    if token.revoked {
        return Err(TokenRefusal::Revoked { id });
    }
    if now >= token.ends() {
        return Err(TokenRefusal::Expired { id });
    }
    if token.uses_left == Some(0) {
        return Err(TokenRefusal::UsedUp { id });
    }
    Ok((index, token.status()))
}

fn secret_hash(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests;

//! The certificate authority's state in a Secret of the control plane's own namespace.
//!
//! Comes in: a value's bytes. Goes out: the same, after the API has acknowledged them. A write names the version that
//! was read last, so that two control planes cannot overwrite each other's roots: the second one's write is refused.
//! Blocking: call it off the runtime's threads.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use tokio::{runtime::Handle, time::timeout};

use super::{FIELD_MANAGER, MANAGED_BY, STATE, client::ANSWER};
use crate::ca::{CaError, durable::Vault};

/// The Secret.
pub struct SecretVault {
    api: Api<Secret>,
    namespace: String,
    runtime: Handle,
    known: Mutex<Known>,
}

/// What this control plane takes the Secret to be.
#[derive(Default)]
struct Known {
    /// As it was read or written last.
    secret: Option<Secret>,
    /// What was to be written and was not acknowledged: the API may have it all the same.
    unacknowledged: Option<Data>,
}

type Data = BTreeMap<String, ByteString>;

impl SecretVault {
    /// The Secret of this namespace; called on the runtime that the client belongs to.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            runtime: Handle::current(),
            known: Mutex::default(),
        }
    }

    /// Writes one key over what is known.
    async fn replace(
        &self,
        known: &mut Known,
        name: &str,
        bytes: &[u8],
    ) -> Result<Secret, kube::Error> {
        let mut wanted = known.secret.clone().unwrap_or_else(|| self.fresh());
        let data = wanted.data.get_or_insert_default();
        data.insert(name.to_owned(), ByteString(bytes.to_vec()));
        let before = std::mem::replace(&mut known.unacknowledged, wanted.data.clone());

        let settings = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        let written = match &known.secret {
            None => self.api.create(&settings, &wanted).await,
            Some(_) => self.api.replace(STATE, &settings, &wanted).await,
        };
        let conflict = match written {
            Err(kube::Error::Api(status)) if status.code == 409 => status,
            written => return written,
        };
        // Somebody may have labelled it, or the answer to a write of ours was lost: what counts is whether the state
        // is one that is ours.
        let mut present = self.api.get(STATE).await?;
        let last = known.secret.as_ref().and_then(|secret| secret.data.as_ref());
        let is_ours =
            present.data.as_ref() == last || before.is_some_and(|it| present.data == Some(it));
        if present.data == wanted.data {
            return Ok(present);
        }
        if !is_ours {
            return Err(kube::Error::Api(conflict));
        }
        present.data = wanted.data;
        self.api.replace(STATE, &settings, &present).await
    }

    /// Waits for an answer, but not for ever: a lock is held meanwhile.
    async fn answer<T>(
        &self,
        name: &str,
        answer: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, CaError> {
        match timeout(ANSWER, answer).await {
            Ok(answer) => answer.map_err(|error| self.failed(name, &error)),
            Err(_) => {
                let why =
                    format!("the Kubernetes API does not answer within {}s", ANSWER.as_secs());
                Err(CaError::Vault { place: self.place(name), why })
            }
        }
    }

    fn failed(&self, name: &str, error: &kube::Error) -> CaError {
        let why = match error {
            kube::Error::Api(status) if status.code == 409 => {
                "another control plane has changed it: only one may run".to_owned()
            }
            error => error.to_string(),
        };
        CaError::Vault { place: self.place(name), why }
    }

    fn fresh(&self) -> Secret {
        let (label, value) = MANAGED_BY;
        Secret {
            metadata: ObjectMeta {
                name: Some(STATE.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        }
    }
}

impl Vault for SecretVault {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CaError> {
        let secret = self.runtime.block_on(self.answer(name, self.api.get_opt(STATE)))?;
        let bytes = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(name).cloned());
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            Known { secret, unacknowledged: None };
        Ok(bytes.map(|ByteString(bytes)| bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CaError> {
        // Held over the write: the next one must build on what this one leaves.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let written =
            self.runtime.block_on(self.answer(name, self.replace(&mut known, name, bytes)))?;
        *known = Known { secret: Some(written), unacknowledged: None };
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        format!("Secret {}/{STATE}, key {name:?}", self.namespace)
    }
}

#[cfg(test)]
mod tests;

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
use tokio::runtime::Handle;

use super::{FIELD_MANAGER, MANAGED_BY, STATE};
use crate::ca::{CaError, durable::Vault};

/// The Secret.
pub struct SecretVault {
    api: Api<Secret>,
    namespace: String,
    runtime: Handle,
    /// As it was read or written last.
    known: Mutex<Option<Secret>>,
}

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
        known: Option<&Secret>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Secret, kube::Error> {
        let with = |mut secret: Secret| {
            let data = secret.data.get_or_insert_default();
            data.insert(name.to_owned(), ByteString(bytes.to_vec()));
            secret
        };
        let settings = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        let Some(known) = known else {
            return self.api.create(&settings, &with(self.fresh())).await;
        };
        let written = self.api.replace(STATE, &settings, &with(known.clone())).await;
        match written {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // Somebody may have labelled it: what counts is whether the state is the one that we know.
                let present = self.api.get(STATE).await?;
                if present.data != known.data {
                    return Err(kube::Error::Api(status));
                }
                self.api.replace(STATE, &settings, &with(present)).await
            }
            written => written,
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
        let secret = self
            .runtime
            .block_on(self.api.get_opt(STATE))
            .map_err(|error| self.failed(name, &error))?;
        let bytes = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(name).cloned());
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = secret;
        Ok(bytes.map(|ByteString(bytes)| bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CaError> {
        // Held over the write: the next one must build on what this one leaves.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.runtime.block_on(self.replace(known.as_ref(), name, bytes));
        *known = Some(written.map_err(|error| self.failed(name, &error))?);
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        format!("Secret {}/{STATE}, key {name:?}", self.namespace)
    }
}

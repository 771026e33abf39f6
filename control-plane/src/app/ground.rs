//! What a control plane stands on: the files of one machine, or a cluster.
//!
//! Comes in: the settings. Goes out: where objects live, where the authority's state is kept, and the catalog with
//! the mesh as it is when all of it has been read.

use std::{path::Path, sync::Arc, time::Duration};

use kube::Client;
use tokio::task::JoinSet;

use super::{StartError, background, make_folder};
use crate::{
    ca::durable::{Folder, Vault},
    catalog::Catalog,
    config::Config,
    index::Defaults,
    kubernetes::{instances::Instances, vault::SecretVault},
    model::Cidr,
    store::{KubernetesStore, Store},
};

/// A cluster's API that does not answer is named this often.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// In which addresses of a cluster may lie: the private ones (RFC 1918, RFC 6598, RFC 4193). Others there, which are
/// nobody's, pass through.
const PRIVATE: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// What the control plane's parts are made of.
pub(super) struct Ground {
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) vault: Arc<dyn Vault>,
    /// The cluster's API, in a cluster.
    pub(super) cluster: Option<Client>,
}

impl Ground {
    /// On any store, with the state in a folder.
    pub(super) async fn on_machine(
        config: &Config,
        store: Arc<dyn Store>,
        loops: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let defaults = Defaults { inbound_mode: config.inbound_mode, address_ranges: Vec::new() };
        let catalog = Arc::new(Catalog::with_defaults(config.trust_domain.clone(), defaults));
        background::follow_objects(store.clone(), catalog.clone(), loops).await?;
        let vault = Arc::new(Folder(config.state.clone()));
        Ok(Self { store, catalog, vault, cluster: None })
    }

    /// On a cluster. Waits until all has been read, for as long as the API needs.
    pub(super) async fn in_cluster(
        config: &Config,
        client: Client,
        loops: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let address_ranges: Vec<Cidr> =
            PRIVATE.iter().filter_map(|range| range.parse().ok()).collect();
        let defaults = Defaults { inbound_mode: config.inbound_mode, address_ranges };
        let catalog = Arc::new(Catalog::with_defaults(config.trust_domain.clone(), defaults));
        let store = Arc::new(KubernetesStore::follow(client.clone(), loops));
        let instances = Instances::follow(&client, &catalog, loops);
        let read = async {
            store.synced().await;
            instances.synced().await;
        };
        tokio::select! {
            () = read => {}
            () = complain() => {}
        }
        background::follow_objects(store.clone(), catalog.clone(), loops).await?;
        let vault = Arc::new(SecretVault::new(client.clone(), &config.namespace));
        Ok(Self { store, catalog, vault, cluster: Some(client) })
    }
}

/// Says for ever what is waited for.
async fn complain() {
    loop {
        tokio::time::sleep(SAY_AGAIN).await;
        tracing::warn!(
            "the cluster's objects are not all read yet; the Kubernetes API is waited for"
        );
    }
}

/// Makes the folders of a control plane on one machine.
pub(super) fn make_folders(state: &Path, objects: &Path) -> Result<(), StartError> {
    make_folder(state)?;
    make_folder(objects)
}

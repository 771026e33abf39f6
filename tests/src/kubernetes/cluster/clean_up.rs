//! Leaving a real cluster as it was: what a test made goes, also when it failed.
//!
//! In come names, out go deletions. A namespace is emptied by force, as no kubelet may be there to let pods go, and
//! finalized when no controller does it. Custom resource definitions stay: other tests may be using them.

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api as Objects, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
    discovery::{ApiGroup, Discovery, Scope, verbs},
};

/// What a test made that does not go by itself.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) namespaces: Vec<String>,
    pub(super) nodes: Vec<String>,
    pub(super) global: Vec<(ApiResource, String)>,
}

impl Made {
    /// Deletes all of it, on a runtime of its own, as the test's may be on its way out.
    pub(super) fn delete_all(self, config: Config) {
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async {
                if let Ok(client) = Client::try_from(config) {
                    self.delete(&client).await;
                }
            });
        });
        if thread.join().is_err() {
            eprintln!("the cluster was not left as it was");
        }
    }

    async fn delete(self, client: &Client) {
        let now = DeleteParams::default().grace_period(0);
        for (resource, name) in &self.global {
            let objects: Objects<DynamicObject> = Objects::all_with(client.clone(), resource);
            report(name, objects.delete(name, &now).await.map(drop));
        }
        for name in &self.namespaces {
            report(name, delete_namespace(client, name, &now).await);
        }
        let nodes: Objects<Node> = Objects::all(client.clone());
        for name in &self.nodes {
            report(name, nodes.delete(name, &now).await.map(drop));
        }
    }
}

async fn delete_namespace(client: &Client, name: &str, now: &DeleteParams) -> kube::Result<()> {
    delete_contents(client, name, now).await?;
    let namespaces: Objects<Namespace> = Objects::all(client.clone());
    namespaces.delete(name, now).await?;
    let Some(mut left) = namespaces.get_opt(name).await? else { return Ok(()) };
    // Where a controller is at work, it finalizes the namespace once it is empty; its own word is not taken from it.
    if has_controllers(client).await {
        return Ok(());
    }
    left.spec.get_or_insert_default().finalizers = Some(Vec::new());
    namespaces.replace_subresource("finalize", name, &PostParams::default(), &left).await.map(drop)
}

/// Empties a namespace: without a controller, what is in it would outlive it.
async fn delete_contents(client: &Client, name: &str, now: &DeleteParams) -> kube::Result<()> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let resources = discovery.groups().flat_map(ApiGroup::recommended_resources);
    for (resource, capabilities) in resources {
        let goes = capabilities.supports_operation(verbs::DELETE_COLLECTION);
        if !goes || capabilities.scope != Scope::Namespaced {
            continue;
        }
        let objects: Objects<DynamicObject> =
            Objects::namespaced_with(client.clone(), name, &resource);
        let deleted = objects.delete_collection(now, &ListParams::default()).await;
        report(&format!("{} in {name}", resource.plural), deleted.map(drop));
    }
    Ok(())
}

/// A controller manager leaves a service account in each namespace of its own accord.
async fn has_controllers(client: &Client) -> bool {
    use k8s_openapi::api::core::v1::ServiceAccount;

    let accounts: Objects<ServiceAccount> = Objects::namespaced(client.clone(), "kube-public");
    accounts.get_opt("default").await.is_ok_and(|account| account.is_some())
}

/// A test's outcome is not changed by what cannot be cleaned up; it is said.
fn report(name: &str, result: kube::Result<()>) {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => eprintln!("{name} was not deleted: {error}"),
        Ok(()) => {}
    }
}

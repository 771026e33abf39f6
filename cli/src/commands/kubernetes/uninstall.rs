//! `weft uninstall`: prints what to delete, for `| kubectl delete -f -`. It reaches no cluster.
//!
//! Comes in: the objects of an installation. Goes out: the same by name, last made first deleted, with the Secret
//! that the control plane made; on stderr what no list made beforehand can name.

use serde_norway::{Mapping, Value};

use super::{CONTROL_PLANE, SYSTEM_NAMESPACE, manifests};
use crate::{
    command::{InstallArgs, UninstallArgs},
    output,
};

/// What stdout cannot hold: `kubectl delete -f` deletes by name, and pods are the user's.
const REST: &str = "\
note: what this list cannot name:
  the mesh's roots, in every namespace that had meshed pods:
    kubectl delete configmaps --all-namespaces --field-selector=metadata.name=weft-roots
  pods that have a sidecar: take the label weft.dev/inject away and restart them before you delete Weft; `weft check`
  lists those that are left. Without a control plane their sidecars work until their certificates end, 24 h.
";

pub(crate) fn print(args: &UninstallArgs) -> anyhow::Result<()> {
    output::print(&manifests::to_yaml(&to_delete(args.keep_crds)?)?)?;
    eprint!("{REST}");
    Ok(())
}

/// Each object by its name: the webhook first, so that nothing asks a control plane that is going; the namespace
/// last.
fn to_delete(keep_crds: bool) -> anyhow::Result<Vec<Value>> {
    let options = InstallArgs { no_crds: keep_crds, ..InstallArgs::default() };
    let mut objects: Vec<Value> = manifests::objects(&options)?.iter().map(identity).collect();
    // Made at run time.
    objects.insert(1, secret());
    objects.reverse();
    Ok(objects)
}

fn identity(object: &Value) -> Value {
    let mut metadata = Mapping::new();
    for field in ["name", "namespace"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let mut identity = Mapping::new();
    for field in ["apiVersion", "kind"] {
        identity.insert(field.into(), object[field].clone());
    }
    identity.insert("metadata".into(), metadata.into());
    identity.into()
}

/// The certificate authority's key, roots and tokens.
fn secret() -> Value {
    let mut secret = Value::from(Mapping::new());
    secret["apiVersion"] = "v1".into();
    secret["kind"] = "Secret".into();
    secret["metadata"] = Mapping::new().into();
    secret["metadata"]["name"] = format!("{CONTROL_PLANE}-state").into();
    secret["metadata"]["namespace"] = SYSTEM_NAMESPACE.into();
    secret
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn named(object: &Value) -> String {
        format!("{:?} {:?}", object["kind"], object["metadata"]["name"])
    }

    #[test]
    fn everything_that_was_installed_is_deleted_and_the_secret() {
        let installed =
            manifests::objects(&InstallArgs::default()).expect("the manifests are right");
        let mut expected: BTreeSet<String> = installed.iter().map(named).collect();
        expected.insert(named(&secret()));
        let deleted = to_delete(false).expect("the manifests are right");
        assert_eq!(deleted.iter().map(named).collect::<BTreeSet<_>>(), expected);
        assert_eq!(deleted[0]["kind"], "MutatingWebhookConfiguration");
        assert_eq!(deleted.last().expect("some")["kind"], "Namespace");
    }

    #[test]
    fn only_names_are_printed() {
        for object in to_delete(false).expect("the manifests are right") {
            let fields = object.as_mapping().expect("an object").len();
            assert_eq!(fields, 3, "{object:?}");
            assert!(object["metadata"]["labels"].is_null(), "{object:?}");
        }
    }

    #[test]
    fn definitions_are_kept_when_asked() {
        let kept = to_delete(true).expect("the manifests are right");
        assert!(kept.iter().all(|object| object["kind"] != manifests::DEFINITION));
    }
}

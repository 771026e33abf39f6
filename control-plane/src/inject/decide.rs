//! Whether a pod is injected: its own word, its namespace's, and what no sidecar can stand beside. Labels come in,
//! a reason to leave the pod alone goes out, or none.

use std::fmt;

use serde_json::Value;

use super::{Context, shape::strings};
use crate::model::{
    FieldError,
    pod_settings::{INJECT, inject_word},
};

/// Namespaces of Kubernetes itself: a pod there that does not start may stop a cluster.
const SYSTEM_NAMESPACES: [&str; 2] = ["kube-system", "kube-node-lease"];
/// The label that everything of Weft's own carries.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "weft");
/// The kubelet's copy of a pod that it read from a file: no change of it has an effect.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Why a pod is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Neither the pod nor its namespace asks.
    NotAsked,
    /// The pod's own label or annotation says no.
    Disabled,
    /// It lies in a namespace of the system's.
    System(String),
    /// It is a part of Weft.
    Own,
    /// It shares the node's network.
    HostNetwork,
    /// It runs on Windows.
    Windows,
    /// The kubelet reads it from a file of its node.
    Static,
    /// It has this very sidecar.
    AlreadyInjected,
    /// It makes no pods.
    NoPods,
    /// It has a template of pods, and is of a kind that Weft does not know.
    UnknownKind,
}

impl Reason {
    /// Whether whoever labelled the pod or its namespace would wonder.
    #[must_use]
    pub const fn is_surprising(&self) -> bool {
        match self {
            Self::HostNetwork | Self::Windows | Self::Static => true,
            Self::NotAsked
            | Self::Disabled
            | Self::System(_)
            | Self::Own
            | Self::AlreadyInjected
            | Self::NoPods
            | Self::UnknownKind => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => write!(f, "neither it nor its namespace says {INJECT}: enabled"),
            Self::Disabled => write!(f, "it says {INJECT}: disabled"),
            Self::System(namespace) => {
                write!(f, "{namespace} is a namespace of the system, which never waits for a mesh")
            }
            Self::Own => f.write_str("it is a part of Weft itself"),
            Self::HostNetwork => f.write_str(
                "hostNetwork is true: its connections are its node's, which are not intercepted",
            ),
            Self::Windows => f.write_str("it runs on Windows, for which there is no sidecar"),
            Self::Static => {
                f.write_str("it is a static pod, which the kubelet runs from a file of its node")
            }
            Self::AlreadyInjected => f.write_str("it has its sidecar already"),
            Self::NoPods => f.write_str("it makes no pods"),
            Self::UnknownKind => write!(
                f,
                "its kind is not known here: put the label {INJECT}: enabled into its pods' template, and the cluster \
                 injects them"
            ),
        }
    }
}

/// Why the pod is left alone, if it is.
pub(super) fn decide(pod: &Value, context: &Context<'_>) -> Result<Option<Reason>, FieldError> {
    let namespace = context.namespace.name.as_str();
    let labels = strings(pod.pointer("/metadata/labels"));
    let annotations = strings(pod.pointer("/metadata/annotations"));
    if SYSTEM_NAMESPACES.contains(&namespace) || namespace == context.settings.system_namespace {
        return Ok(Some(Reason::System(namespace.to_owned())));
    }
    if labels.get(PART_OF.0).is_some_and(|part| part == PART_OF.1) {
        return Ok(Some(Reason::Own));
    }
    match own_word(labels.get(INJECT), annotations.get(INJECT))? {
        Some(true) => {}
        Some(false) => return Ok(Some(Reason::Disabled)),
        None if context.asked => {}
        None => match namespaces_word(context)? {
            true => {}
            false => return Ok(Some(Reason::NotAsked)),
        },
    }
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return Ok(Some(Reason::HostNetwork));
    }
    if pod.pointer("/spec/os/name").is_some_and(|name| name == "windows") {
        return Ok(Some(Reason::Windows));
    }
    Ok(annotations.contains_key(MIRROR).then_some(Reason::Static))
}

/// What the pod says itself.
fn own_word(
    label: Option<&String>,
    annotation: Option<&String>,
) -> Result<Option<bool>, FieldError> {
    let read = |place: &str, value: Option<&String>| {
        let error =
            |message: String| FieldError::new(format!("metadata.{place}[{INJECT}]"), message);
        value.map(|value| inject_word(value)).transpose().map_err(error)
    };
    match (read("labels", label)?, read("annotations", annotation)?) {
        (Some(label), Some(annotation)) if label != annotation => Err(FieldError::new(
            format!("metadata.annotations[{INJECT}]"),
            "says the opposite of the label of that name: keep one of them",
        )),
        (label, annotation) => Ok(label.or(annotation)),
    }
}

fn namespaces_word(context: &Context<'_>) -> Result<bool, FieldError> {
    let Some(value) = context.namespace.labels.get(INJECT) else { return Ok(false) };
    inject_word(value).map_err(|message| {
        FieldError::new(format!("the namespace's metadata.labels[{INJECT}]"), message)
    })
}

//! The table of kinds. A new kind is one entry here and one file with its `Spec`; everything that treats
//! all objects alike (parsing, storing, listing, the spelling of names) follows from the entry.

use std::fmt;

use schemars::JsonSchema as _;

use super::{
    access_policy::AccessPolicySpec,
    core::{NamespaceSpec, ServiceAccountSpec},
    crd::{Column, Rule, SchemaFn},
    external_service::ExternalServiceSpec,
    gateway::{
        grpc_route::GrpcRouteSpec,
        http_route::HttpRouteSpec,
        opaque_route::{TcpRouteSpec, TlsRouteSpec},
        reference_grant::ReferenceGrantSpec,
    },
    mesh_config::MeshConfigSpec,
    metadata::Metadata,
    object::{FieldError, ObjectKey, Resource, Spec, Status},
    parse::{ParseFn, parse_as},
    service::ServiceSpec,
    traffic_policy::TrafficPolicySpec,
    workload::WorkloadSpec,
};

/// The API version of core Kubernetes kinds.
pub const CORE: &str = "v1";
/// The group of Weft's own kinds.
pub const WEFT_GROUP: &str = "weft.dev";
/// The API version of Weft's own kinds.
pub const WEFT: &str = "weft.dev/v1alpha1";
/// The API version of the Gateway API's kinds, once they are done;
const GATEWAY: &str = "gateway.networking.k8s.io/v1";
/// before that,
const GATEWAY_BETA: &str = "gateway.networking.k8s.io/v1beta1";
/// and before that.
const GATEWAY_ALPHA3: &str = "gateway.networking.k8s.io/v1alpha3";
const GATEWAY_ALPHA2: &str = "gateway.networking.k8s.io/v1alpha2";

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In one, "default" when none is named.
    Namespaced,
    /// Of the whole mesh.
    Mesh,
}

/// What fields that Weft does not know mean in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// A mistake: refused. For Weft's own kinds.
    Strict,
    /// Somebody else's: dropped. For Kubernetes kinds.
    Lenient,
}

/// One entry of the table.
#[derive(Debug)]
pub struct KindInfo {
    /// The kind.
    pub kind: Kind,
    /// Its name, "Service".
    pub name: &'static str,
    /// "services".
    pub plural: &'static str,
    /// Short names, "svc".
    pub short: &'static [&'static str],
    /// "v1", "weft.dev/v1alpha1": the version that is written.
    pub api_version: &'static str,
    /// Others that are read, the newest first: what of them is used is alike.
    pub older: &'static [&'static str],
    /// Where its objects live.
    pub scope: Scope,
    /// How unknown fields are treated.
    pub fields: Fields,
    pub(super) parse: ParseFn,
    /// How the spec describes itself: kinds of Weft's own only.
    pub(super) schema: Option<SchemaFn>,
    pub(super) columns: &'static [Column],
    pub(super) rules: &'static [Rule],
}

/// Weft's own kinds have a definition in a cluster; the others are there already.
macro_rules! schema {
    (Strict, $spec:ty) => {
        Some(<$spec>::json_schema)
    };
    (Lenient, $spec:ty) => {
        None
    };
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($spec:ty): $api:ident $(| $older:ident)*, $plural:literal, [$($short:literal),*], $scope:ident, $fields:ident;)+) => {
        /// A kind of object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind),+ }

        /// An object of any kind.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "kept behind an Arc wherever there are many")]
        pub enum Object { $($(#[$doc])* $kind(Resource<$spec>)),+ }

        /// Every kind, in the order in which they are listed to users.
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            kind: Kind::$kind,
            name: stringify!($kind),
            plural: $plural,
            short: &[$($short),*],
            api_version: $api,
            older: &[$($older),*],
            scope: Scope::$scope,
            fields: Fields::$fields,
            parse: parse_as::<$spec>,
            schema: schema!($fields, $spec),
            columns: <$spec as Spec>::COLUMNS,
            rules: <$spec as Spec>::RULES,
        }),+];

        impl Object {
            /// The object's kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),+ }
            }

            /// Name, labels and the rest of what every object has.
            #[must_use]
            pub const fn metadata(&self) -> &Metadata {
                match self { $(Self::$kind(object) => &object.metadata),+ }
            }

            /// The same, to be changed.
            pub const fn metadata_mut(&mut self) -> &mut Metadata {
                match self { $(Self::$kind(object) => &mut object.metadata),+ }
            }

            /// What the control plane says of the object.
            #[must_use]
            pub const fn status(&self) -> &Status {
                match self { $(Self::$kind(object) => &object.status),+ }
            }

            /// The same, to be changed.
            pub const fn status_mut(&mut self) -> &mut Status {
                match self { $(Self::$kind(object) => &mut object.status),+ }
            }

            /// Whether the operator wants the same of both: the specs are equal.
            #[must_use]
            pub fn same_spec(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$kind(one), Self::$kind(two)) => one.spec == two.spec,)+
                    _ => false,
                }
            }

            /// The whole object as JSON.
            #[must_use]
            pub fn to_json(&self) -> serde_json::Value {
                match self { $(Self::$kind(object) => object.to_json()),+ }
            }

            pub(super) fn validate(&self) -> Result<(), FieldError> {
                match self { $(Self::$kind(object) => object.spec.validate(&object.metadata)),+ }
            }
        }

        $(impl From<Resource<$spec>> for Object {
            fn from(object: Resource<$spec>) -> Self {
                Self::$kind(object)
            }
        })+
    };
}

kinds! {
    /// A named group of workloads.
    Service(ServiceSpec): CORE, "services", ["svc"], Namespaced, Lenient;
    /// What runs: outside Kubernetes, an operator's word for a service's instances.
    Workload(WorkloadSpec): WEFT, "workloads", ["wl"], Namespaced, Strict;
    /// A namespace.
    Namespace(NamespaceSpec): CORE, "namespaces", ["ns"], Mesh, Lenient;
    /// Whom a workload acts as.
    ServiceAccount(ServiceAccountSpec): CORE, "serviceaccounts", ["sa"], Namespaced, Lenient;
    /// The mesh's own settings.
    MeshConfig(MeshConfigSpec): WEFT, "meshconfigs", ["mc"], Mesh, Strict;
    /// Where HTTP requests to a service go.
    HTTPRoute(HttpRouteSpec): GATEWAY | GATEWAY_BETA, "httproutes", [], Namespaced, Lenient;
    /// Where calls of gRPC to a service go.
    GRPCRoute(GrpcRouteSpec): GATEWAY | GATEWAY_ALPHA2, "grpcroutes", [], Namespaced, Lenient;
    /// Where connections of TLS clients to a service go, by server name.
    TLSRoute(TlsRouteSpec): GATEWAY | GATEWAY_ALPHA3 | GATEWAY_ALPHA2, "tlsroutes", [], Namespaced, Lenient;
    /// Where opaque connections to a service go.
    TCPRoute(TcpRouteSpec): GATEWAY_ALPHA2, "tcproutes", [], Namespaced, Lenient;
    /// Which routes of other namespaces may refer to services of this one.
    ReferenceGrant(ReferenceGrantSpec): GATEWAY_BETA | GATEWAY, "referencegrants", ["refgrant"], Namespaced, Lenient;
    /// How traffic is treated.
    TrafficPolicy(TrafficPolicySpec): WEFT, "trafficpolicies", ["tp"], Namespaced, Strict;
    /// Who may do what.
    AccessPolicy(AccessPolicySpec): WEFT, "accesspolicies", ["ap"], Namespaced, Strict;
    /// Hosts outside the mesh.
    ExternalService(ExternalServiceSpec): WEFT, "externalservices", ["xsvc"], Namespaced, Strict;
}

impl KindInfo {
    /// Every version that is read, the one that is written first.
    pub fn versions(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.api_version).chain(self.older.iter().copied())
    }
}

impl Kind {
    /// The kind's entry in the table.
    #[must_use]
    pub fn info(self) -> &'static KindInfo {
        // The table is generated from the same list as the enum, in the same order.
        &KINDS[self as usize]
    }

    /// The kind that a user means by any spelling: "Service", "service", "services", "svc".
    #[must_use]
    pub fn from_spelling(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let matches = |info: &&KindInfo| {
            info.name.eq_ignore_ascii_case(&lower)
                || info.plural == lower
                || info.short.contains(&lower.as_str())
        };
        KINDS.iter().find(matches).map(|info| info.kind)
    }

    /// Every kind's name, for messages: "Service, Workload, …".
    #[must_use]
    pub fn known() -> String {
        KINDS.iter().map(|info| info.name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl Object {
    /// Which object this is.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        ObjectKey {
            kind: self.kind(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

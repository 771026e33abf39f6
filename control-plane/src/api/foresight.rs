//! What the statuses of objects will say, for whoever applies them: the loop that writes statuses comes later.
//!
//! In come the store's objects and those just written, which a store may not list yet, or never where nothing was to be
//! kept; out goes what is not in force of one of them. It speaks of nothing that live instances decide.

use std::sync::Arc;

use weft_proto::TrustDomain;

use crate::{
    index::Index,
    model::{Kind, Object},
    status::{Judgement, judge, refused::Refused, routes::PARTIALLY_INVALID},
    store::{Store, StoreError},
};

/// What the mesh will be.
pub(super) struct Foresight {
    index: Index,
}

/// Whether objects alone decide what is said of this kind, but for what sidecars refuse.
pub(super) const fn is_foreseen(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::HTTPRoute
            | Kind::GRPCRoute
            | Kind::TLSRoute
            | Kind::TCPRoute
            | Kind::TrafficPolicy
            | Kind::AccessPolicy
            | Kind::ExternalService
    )
}

impl Foresight {
    /// The mesh with these objects.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn of(store: &dyn Store, written: &[Arc<Object>]) -> Result<Self, StoreError> {
        // Identities have the trust domain in them, and nothing that is said here has identities.
        let mut index = Index::new(TrustDomain::default());
        let known = store.list().await?.objects;
        index.apply_all(known.iter().chain(written).map(|object| &**object));
        Ok(Self { index })
    }

    /// What of an object is not in force, sentence by sentence.
    pub(super) fn not_in_force(&self, object: &Object) -> Vec<String> {
        let judged = judge(object, &self.index, &Refused::default());
        let of_parents = judged.parents.into_iter().flat_map(|(_, said)| said);
        let said = judged.conditions.into_iter().chain(of_parents);
        said.filter(is_bad).map(|judgement| judgement.message).collect()
    }
}

fn is_bad(judgement: &Judgement) -> bool {
    judgement.holds == (judgement.r#type == PARTIALLY_INVALID)
}

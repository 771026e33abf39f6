//! What there is to say of a route at each of its parents that is a service, by the Gateway API. Pure.
//!
//! | type | holds when | reasons |
//! |---|---|---|
//! | `Accepted` | it binds to a port of the parent, and a rule is in force as it was meant | `NoMatchingParent`, `UnsupportedProtocol`, `UnsupportedValue`, `Conflicted` |
//! | `ResolvedRefs` | each backend is a service port that it may refer to | `BackendNotFound`, `RefNotPermitted`, `InvalidKind`, `UnsupportedProtocol` |
//! | `PartiallyInvalid` | some rules are not in force as they were meant (said only then) | `UnsupportedValue`, `Conflicted` |
//! | `Programmed` | no sidecar refuses what it is a part of (said only where one does) | `Refused` |

use super::{Judgement, judge::REFUSED, refused::Refused};
use crate::{
    index::{
        Index,
        routes::{
            backend::Referrer,
            conflict::CONFLICTED,
            standing::{UNSUPPORTED, flaws},
        },
    },
    model::{
        Object, Route,
        gateway::{reference::ParentRef, route::Fate},
    },
};

const ACCEPTED: &str = "Accepted";
const RESOLVED: &str = "ResolvedRefs";
/// The one condition that is bad when it holds.
pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";

/// What there is to say of an object at each of its parents; nothing where it is no route.
#[must_use]
pub fn parents(
    object: &Object,
    index: &Index,
    refused: &Refused,
) -> Vec<(ParentRef, Vec<Judgement>)> {
    let Some(route) = Route::of(object) else { return Vec::new() };
    let partial = partial(route);
    let name = object.key().to_string();
    let namespace = &route.metadata().namespace;
    let own = route.parents().iter().enumerate().filter(|(_, parent)| parent.is_service());
    let judged = own.map(|(position, parent)| {
        let standing = index.route_standing(route, position, parent);
        let mut said = vec![
            match standing.refused {
                Some((reason, message)) => judgement(ACCEPTED, false, reason, message),
                None => judgement(ACCEPTED, true, ACCEPTED, String::new()),
            },
            resolved(object, route, parent, index),
        ];
        // Of a route that is refused as a whole there is nothing more to say.
        if said[0].holds {
            let lost = standing
                .lost
                .map(|message| judgement(PARTIALLY_INVALID, true, CONFLICTED, message));
            said.extend(match (partial.clone(), lost) {
                (Some(partial), Some(lost)) => {
                    let message = format!("{}; {}", partial.message, lost.message);
                    Some(Judgement { message, ..partial })
                }
                (one, other) => one.or(other),
            });
        }
        let service = parent.service(namespace);
        said.extend(
            refused
                .of_route(&name, &service)
                .map(|message| judgement("Programmed", false, REFUSED, message.to_owned())),
        );
        (parent.clone(), said)
    });
    judged.collect()
}

fn judgement(
    r#type: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
) -> Judgement {
    Judgement { r#type, holds, reason, message }
}

/// Whether every reference leads somewhere; the first that does not gives the reason.
fn resolved(object: &Object, route: Route<'_>, parent: &ParentRef, index: &Index) -> Judgement {
    let namespace = &route.metadata().namespace;
    let referrer = Referrer { kind: object.kind(), namespace, parent: &parent.service(namespace) };
    let failed = route.referred().into_iter().filter_map(|referred| {
        let unresolved = index.backend(referrer, &referred.backend).err()?;
        Some((unresolved.reason, format!("{}: {unresolved}", referred.field)))
    });
    let failed: Vec<(&str, String)> = failed.collect();
    match failed.first() {
        None => judgement(RESOLVED, true, RESOLVED, String::new()),
        Some((reason, _)) => {
            let said: Vec<&str> = failed.iter().map(|(_, said)| said.as_str()).collect();
            judgement(RESOLVED, false, reason, said.join("; "))
        }
    }
}

fn partial(route: Route<'_>) -> Option<Judgement> {
    let fates = route.fates();
    if fates.iter().all(|fate| *fate == Fate::Whole) {
        return None;
    }
    Some(judgement(PARTIALLY_INVALID, true, UNSUPPORTED, flaws(&fates)))
}

#[cfg(test)]
mod tests;

//! `GET /probe/CONTAINER/KIND`: the kubelet's probes of the application. Open to everybody who reaches the port, as
//! the kubelet comes from elsewhere; what can be asked is listed in the settings.

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::USER_AGENT},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::Admin;
use crate::kubelet::Outcome;

pub(super) async fn probe(
    State(admin): State<Admin>,
    Path((container, kind)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let name = format!("{container}/{kind}");
    let Some(outcome) = admin.prober.probe(&name, headers.get(USER_AGENT)).await else {
        let text = format!("this pod has no probe {name:?} (WEFT_PROBES)\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    match outcome {
        Outcome::Healthy => "ok\n".into_response(),
        Outcome::Unhealthy(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
        }
        Outcome::Unanswered(why) => {
            tracing::warn!(hook = name, why, "a hook of the application got no answer");
            unanswered()
        }
    }
}

/// No answer at all: a body that fails before its first byte ends the connection before the head has left.
fn unanswered() -> Response {
    let failed = Err::<Bytes, _>(std::io::Error::other("the hook got no answer"));
    Body::from_stream(stream::iter([failed])).into_response()
}

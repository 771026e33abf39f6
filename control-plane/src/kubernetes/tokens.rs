//! A pod's projected ServiceAccount token: who it stands for, by the API's TokenReview.
//!
//! Comes in: a token's text. Goes out: the service account, and the pod that the token is bound to. A token for
//! another audience, or bound to no pod, counts for nothing. It must never log or repeat a token.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::Semaphore, time::timeout};

use super::{TOKEN_AUDIENCE, client::ANSWER};
use crate::{
    ca::service::{PodIdentity, PodTokens, TokenError},
    model::NamespacedName,
};

/// Reviews under way at once: when all pods start anew, the API is asked in turn.
const AT_ONCE: usize = 32;
/// The extra fields that name the pod of a bound token.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Checks tokens by the cluster's API.
pub struct Reviews {
    api: Api<TokenReview>,
    permits: Arc<Semaphore>,
}

impl Reviews {
    /// By this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[tonic::async_trait]
impl PodTokens for Reviews {
    async fn check(&self, token: &str) -> Result<PodIdentity, TokenError> {
        let audiences = vec![TOKEN_AUDIENCE.to_owned()];
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(audiences) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let unavailable = |error: String| TokenError::Unavailable(error);
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|error| unavailable(error.to_string()))?;
        let answer = timeout(ANSWER, self.api.create(&PostParams::default(), &review)).await;
        let answer = answer.map_err(|_| {
            unavailable(format!("the API does not answer within {}s", ANSWER.as_secs()))
        })?;
        let answer = answer.map_err(|error| match error {
            // What the API takes for no token at all.
            kube::Error::Api(status) if matches!(status.code, 400 | 422) => {
                TokenError::Refused(status.message)
            }
            error => unavailable(error.to_string()),
        })?;
        read(answer.status.unwrap_or_default())
    }
}

/// Whom the API says that the token stands for.
fn read(status: TokenReviewStatus) -> Result<PodIdentity, TokenError> {
    let refused = |why: &str| TokenError::Refused(why.to_owned());
    if status.authenticated != Some(true) {
        let why = status.error.unwrap_or_else(|| "the API does not know it".to_owned());
        return Err(refused(&why));
    }
    // An API that knows no audiences leaves the field empty: then the token was not checked for ours.
    if !status.audiences.unwrap_or_default().iter().any(|audience| audience == TOKEN_AUDIENCE) {
        return Err(refused(&format!("it is not for the audience {TOKEN_AUDIENCE:?}")));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let (namespace, service_account) =
        account.ok_or_else(|| refused(&format!("{name:?} is no service account")))?;
    let extra = user.extra.unwrap_or_default();
    let one = |field: &str| extra.get(field).and_then(|values| values.first()).cloned();
    let (Some(pod), Some(uid)) = (one(POD_NAME), one(POD_UID)) else {
        return Err(refused("it is bound to no pod: use a projected token"));
    };
    Ok(PodIdentity {
        pod: NamespacedName { namespace: namespace.into(), name: pod.into() },
        uid: uid.into(),
        service_account: service_account.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn good() -> TokenReviewStatus {
        let extra = [(POD_NAME, "cart-1"), (POD_UID, "7")];
        let extra = extra.map(|(field, value)| (field.to_owned(), vec![value.to_owned()]));
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:cart".to_owned()),
                extra: Some(BTreeMap::from(extra)),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_does_not_answer_makes_no_sidecar_wait_for_ever() {
        let silent = tower::service_fn(|_: axum::http::Request<kube::client::Body>| {
            std::future::pending::<Result<axum::response::Response, std::convert::Infallible>>()
        });
        let reviews = Reviews::new(Client::new(silent, "weft-system"));
        let error = reviews.check("token").await.unwrap_err();
        assert!(matches!(error, TokenError::Unavailable(_)), "it is to try again: {error}");
    }

    #[test]
    fn a_token_stands_for_its_service_account_and_its_pod() {
        let identity = read(good()).unwrap();
        assert_eq!(identity.pod.to_string(), "shop/cart-1");
        assert_eq!((&*identity.service_account, &*identity.uid), ("cart", "7"));
    }

    #[test]
    fn what_the_api_leaves_open_counts_for_nothing() {
        type Change = fn(&mut TokenReviewStatus);
        let table: [(Change, &str); 6] = [
            (|status| status.authenticated = Some(false), "does not know it"),
            (|status| status.authenticated = None, "does not know it"),
            (|status| status.audiences = None, "audience"),
            (|status| status.audiences = Some(vec!["other".to_owned()]), "audience"),
            (
                |status| {
                    let user = status.user.as_mut().unwrap();
                    user.username = Some("admin".to_owned());
                },
                "no service account",
            ),
            (|status| status.user.as_mut().unwrap().extra = None, "bound to no pod"),
        ];
        for (change, why) in table {
            let mut status = good();
            change(&mut status);
            let error = read(status).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

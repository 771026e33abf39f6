//! Who gets a certificate, and who does not.

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use tonic::Code;
use weft_proto::{
    api::{IdentitiesRequest, RevokeTokenRequest},
    discovery::{ResourceKind, update::Body},
    identity::{IssueRequest, Renewal, issue_request::Proof},
};

use crate::{
    harness::Plane,
    sidecar::{Stream, Svid, Trust, channel, csr, hello, issue, join, key, renew},
};

const CART: &str = r#"{"service":"cart","port":8080}"#;

async fn plane(flags: &[&str]) -> Plane {
    let plane = Plane::start(flags).await;
    plane.apply("Workload", "cart", CART).await;
    plane.apply("Workload", "web", r#"{"service":"web","port":8080}"#).await;
    plane
}

#[tokio::test]
async fn a_token_gets_the_identity_that_it_stands_for() {
    let plane = plane(&["--svid-ttl=1h"]).await;
    let (_, token) = plane.token("cart", 0, 0).await;
    let svid = join(&plane, &token, "shop/cart").await.unwrap();
    assert_eq!(svid.response.spiffe_id, "spiffe://weft.local/ns/shop/sa/cart");
    let (_, leaf) = x509_parser::parse_x509_certificate(&svid.response.chain[0]).unwrap();
    assert_eq!(leaf.validity().not_after.timestamp(), svid.response.not_after);
    assert_eq!(svid.response.roots.len(), 1);

    let request = IdentitiesRequest { workload: "shop/cart".into() };
    let issued = plane.api().await.identities(request).await.unwrap().into_inner().identities;
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].chain, svid.response.chain);
}

#[tokio::test]
async fn tokens_that_do_not_count_are_refused_with_the_reason() {
    let plane = plane(&[]).await;
    let (revoked, revoked_token) = plane.token("cart", 0, 0).await;
    let request = RevokeTokenRequest { id: revoked };
    assert!(plane.api().await.revoke_token(request).await.unwrap().into_inner().existed);
    let (_, once) = plane.token("cart", 0, 1).await;
    join(&plane, &once, "shop/cart").await.unwrap();
    let (_, good) = plane.token("cart", 0, 0).await;
    let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
    parts[2] = "00".repeat(32);
    let forged = parts.join(".");

    for (token, code, says) in [
        (revoked_token, Code::Unauthenticated, "revoked"),
        (once, Code::Unauthenticated, "used up"),
        (forged, Code::Unauthenticated, "not known"),
    ] {
        let refused = join(&plane, &token, "shop/cart").await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
    for (workload, says) in [
        ("shop/web", "Workload shop/web: spec.serviceAccount is \"web\""),
        ("shop/nothing", "no Workload shop/nothing"),
    ] {
        let refused = join(&plane, &good, workload).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains(says), "{refused:?}");
        assert!(refused.message().contains("cart"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_is_no_use_with_a_control_plane_of_another_root() {
    let (plane, other) = (plane(&[]).await, plane(&[]).await);
    let (_, token) = other.token("cart", 0, 0).await;
    let refused = join(&plane, &token, "shop/cart").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "the client does not even send it: {refused:?}");
}

#[tokio::test]
async fn requests_with_other_keys_or_without_proof_are_refused() {
    let plane = plane(&[]).await;
    let (_, token) = plane.token("cart", 0, 0).await;
    let svid = join(&plane, &token, "shop/cart").await.unwrap();
    let good = csr(&KeyPair::generate().unwrap());
    let rsa = csr(&KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let mut broken = good.clone();
    let end = broken.len() - 1;
    broken[end] ^= 1;
    let token = Some(Proof::JoinToken(token));
    let kubernetes = Some(Proof::ServiceAccountToken("x".into()));
    for (csr, proof, code, says) in [
        (rsa, token.clone(), Code::InvalidArgument, "P-256"),
        (broken, token, Code::InvalidArgument, "not by its own key"),
        (good.clone(), kubernetes, Code::Unimplemented, "join token"),
        (good.clone(), None, Code::InvalidArgument, "proof"),
        (good, Some(Proof::Renewal(Renewal {})), Code::Unauthenticated, "no client certificate"),
    ] {
        let request = IssueRequest { csr, proof, workload: "shop/cart".into() };
        let refused = issue(&plane, svid.trust(), None, request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
}

#[tokio::test]
async fn a_certificate_in_force_is_renewed_for_its_own_workload_only() {
    let plane = plane(&[]).await;
    let (_, token) = plane.token("cart", 0, 1).await;
    let svid = join(&plane, &token, "shop/cart").await.unwrap();
    let renewed = renew(&plane, &svid, "shop/cart").await.unwrap();
    assert_eq!(renewed.response.spiffe_id, svid.response.spiffe_id);
    assert_ne!(renewed.response.chain, svid.response.chain);
    let refused = renew(&plane, &renewed, "shop/web").await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_of_another_root_is_refused_at_the_handshake() {
    let (plane, other) = (plane(&[]).await, plane(&[]).await);
    let (_, token) = other.token("cart", 0, 0).await;
    let foreign = join(&other, &token, "shop/cart").await.unwrap();
    let (_, token) = plane.token("cart", 0, 0).await;
    let ours = join(&plane, &token, "shop/cart").await.unwrap();
    let refused = renew_trusting(&plane, &foreign, ours.trust()).await;
    assert_ne!(refused.code(), Code::Ok);
    let hello = hello("shop/cart", "0", "a");
    assert!(Stream::open(&plane, ours.trust(), Some(&foreign), hello).await.is_err());
}

async fn renew_trusting(plane: &Plane, svid: &Svid, trust: Trust) -> tonic::Status {
    let request = IssueRequest {
        csr: csr(&KeyPair::generate().unwrap()),
        proof: Some(Proof::Renewal(Renewal {})),
        workload: "shop/cart".into(),
    };
    issue(plane, trust, Some(svid), request).await.unwrap_err()
}

#[tokio::test]
async fn roots_rotate_while_everybody_keeps_a_certificate_that_counts() {
    let plane = plane(&["--root-propagation=50ms"]).await;
    let (_, token) = plane.token("cart", 0, 0).await;
    let svid = join(&plane, &token, "shop/cart").await.unwrap();
    let mut stream = Stream::of(&plane, &svid, hello("shop/cart", "0", "a")).await;
    let first = trust(&stream.get(ResourceKind::Trust, "").await);
    assert_eq!(first.len(), 1);

    assert_eq!(plane.rotate(false).await.roots.len(), 2);
    let announced = stream.update().await;
    let roots = trust(&announced);
    assert_eq!((roots.len(), &roots[0]), (2, &first[0]), "announced, not signing");
    stream.ack(&announced).await;
    let signing = trust(&stream.take().await);
    assert_eq!(signing[0], roots[1], "now the new one signs");
    assert_eq!(signing[1], first[0]);

    // The old certificate counts still; the old token, which pins the old root, too.
    channel(&plane, svid.trust(), Some(&svid)).await.unwrap();
    join(&plane, &token, "shop/cart").await.unwrap();
    let renewed = renew(&plane, &svid, "shop/cart").await.unwrap();
    assert_eq!(renewed.response.roots[0], signing[0]);
    let mut fresh = Stream::of(&plane, &renewed, hello("shop/cart", "1", "a")).await;
    assert_eq!(trust(&fresh.get(ResourceKind::Trust, "").await).len(), 2);
}

#[tokio::test]
async fn an_old_root_goes_when_every_certificate_under_it_is_renewed() {
    let plane = plane(&["--root-propagation=20ms"]).await;
    let (_, token) = plane.token("cart", 0, 0).await;
    let svid = join(&plane, &token, "shop/cart").await.unwrap();
    plane.rotate(false).await;
    let mut stream = Stream::of(&plane, &svid, hello("shop/cart", "0", "a")).await;
    stream.subscribe(key(ResourceKind::Trust, "")).await;
    let old = svid.response.roots[0].clone();
    while trust(&stream.take().await)[0] == old {}
    let renewed = renew(&plane, &svid, "shop/cart").await.unwrap();
    let mut fresh = Stream::of(&plane, &renewed, hello("shop/cart", "1", "a")).await;
    assert_eq!(trust(&fresh.get(ResourceKind::Trust, "").await).len(), 2);

    plane.rotate(true).await;
    let roots = trust(&fresh.take().await);
    assert_eq!(roots.len(), 1);
    assert_ne!(roots[0], old);
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    assert!(
        Stream::open(&plane, renewed.trust(), Some(&svid), hello("shop/cart", "2", "a"))
            .await
            .is_err()
    );
}

fn trust(update: &weft_proto::discovery::Update) -> Vec<Vec<u8>> {
    match &update.body {
        Some(Body::Trust(bundle)) => bundle.roots.clone(),
        other => panic!("a bundle is due, not {other:?}"),
    }
}

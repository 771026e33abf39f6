//! Which chains lead to a root of the bundle, and what is wrong with the others.

use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

use weft_proto::SpiffeId;

use super::*;
use crate::{
    clock,
    tls::testing::{Authority, id, leaf_params},
};

fn bundle(authorities: &[&Authority]) -> Bundle {
    Bundle::new(authorities.iter().map(|authority| authority.root()).collect()).unwrap()
}

/// Issues and verifies one leaf with these contents.
fn verdict(params: CertificateParams) -> Result<SpiffeId, PeerFault> {
    let authority = Authority::new("root");
    let key = KeyPair::generate().unwrap();
    let chain = [authority.issue(params, &key)];
    let verified = bundle(&[&authority]).verify(&chain, Role::Client, clock::since_epoch());
    verified.map(|peer| peer.identity)
}

fn with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf_params(&id("cart"));
    change(&mut params);
    params
}

#[test]
fn a_good_svid_gives_its_identity() {
    assert_eq!(verdict(leaf_params(&id("cart"))).unwrap().as_str(), id("cart"));
    let other_names = with(|params| {
        let dns = SanType::DnsName("cart.shop".try_into().unwrap());
        params.subject_alt_names.insert(0, dns);
    });
    assert_eq!(verdict(other_names).unwrap().as_str(), id("cart"));
}

#[test]
fn every_kind_of_bad_certificate_is_told_apart() {
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    type Fits = fn(&PeerFault) -> bool;
    let table: Vec<(&str, CertificateParams, Fits)> = vec![
        (
            "expired",
            with(|params| params.not_after = (now - Duration::from_secs(2)).into()),
            |fault| matches!(fault, PeerFault::Expired { .. }),
        ),
        ("not yet valid", with(|params| params.not_before = (now + hour / 2).into()), |fault| {
            matches!(fault, PeerFault::NotYetValid { .. })
        }),
        ("no names", with(|params| params.subject_alt_names.clear()), |fault| {
            *fault == PeerFault::NoUri
        }),
        (
            "a DNS name alone",
            with(|params| {
                params.subject_alt_names = vec![SanType::DnsName("cart".try_into().unwrap())];
            }),
            |fault| *fault == PeerFault::NoUri,
        ),
        (
            "two SPIFFE IDs",
            with(|params| params.subject_alt_names.push(uri(&id("pay")))),
            |fault| *fault == PeerFault::SeveralUris,
        ),
        (
            "a SPIFFE ID and a web address",
            with(|params| params.subject_alt_names.push(uri("https://cart.shop/"))),
            |fault| *fault == PeerFault::SeveralUris,
        ),
        (
            "a web address",
            with(|params| params.subject_alt_names = vec![uri("https://cart.shop/")]),
            |fault| *fault == PeerFault::NotSpiffe,
        ),
        (
            "the trust domain's own ID",
            with(|params| params.subject_alt_names = vec![uri("spiffe://weft.local")]),
            |fault| *fault == PeerFault::NotSpiffe,
        ),
        (
            "made for servers alone",
            with(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            |fault| *fault == PeerFault::Purpose(Role::Client),
        ),
        ("made for no stated use", with(|params| params.extended_key_usages.clear()), |fault| {
            *fault == PeerFault::Purpose(Role::Client)
        }),
        (
            "an authority's certificate",
            with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            |fault| matches!(fault, PeerFault::Invalid(_)),
        ),
    ];
    for (what, params, fits) in table {
        let fault = verdict(params).expect_err(what);
        assert!(fits(&fault), "{what}: {fault:?}");
    }
}

#[test]
fn who_signed_is_told_apart() {
    let (old, new, stranger) = (Authority::new("old"), Authority::new("new"), Authority::new("x"));
    let now = clock::since_epoch();
    let both = bundle(&[&new, &old]);
    let (of_old, of_new) = (old.svid(&id("cart")), new.svid(&id("cart")));
    for svid in [&of_old, &of_new] {
        both.verify(svid.chain(), Role::Server, now).unwrap();
    }
    assert!(both.newest_root_issued(of_new.chain()));
    assert!(!both.newest_root_issued(of_old.chain()));

    let after = both.succeeded_by(vec![new.root()]).unwrap();
    after.verify(of_new.chain(), Role::Server, now).unwrap();
    let roots =
        [&of_old, &of_new].map(|svid| both.verify(svid.chain(), Role::Server, now).unwrap().root);
    assert!(roots.iter().all(|root| both.trusts(*root)));
    assert_eq!(roots.map(|root| after.trusts(root)), [false, true]);
    let fault = after.verify(of_old.chain(), Role::Server, now).unwrap_err();
    assert!(matches!(fault, PeerFault::OldRoot { .. }), "{fault:?}");
    let fault = after.verify(stranger.svid(&id("cart")).chain(), Role::Server, now).unwrap_err();
    assert!(matches!(fault, PeerFault::UnknownRoot { .. }), "{fault:?}");

    let key = KeyPair::generate().unwrap();
    let own = leaf_params(&id("cart")).self_signed(&key).unwrap().der().clone();
    let fault = after.verify(&[own], Role::Server, now).unwrap_err();
    assert_eq!(fault, PeerFault::SelfSigned);
    assert_eq!(after.verify(&[], Role::Server, now).unwrap_err(), PeerFault::NoCertificate);
    let junk = CertificateDer::from(vec![0x30, 3, 1, 1, 1]);
    let fault = after.verify(&[junk], Role::Server, now).unwrap_err();
    assert!(matches!(fault, PeerFault::Unreadable(_)), "{fault:?}");
}

#[test]
fn a_chain_holds_only_as_long_as_its_shortest_certificate() {
    let root = Authority::new("root");
    let now = clock::since_epoch();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_after = (SystemTime::now() + Duration::from_secs(60)).into();
    let intermediate = root.issue(params.clone(), &key);
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf_params(&id("cart")).signed_by(&leaf_key, &issuer).unwrap().der().clone();
    let chain = [leaf, intermediate];
    let bundle = bundle(&[&root]);
    bundle.verify(&chain, Role::Server, now).unwrap();
    // Remembered, and still refused once the intermediate's time is over.
    let later = now + Duration::from_secs(120);
    let fault = bundle.verify(&chain, Role::Server, later).unwrap_err();
    assert!(matches!(fault, PeerFault::Expired { .. }), "{fault:?}");
    let without = bundle.verify(&chain[..1], Role::Server, now).unwrap_err();
    assert!(matches!(without, PeerFault::UnknownRoot { .. }), "{without:?}");
}

#[test]
fn what_is_remembered_is_bounded_and_per_role() {
    let authority = Authority::new("root");
    let bundle = bundle(&[&authority]);
    let now = clock::since_epoch();
    let params =
        with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let chain = [authority.issue(params, &KeyPair::generate().unwrap())];
    bundle.verify(&chain, Role::Server, now).unwrap();
    assert_eq!(
        bundle.verify(&chain, Role::Client, now).unwrap_err(),
        PeerFault::Purpose(Role::Client)
    );
    let verified = bundle.remembered().values().next().unwrap().clone();
    for index in 0..2 * REMEMBERED as u64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&index.to_be_bytes());
        if bundle.remembered().len() < REMEMBERED {
            bundle.remembered().insert((Role::Server, key), verified.clone());
        }
    }
    bundle.verify(authority.svid(&id("pay")).chain(), Role::Server, now).unwrap();
    assert_eq!(bundle.remembered().len(), 1);
}

#[test]
fn a_bundle_without_a_usable_root_is_refused() {
    assert_eq!(Bundle::new(Vec::new()).unwrap_err(), BundleError::Empty);
    let junk = CertificateDer::from(vec![1, 2, 3]);
    let error = Bundle::new(vec![Authority::new("root").root(), junk]).unwrap_err();
    assert!(error.to_string().starts_with("root 1 of the trust bundle"), "{error}");
}

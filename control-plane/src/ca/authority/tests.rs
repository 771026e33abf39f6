//! What the authority issues, to whom, and what remains of it over rotations and restarts.

use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::*;
use crate::ca::{Peer, PeerRefusal, peer};

const HOUR: Duration = Duration::from_secs(3600);
const PROPAGATION: Duration = Duration::from_secs(10);

fn config() -> AuthorityConfig {
    AuthorityConfig {
        trust_domain: TrustDomain::default(),
        svid_ttl: HOUR,
        root_lifetime: HOUR * 24 * 365,
        propagation: PROPAGATION,
        external: None,
    }
}

fn cart() -> SpiffeId {
    "spiffe://weft.local/ns/shop/sa/cart".parse().unwrap()
}

fn csr(key: &KeyPair, params: CertificateParams) -> Csr {
    Csr::parse(params.serialize_request(key).unwrap().der()).unwrap()
}

fn issue(authority: &Authority, now: SystemTime) -> Issued {
    let key = KeyPair::generate().unwrap();
    authority.issue(&csr(&key, CertificateParams::default()), &Holder::of(&cart()), now).unwrap()
}

fn check(authority: &Authority, issued: &Issued, now: SystemTime) -> Result<Peer, PeerRefusal> {
    peer::verify(&issued.chain, &authority.bundle(), now)
}

#[test]
fn an_svid_is_what_spiffe_asks_for_whatever_the_request_says() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = Authority::open(folder.path(), config(), now).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    greedy.distinguished_name.push(DnType::CommonName, "root");
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy
        .subject_alt_names
        .push(SanType::URI("spiffe://weft.local/ns/shop/sa/admin".try_into().unwrap()));
    let issued = authority.issue(&csr(&key, greedy), &Holder::of(&cart()), now).unwrap();

    let (_, svid) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
    let names = &svid.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names[..], [GeneralName::URI(cart().as_str())]);
    assert!(!svid.is_ca());
    let usage = svid.key_usage().unwrap().unwrap().value;
    assert_eq!(usage.flags, 1, "digitalSignature alone");
    let extended = svid.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    let has_authority_key = svid.extensions().iter().any(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_))
    });
    assert!(has_authority_key);
    assert_eq!(svid.public_key().raw, key.subject_public_key_info());
    let life = svid.validity();
    assert_eq!(life.not_before.timestamp(), i64::try_from(unix(now)).unwrap() - 300);
    assert_eq!(life.not_after.timestamp(), i64::try_from(unix(now)).unwrap() + 3600);
    assert!(!svid.subject().to_string().contains("root"));

    assert_eq!(check(&authority, &issued, now).unwrap().spiffe_id, cart());
    let server = webpki::EndEntityCert::try_from(&issued.chain[0]).unwrap();
    server
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &authority.bundle().anchors.roots,
            &[],
            rustls_pki_types::UnixTime::now(),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .unwrap();
}

#[test]
fn serial_numbers_are_random_and_positive() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = Authority::open(folder.path(), config(), now).unwrap();
    let serials: Vec<_> =
        (0..20).map(|_| check(&authority, &issue(&authority, now), now).unwrap().serial).collect();
    let distinct: std::collections::HashSet<_> = serials.iter().collect();
    assert_eq!(distinct.len(), serials.len());
    assert!(serials.iter().all(|serial| serial.len() == 16 && serial[0] < 0x80));
}

#[test]
fn an_svid_counts_only_in_its_time_and_under_its_root() {
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = SystemTime::now();
    let authority = Authority::open(here.path(), config(), now).unwrap();
    let issued = issue(&authority, now);
    for wrong in [now - HOUR, now + HOUR * 2] {
        let refusal = check(&authority, &issued, wrong).unwrap_err();
        assert!(matches!(refusal, PeerRefusal::Invalid { .. }), "{refusal}");
        assert!(refusal.to_string().contains("sa/cart"), "{refusal}");
    }
    let other = Authority::open(elsewhere.path(), config(), now).unwrap();
    assert!(matches!(check(&other, &issued, now), Err(PeerRefusal::Invalid { .. })));

    let domain: TrustDomain = "other.example".parse().unwrap();
    let foreign = AuthorityConfig { trust_domain: domain.clone(), ..config() };
    let folder = tempfile::tempdir().unwrap();
    let foreign = Authority::open(folder.path(), foreign, now).unwrap();
    assert!(matches!(check(&foreign, &issued, now), Err(PeerRefusal::NotOurs { .. })));
    let key = KeyPair::generate().unwrap();
    let error = foreign
        .issue(&csr(&key, CertificateParams::default()), &Holder::of(&cart()), now)
        .unwrap_err()
        .to_string();
    assert!(error.contains("other.example"), "{error}");
}

#[test]
fn a_restart_keeps_the_root_in_a_file_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = Authority::open(folder.path(), config(), now).unwrap();
    let issued = issue(&first, now);
    let again = Authority::open(folder.path(), config(), now).unwrap();
    assert_eq!(first.pin(), again.pin());
    check(&again, &issued, now).unwrap();
    let file = folder.path().join("authority.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let domain: TrustDomain = "other.example".parse().unwrap();
    let other = AuthorityConfig { trust_domain: domain, ..config() };
    let error = Authority::open(folder.path(), other, now).err().unwrap().to_string();
    assert!(error.contains("weft.local") && error.contains("other.example"), "{error}");

    std::fs::write(&file, "{\n \"roots\": oh").unwrap();
    let error = Authority::open(folder.path(), config(), now).err().unwrap().to_string();
    assert!(error.contains("authority.json") && error.contains("line 2"), "{error}");
}

#[test]
fn a_new_root_signs_only_after_it_was_announced_and_the_old_one_stays_until_unused() {
    let folder = tempfile::tempdir().unwrap();
    let start = SystemTime::now();
    let authority = Authority::open(folder.path(), config(), start).unwrap();
    let (old_pin, before) = (authority.pin(), issue(&authority, start));

    authority.rotate_root(start).unwrap();
    assert!(authority.rotate_root(start).is_err(), "one at a time");
    assert_eq!(authority.bundle().roots.len(), 2);
    assert_eq!(authority.pin(), old_pin, "the old root signs still");
    let at = start + PROPAGATION;
    assert!(!authority.advance(start, true).unwrap(), "too early");
    assert!(!authority.advance(at, false).unwrap(), "not everybody has it");
    assert!(authority.advance(at, true).unwrap());
    assert_ne!(authority.pin(), old_pin);
    let after = issue(&authority, at);
    check(&authority, &before, at).unwrap();
    check(&authority, &after, at).unwrap();

    authority.retire_old(at).unwrap();
    assert_eq!(authority.bundle().roots.len(), 2, "an SVID under the old root is in use");
    assert!(authority.is_rotating());
    let serial = check(&authority, &before, at).unwrap().serial;
    authority.renewed(&serial);
    assert!(authority.advance(at, false).unwrap());
    assert!(!authority.is_rotating());
    assert_eq!(authority.bundle().roots.len(), 1);
    check(&authority, &after, at).unwrap();
    assert!(check(&authority, &before, at).is_err(), "its root is gone");
}

#[test]
fn who_missed_the_announcement_still_verifies_what_the_new_root_signs() {
    let folder = tempfile::tempdir().unwrap();
    let start = SystemTime::now();
    let authority = Authority::open(folder.path(), config(), start).unwrap();
    let missed = authority.bundle();
    authority.rotate_root(start).unwrap();
    let at = start + PROPAGATION * PATIENCE;
    assert!(
        authority.advance(at, false).unwrap(),
        "a proxy that never acknowledges is not waited for"
    );
    let issued = issue(&authority, at);
    peer::verify(&issued.chain, &missed, at).unwrap();
}

#[test]
fn a_rotation_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = SystemTime::now();
    let reopen = |now| Authority::open(folder.path(), config(), now).unwrap();
    let issued = issue(&reopen(start), start);
    reopen(start).rotate_root(start).unwrap();
    let at = start + PROPAGATION;
    assert!(reopen(at).advance(at, true).unwrap());
    reopen(at).retire_old(at).unwrap();
    let again = reopen(at);
    assert!(again.is_rotating());
    assert!(!again.advance(at, true).unwrap(), "an earlier process may have issued under it");
    check(&again, &issued, at).unwrap();
    let end = at + HOUR + Duration::from_secs(2);
    assert!(again.advance(end, true).unwrap());
    assert_eq!(reopen(end).bundle().roots.len(), 1);
}

#[test]
fn an_intermediate_handed_in_signs_and_its_root_is_the_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let external = hand_in(folder.path());
    let config = AuthorityConfig { external: Some(external.clone()), ..config() };
    let authority = Authority::open(folder.path(), config.clone(), now).unwrap();
    let issued = issue(&authority, now);
    assert_eq!(issued.chain.len(), 2, "the leaf and the intermediate");
    check(&authority, &issued, now).unwrap();
    let error = authority.rotate_root(now).unwrap_err().to_string();
    assert!(error.contains("handed in"), "{error}");

    std::fs::write(&external.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Authority::open(folder.path(), config, now).err().unwrap().to_string();
    assert!(error.contains("does not belong to the key"), "{error}");
}

fn hand_in(folder: &Path) -> ExternalFiles {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "corporate root");
    let root_certificate = root.self_signed(&root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "mesh intermediate");
    let issuer = Issuer::from_params(&root, &root_key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let files = ExternalFiles { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.chain, certificate.pem() + &root_certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

#[test]
fn a_start_that_changes_nothing_writes_nothing() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    // A file is replaced as a whole: another inode means that it was written.
    let inode = || std::fs::metadata(folder.path().join("authority.json")).unwrap().ino();
    let opened = |ttl: u64| {
        let config = AuthorityConfig { svid_ttl: Duration::from_secs(ttl), ..config() };
        Authority::open(folder.path(), config, now).unwrap();
        inode()
    };
    let first = opened(60);
    assert_eq!(opened(60), first);
    assert_eq!(opened(30), first, "the longer life stays on record");
    assert_ne!(opened(90), first, "a longer life must outlast a restart");
}

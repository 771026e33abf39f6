//! Handshakes between sidecars, in memory: who is accepted, who is refused, and what each side learns of it.

mod over_sockets;

use rustls::{ClientConnection, HandshakeKind, NamedGroup, ServerConnection};
use testing::{Authority, id, leaf_params, spiffe_id};
use weft_proto::Port;

use super::{fault::Expected, *};
use crate::{
    config::{KeyExchange, TlsSettings},
    identity::{PrivateKey, Svid},
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// What one side knows after a handshake.
#[derive(Debug)]
struct Side {
    outcome: Result<(Peer, Option<Alpn>), Refused>,
    kind: Option<HandshakeKind>,
    group: Option<NamedGroup>,
}

impl Side {
    fn refusal(self) -> Refused {
        self.outcome.expect_err("a refusal")
    }
}

fn tls(identity: Identity) -> MutualTls {
    MutualTls::new(identity, TIMEOUT, crate::telemetry::Metrics::new().tls())
}

fn any(expected: &[&str]) -> Arc<[SpiffeId]> {
    expected.iter().map(|account| spiffe_id(account)).collect()
}

/// A whole handshake in memory, and a first read, so that each side's word reaches the other. Client first.
fn shake(client: &MutualTls, server: &MutualTls, expected: &Arc<[SpiffeId]>) -> (Side, Side) {
    let (here, there) = (client.generation().unwrap(), server.generation().unwrap());
    shake_with((client, &here), (server, &there), expected, &Alpn::ALL)
}

fn shake_with(
    (client, here): (&MutualTls, &Generation),
    (server, there): (&MutualTls, &Generation),
    expected: &Arc<[SpiffeId]>,
    offer: &[Alpn],
) -> (Side, Side) {
    let endpoint = here.endpoint("10.0.0.1:4143", expected);
    let name = MeshServerName::of_port(Port::new(8080).unwrap()).to_string().try_into().unwrap();
    let offer = offer.iter().map(|alpn| alpn.wire().to_vec()).collect();
    let config = Arc::clone(&endpoint.config);
    let mut out = ClientConnection::new_with_alpn(config, name, offer).unwrap();
    let mut into = ServerConnection::new(Arc::clone(&there.server)).unwrap();
    let (mut out_error, mut into_error) = (None, None);
    for _ in 0..6 {
        pass(&mut out, &mut into, &mut into_error);
        pass(&mut into, &mut out, &mut out_error);
    }
    let (ours, theirs) = (&here.credentials.svid, &there.credentials.svid);
    (
        side(client, &out, out_error, &endpoint.verifier, ours),
        side(server, &into, into_error, &there.callers, theirs),
    )
}

/// The configurations of an identity, whether its SVID holds now or not.
fn generation(identity: &Identity) -> Generation {
    Generation::new(identity.credentials().unwrap(), TlsSettings::default()).unwrap()
}

fn pass<A, B>(
    from: &mut rustls::ConnectionCommon<A>,
    to: &mut rustls::ConnectionCommon<B>,
    error: &mut Option<rustls::Error>,
) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() && error.is_none() {
        to.read_tls(&mut rest).unwrap();
        *error = to.process_new_packets().err();
    }
}

fn side(
    tls: &MutualTls,
    connection: &rustls::CommonState,
    error: Option<rustls::Error>,
    verifier: &PeerVerifier,
    ours: &Svid,
) -> Side {
    let handshake = Handshake {
        chain: connection.peer_certificates().unwrap_or_default(),
        alpn: connection.alpn_protocol(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let outcome = match error {
        Some(error) => Err(Refused::during_handshake(&error, verifier, ours)),
        None => tls.finish(&handshake, verifier),
    };
    let group = connection.negotiated_key_exchange_group().map(|group| group.name());
    Side { outcome, kind: connection.handshake_kind(), group }
}

/// An identity whose certificate has these contents.
fn identity(
    authority: &Authority,
    params: rcgen::CertificateParams,
    roots: &[&Authority],
) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let svid = Svid::new(vec![authority.issue(params, &key)], key).unwrap();
    let identity = Identity::default();
    identity.install(svid, roots.iter().map(|root| root.root()).collect()).unwrap();
    identity
}

#[test]
fn both_sides_learn_the_other_and_the_keys_are_post_quantum() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    let (here, there) = shake(&client, &server, &any(&["cart"]));
    let (peer, alpn) = here.outcome.unwrap();
    assert_eq!((peer.identity, alpn), (spiffe_id("cart"), Some(Alpn::WeftHttp2)));
    let (peer, alpn) = there.outcome.unwrap();
    assert_eq!((peer.identity, alpn), (spiffe_id("web"), Some(Alpn::WeftHttp2)));
    assert_eq!(here.group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(here.kind, Some(HandshakeKind::Full));
    assert_eq!(client.counts().with(Role::Server).full, 1);
    assert_eq!(server.counts().with(Role::Client).full, 1);
}

#[test]
fn classical_key_exchange_and_full_handshakes_are_to_be_had_from_either_side() {
    let mesh = Authority::new("root");
    let under = |name, settings| tls(mesh.sidecar(name)).under(settings);
    let default = TlsSettings::default();
    let classical = TlsSettings { key_exchange: KeyExchange::Classical, ..default };
    let afresh = TlsSettings { resumption: false, ..default };
    for (ours, theirs, group, second) in [
        (default, default, NamedGroup::X25519MLKEM768, HandshakeKind::Resumed),
        (classical, default, NamedGroup::X25519, HandshakeKind::Resumed),
        (default, classical, NamedGroup::X25519, HandshakeKind::Resumed),
        (afresh, default, NamedGroup::X25519MLKEM768, HandshakeKind::Full),
        (default, afresh, NamedGroup::X25519MLKEM768, HandshakeKind::Full),
    ] {
        let (client, server) = (under("web", ours), under("cart", theirs));
        let expected = any(&["cart"]);
        shake(&client, &server, &expected);
        let (here, _) = shake(&client, &server, &expected);
        assert_eq!((here.group, here.kind), (Some(group), Some(second)), "{ours:?} {theirs:?}");
        here.outcome.unwrap();
    }
}

#[test]
fn the_client_s_offer_bounds_what_is_spoken() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    let (here, there) = (client.generation().unwrap(), server.generation().unwrap());
    let offers: [&[Alpn]; 5] =
        [&[Alpn::WeftHttp2], &[Alpn::Http2], &[Alpn::Http1], &[Alpn::Tcp], &[]];
    for offer in offers {
        let expected = any(&["cart"]);
        let (out, into) = shake_with((&client, &here), (&server, &there), &expected, offer);
        assert_eq!(out.outcome.unwrap().1, offer.first().copied());
        assert_eq!(into.outcome.unwrap().1, offer.first().copied());
    }
}

/// Identities that a peer in the mesh of `mesh` must refuse: what is wrong, and what the refusal must say.
fn bad_identities(mesh: &Authority) -> Vec<(&'static str, Identity, &'static str)> {
    let now = std::time::SystemTime::now();
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = leaf_params(&id("cart"));
        change(&mut params);
        identity(mesh, params, &[mesh])
    };
    let stranger = Authority::new("stranger");
    let foreign = leaf_params("spiffe://other.example/ns/shop/sa/cart");
    vec![
        (
            "expired",
            with(&|params| params.not_after = (now - Duration::from_secs(2)).into()),
            "expired at",
        ),
        (
            "not yet valid",
            with(&|params| params.not_before = (now + Duration::from_secs(60)).into()),
            "not valid before",
        ),
        ("of another domain", identity(mesh, foreign, &[mesh]), "trust domain \"other.example\""),
        (
            "of an unknown root",
            identity(&stranger, leaf_params(&id("cart")), &[mesh]),
            "leads to no root",
        ),
        ("not for TLS", with(&|params| params.extended_key_usages.clear()), "extended key usage"),
    ]
}

#[test]
fn a_client_refuses_a_bad_server_and_names_both_identities() {
    let mesh = Authority::new("root");
    let client = tls(mesh.sidecar("web"));
    let here = client.generation().unwrap();
    let mut table = bad_identities(&mesh);
    table.push(("not who is expected", mesh.sidecar("payments"), "not who is expected"));
    for (what, identity, text) in table {
        let presented = identity.id().unwrap().to_string();
        let server = tls(identity.clone());
        let there = generation(&identity);
        let expected = any(&["cart", "cart-canary"]);
        let (out, into) = shake_with((&client, &here), (&server, &there), &expected, &Alpn::ALL);
        let (refusal, told) = (out.refusal(), into.refusal());
        let unexpected = what == "not who is expected";
        let reason = if unexpected { Reason::PeerUnexpected } else { Reason::PeerUnverified };
        assert_eq!(refusal.reason, reason, "{what}: {refusal}");
        for part in [text, &presented, &id("cart"), &id("cart-canary")] {
            assert!(refusal.detail.contains(part), "{what}: {refusal} lacks {part:?}");
        }
        assert_eq!(told.reason, Reason::TlsFailed, "{what}: {told}");
        for part in ["the client refused our certificate", "CertificateUnknown", &presented] {
            assert!(told.detail.contains(part), "{what}: {told} lacks {part:?}");
        }
    }
}

#[test]
fn a_server_refuses_a_bad_client_which_learns_it_from_its_first_read() {
    let mesh = Authority::new("root");
    let server = tls(mesh.sidecar("payments"));
    let there = server.generation().unwrap();
    for (what, identity, text) in bad_identities(&mesh) {
        let presented = identity.id().unwrap().to_string();
        let client = tls(identity.clone());
        let here = generation(&identity);
        if what == "of another domain" {
            // It would itself refuse the server first.
            let chain = here.credentials.svid.chain();
            let refusal = there.callers.check(chain, clock::since_epoch()).unwrap_err();
            assert!(refusal.detail.contains(text), "{refusal}");
            continue;
        }
        let expected = any(&["payments"]);
        let (out, into) = shake_with((&client, &here), (&server, &there), &expected, &Alpn::ALL);
        let (told, refusal) = (out.refusal(), into.refusal());
        assert_eq!(refusal.reason, Reason::PeerUnverified, "{what}: {refusal}");
        for part in [text, &presented, "any identity of spiffe://weft.local"] {
            assert!(refusal.detail.contains(part), "{what}: {refusal} lacks {part:?}");
        }
        assert!(told.detail.contains("the server refused our certificate"), "{what}: {told}");
        assert!(told.detail.contains(&presented), "{what}: {told}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let mesh = Authority::new("root");
    let server = tls(mesh.sidecar("cart"));
    let there = server.generation().unwrap();
    let refusal = Refused::during_handshake(
        &rustls::Error::NoCertificatesPresented,
        &there.callers,
        &there.credentials.svid,
    );
    assert_eq!(refusal.reason, Reason::PeerUnverified);
    assert!(refusal.detail.contains("the client presented no certificate"), "{refusal}");

    let config = provider::client(
        Arc::clone(&there.endpoint("x", &any(&["cart"])).verifier) as _,
        KeyExchange::PostQuantum,
    )
    .with_no_client_auth();
    let name = "80.weft.internal".try_into().unwrap();
    let mut out = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut into = ServerConnection::new(Arc::clone(&there.server)).unwrap();
    let mut error = None;
    for _ in 0..3 {
        pass(&mut out, &mut into, &mut error);
        pass(&mut into, &mut out, &mut None);
    }
    assert_eq!(error, Some(rustls::Error::NoCertificatesPresented));
}

#[test]
fn without_an_svid_that_holds_there_is_no_handshake() {
    let mesh = Authority::new("root");
    let refusal = tls(Identity::default()).generation().unwrap_err();
    assert_eq!(refusal.reason, Reason::IdentityMissing);
    let (_, expired, _) = bad_identities(&mesh).swap_remove(0);
    let refusal = tls(expired).generation().unwrap_err();
    assert_eq!(refusal.reason, Reason::IdentityMissing);
    assert!(refusal.detail.contains(&id("cart")), "{refusal}");
}

#[test]
fn a_second_handshake_is_resumed_and_checked_all_the_same() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    let expected = any(&["cart"]);
    shake(&client, &server, &expected);
    for _ in 0..20 {
        let (here, there) = shake(&client, &server, &any(&["cart"]));
        assert_eq!(here.kind, Some(HandshakeKind::Resumed));
        assert_eq!(there.kind, Some(HandshakeKind::Resumed));
        assert_eq!(here.outcome.unwrap().0.identity, spiffe_id("cart"));
        assert_eq!(there.outcome.unwrap().0.identity, spiffe_id("web"));
    }
    assert_eq!(server.counts().with(Role::Client).resumed, 20);
    // Other expectations never see these sessions.
    let (here, _) = shake(&client, &server, &any(&["payments"]));
    assert_eq!(here.refusal().reason, Reason::PeerUnexpected);
}

#[test]
fn a_burst_of_connections_resumes_as_many_sessions_as_it_has_earned() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    let expected = any(&["cart"]);
    // Each gives two tickets, and the ones after the first take one.
    for _ in 0..31 {
        shake(&client, &server, &expected);
    }
    let (here, there) = (client.generation().unwrap(), server.generation().unwrap());
    let config = here.endpoint("10.0.0.1:4143", &expected).config;
    let name = MeshServerName::of_port(Port::new(8080).unwrap()).to_string();
    let begin = |_| {
        let alpn = vec![Alpn::Tcp.wire().to_vec()];
        let name = name.clone().try_into().unwrap();
        ClientConnection::new_with_alpn(Arc::clone(&config), name, alpn).unwrap()
    };
    let burst: Vec<ClientConnection> = (0..33).map(begin).collect();
    let resumed = burst.into_iter().filter_map(|mut out| {
        let mut into = ServerConnection::new(Arc::clone(&there.server)).unwrap();
        for _ in 0..6 {
            pass(&mut out, &mut into, &mut None);
            pass(&mut into, &mut out, &mut None);
        }
        (out.handshake_kind()? == HandshakeKind::Resumed).then_some(())
    });
    assert_eq!(resumed.count(), 32);
}

#[test]
fn a_changed_bundle_or_svid_ends_all_sessions() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (here, there) = (old.sidecar("web"), old.sidecar("cart"));
    let (client, server) = (tls(here.clone()), tls(there.clone()));
    let expected = any(&["cart"]);
    let full = |what: &str| {
        let (out, into) = shake(&client, &server, &expected);
        assert_eq!(out.kind, Some(HandshakeKind::Full), "{what}");
        out.outcome.expect(what);
        into.outcome.expect(what);
        assert_eq!(shake(&client, &server, &expected).0.kind, Some(HandshakeKind::Resumed));
    };
    full("at first");
    here.set_bundle(vec![new.root(), old.root()]).unwrap();
    full("the client's bundle changed");
    there.set_bundle(vec![new.root(), old.root()]).unwrap();
    full("the server's bundle changed");
    here.install(new.svid(&id("web")), vec![new.root(), old.root()]).unwrap();
    full("the client's SVID was renewed");
    assert_eq!(here.bundle_generation(), 2, "the bundle stayed the same");

    // The old root goes, and the server still has an SVID under it.
    here.set_bundle(vec![new.root()]).unwrap();
    let (out, _) = shake(&client, &server, &expected);
    let refusal = out.refusal();
    assert_eq!(refusal.reason, Reason::PeerUnverified);
    assert!(refusal.detail.contains("leads to an old root"), "{refusal}");
}

/// Should a session ever survive a change, the check after the handshake still refuses it.
#[test]
fn a_resumed_session_is_refused_under_a_bundle_without_its_root() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (client, server) = (tls(old.sidecar("web")), tls(old.sidecar("cart")));
    let expected = any(&["cart"]);
    shake(&client, &server, &expected);
    let (here, there) = (client.generation().unwrap(), server.generation().unwrap());
    let endpoint = here.endpoint("10.0.0.1:4143", &expected);
    let after = Arc::new(here.credentials.bundle.succeeded_by(vec![new.root()]).unwrap());
    let domain: Arc<str> = "weft.local".into();
    let stricter = PeerVerifier::new(
        Arc::clone(&after),
        Role::Server,
        Expected::OneOf(Arc::clone(&domain), expected),
    );
    let callers = PeerVerifier::new(after, Role::Client, Expected::Anybody(domain));
    let name = "8080.weft.internal".try_into().unwrap();
    let mut out = ClientConnection::new(Arc::clone(&endpoint.config), name).unwrap();
    let mut into = ServerConnection::new(Arc::clone(&there.server)).unwrap();
    for _ in 0..3 {
        pass(&mut out, &mut into, &mut None);
        pass(&mut into, &mut out, &mut None);
    }
    assert_eq!(out.handshake_kind(), Some(HandshakeKind::Resumed));
    let refusal = side(&client, &out, None, &stricter, &here.credentials.svid).refusal();
    assert!(refusal.detail.contains("leads to an old root"), "{refusal}");
    let refusal = side(&server, &into, None, &callers, &there.credentials.svid).refusal();
    assert!(refusal.detail.contains("leads to an old root"), "{refusal}");
}

#[test]
fn endpoints_remembered_are_bounded_and_the_used_ones_stay() {
    let generation = generation(&Authority::new("root").sidecar("web"));
    let expected = any(&["cart"]);
    let kept = generation.endpoint("kept", &expected).config;
    let lost = generation.endpoint("lost", &expected).config;
    for index in 0..2_000 {
        generation.endpoint(&format!("10.0.0.1:{index}"), &expected);
        assert!(Arc::ptr_eq(&kept, &generation.endpoint("kept", &any(&["cart"])).config));
    }
    assert!(!Arc::ptr_eq(&lost, &generation.endpoint("lost", &expected).config));
    assert!(generation.remembered() <= 512);
}

#[test]
fn alpn_names_survive_the_wire() {
    for alpn in Alpn::ALL {
        assert_eq!(Alpn::from_wire(alpn.wire()), Some(alpn));
    }
    assert_eq!(Alpn::from_wire(b"spdy/3"), None);
}

//! Peers that are not who they must be: refused on both sides, in words that name the expected and the presented.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use http::StatusCode;
use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use weft_tests::{
    apps::{App, Http},
    client::{Answer, Client, request},
    mesh::Sidecar,
    peer::{Authority, Caller, Clients, Credential, acceptor, id, svid},
    raw::Raw,
    recorder::Recorder,
    wait,
};

use super::stage::{OPAQUE, Setup, Stage};

/// Requests at once.
const CROWD: usize = 12;

/// The protocols of a sidecar.
const SIDECAR: [&[u8]; 4] = [b"weft-h2/1", b"h2", b"http/1.1", b"weft-tcp/1"];

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: catalog\r\n\r\n";

/// A certificate that is good for nothing here.
struct Bad {
    credential: Credential,
    /// Who it says that its holder is.
    presented: String,
    /// What is wrong with it.
    fault: &'static str,
}

impl Bad {
    fn new(credential: Credential, presented: impl Into<String>, fault: &'static str) -> Self {
        Self { credential, presented: presented.into(), fault }
    }
}

/// Certificates that nobody may present in this mesh, in either role.
fn bad(mesh: &Authority) -> Vec<Bad> {
    let hour = Duration::from_secs(3600);
    let stranger = Authority::stranger("a root of another mesh");
    let mut expired = svid(&id("expired"));
    expired.not_before = (SystemTime::now() - 2 * hour).into();
    expired.not_after = (SystemTime::now() - hour).into();
    let mut early = svid(&id("early"));
    early.not_before = (SystemTime::now() + hour).into();
    early.not_after = (SystemTime::now() + 2 * hour).into();
    let mut nameless = svid(&id("nameless"));
    nameless.subject_alt_names.clear();
    let mut double = svid(&id("double"));
    double.subject_alt_names.extend(svid(&id("web")).subject_alt_names);
    let mut useless = svid(&id("useless"));
    useless.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let foreign = "spiffe://elsewhere.example/ns/shop/sa/catalog";
    vec![
        Bad::new(mesh.issue(&expired), id("expired"), "expired at "),
        Bad::new(mesh.issue(&early), id("early"), "is not valid before "),
        Bad::new(mesh.issue(&svid(foreign)), foreign, "it is of the trust domain "),
        Bad::new(mesh.issue(&nameless), "presented", "has no URI name"),
        Bad::new(mesh.issue(&double), id("double"), "has several URI names"),
        Bad::new(mesh.issue(&svid("spiffe://weft.local/x")), "weft.local/x", "is not of the form "),
        Bad::new(mesh.issue(&useless), id("useless"), "is not made for a TLS "),
        Bad::new(Credential::self_signed(&svid(&id("self"))), id("self"), "is self-signed"),
        Bad::new(stranger.issue(&svid(&id("stranger"))), id("stranger"), "leads to no root"),
    ]
}

/// Calls catalog's HTTP port; says how the connection ended.
async fn call(stage: &Stage, credential: Option<&Credential>) -> String {
    let server_name = format!("{}.weft.internal", stage.http.app.address.port());
    let caller = Caller { credential, server_name: Some(&server_name), alpn: &[b"http/1.1"] };
    let mut raw = caller.call(stage.catalog.inbound()).await.expect("the client is done first");
    // It may be refused already.
    let _ = raw.try_send(REQUEST).await;
    raw.end().await.map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_client_is_refused_at_the_inbound_port_and_reads_so() {
    let stage = Stage::start().await;
    let refused = ["direction=\"inbound\"", "reason=\"peer-unverified\""];
    let handshakes = ["direction=\"inbound\"", "result=\"peer-unverified\""];
    let expected = "expected any identity of spiffe://weft.local: ";
    let rows = bad(&Authority::of(&stage.mesh));
    for (done, Bad { credential, presented, fault }) in rows.iter().enumerate() {
        let end = call(&stage, Some(credential)).await;
        assert!(end.contains("CertificateUnknown"), "{fault}: {end:?}");
        let line = ["inbound connection refused", "reason=peer-unverified", expected];
        stage.log.says(&[&line[..], &[presented, fault]].concat()).await;
        let count = done as f64 + 1.0;
        stage.catalog.counts("weft_refused_connections_total", &refused, count).await;
        stage.catalog.counts("weft_tls_handshakes_total", &handshakes, count).await;
    }
    let end = call(&stage, None).await;
    assert!(end.contains("CertificateRequired"), "{end:?}");
    let what = "the client presented no certificate, expected any identity of spiffe://weft.local";
    stage.log.says(&["reason=peer-unverified", what]).await;

    // A root that is no longer in the bundle.
    let old = Authority::of(&stage.mesh).issue(&svid(&id("old")));
    let roots = vec![Authority::stranger("the next root").root()];
    stage.catalog.running().identity.set_bundle(roots).expect("a root");
    let end = call(&stage, Some(&old)).await;
    assert!(end.contains("CertificateUnknown"), "{end:?}");
    stage.log.says(&["reason=peer-unverified", &id("old"), expected, "leads to an old root"]).await;
    assert!(stage.nothing_arrived());
}

/// A server in a sidecar's place: it presents what a test puts there, and keeps what it can read.
struct Impostor {
    app: App,
    presents: Arc<Mutex<Credential>>,
    heard: Arc<Mutex<String>>,
}

impl Impostor {
    async fn start(credential: Credential, clients: Clients) -> Self {
        let presents = Arc::new(Mutex::new(credential));
        let heard = Arc::<Mutex<String>>::default();
        let (now, keep) = (Arc::clone(&presents), Arc::clone(&heard));
        let app = App::tcp(move |stream| {
            let credential = now.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let keep = Arc::clone(&keep);
            async move {
                let acceptor = acceptor(&credential, &SIDECAR, clients);
                match acceptor.accept(stream).into_fallible().await {
                    Ok(tls) => {
                        let heard = Raw::over(tls).receive_to_end().await;
                        *keep.lock().unwrap_or_else(PoisonError::into_inner) += &heard;
                    }
                    // Closed with bytes unread, it would reset the connection before the alert is read.
                    Err((_, stream)) => Raw::over(stream).ended().await,
                }
            }
        })
        .await;
        Self { app, presents, heard }
    }

    fn present(&self, credential: Credential) {
        *self.presents.lock().unwrap_or_else(PoisonError::into_inner) = credential;
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A POST to catalog by each version of HTTP.
async fn posts(stage: &Stage) -> [Answer; 2] {
    [post(stage, Http::One).await, post(stage, Http::Two).await]
}

async fn post(stage: &Stage, version: Http) -> Answer {
    let mut client = Client::connect(stage.web.outbound(), version).await;
    client.send(request("POST", "http://catalog/", "hello")).await.expect("an answer")
}

/// Both answers say why, and what of it an operator must know.
fn assert_refused(answers: &[Answer], reason: &str, parts: &[&str]) {
    for answer in answers {
        let body = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
        assert_eq!(answer.field("weft-reason"), reason, "{answer:?}");
        for part in parts {
            assert!(body.contains(part), "{body:?} lacks {part:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_server_gets_no_byte_and_the_caller_is_told_who_was_expected() {
    let none = Credential::self_signed(&svid(&id("none")));
    let impostor = Impostor::start(none, Clients::All).await;
    let advertise = format!("--inbound-advertise={}", impostor.app.address);
    let stage = Stage::with(Setup { catalog: &[&advertise], ..Setup::default() }).await;
    let mesh = Authority::of(&stage.mesh);
    let unexpected = mesh.issue(&svid(&id("payments")));
    let mut rows = bad(&mesh);
    rows.push(Bad::new(unexpected, id("payments"), "not one that may be at the other end"));
    let expected = format!("expected {}: ", id("catalog"));
    for Bad { credential, presented, fault } in &rows {
        let is_known = presented == &id("payments");
        let reason = if is_known { "peer-unexpected" } else { "peer-unverified" };
        let fault = if is_known { "" } else { *fault };
        impostor.present(credential.clone());
        assert_refused(&posts(&stage).await, reason, &[presented, &expected, fault]);
        let line = ["no mutual TLS with an endpoint", &format!("reason={reason}"), &expected];
        stage.log.says(&[&line[..], &[presented, fault]].concat()).await;

        // It may be reset before it is known to be connected.
        if let Ok(opaque) = TcpStream::connect(stage.web.upstream(OPAQUE)).await {
            let mut opaque = Raw::over(opaque);
            let _ = opaque.try_send("hello").await;
            opaque.ended().await;
        }
    }
    let unverified = rows.len() as f64 - 1.0;
    for (reason, count) in [("peer-unverified", unverified), ("peer-unexpected", 1.0)] {
        let label = format!("reason=\"{reason}\"");
        let labels = ["direction=\"outbound\"", "service=\"shop/catalog:80\"", &label];
        stage.web.counts("weft_requests_failed_total", &labels, 2.0 * count).await;
        let labels = ["direction=\"outbound\"", "service=\"shop/catalog:6379\"", &label];
        stage.web.counts("weft_connections_failed_total", &labels, count).await;
        let labels = ["direction=\"outbound\"", &format!("result=\"{reason}\"")];
        stage.web.counts("weft_tls_handshakes_total", &labels, 3.0 * count).await;
    }
    assert_eq!(impostor.heard(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_this_side_by_any_alert_is_understood() {
    let none = Credential::self_signed(&svid(&id("none")));
    let impostor = Impostor::start(none, Clients::None).await;
    let advertise = format!("--inbound-advertise={}", impostor.app.address);
    let stage = Stage::with(Setup { catalog: &[&advertise], ..Setup::default() }).await;
    impostor.present(Authority::of(&stage.mesh).issue(&svid(&id("catalog"))));
    let refused = "refused our certificate (alert UnknownCA); we presented ";
    assert_refused(&posts(&stage).await, "tls-failed", &[refused, &id("catalog"), &id("web")]);
    assert_eq!(impostor.heard(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sidecars_both_say_that_the_server_was_refused() {
    let stage = Stage::start().await;
    let mesh = Authority::of(&stage.mesh);
    let foreign = "spiffe://elsewhere.example/ns/shop/sa/catalog";
    let rows = [
        ("peer-unexpected", mesh.issue(&svid(&id("cart"))), id("cart")),
        ("peer-unverified", mesh.issue(&svid(foreign)), foreign.to_owned()),
        ("peer-unverified", Credential::self_signed(&svid(&id("itself"))), id("itself")),
    ];
    let refused = ["direction=\"inbound\"", "reason=\"tls-failed\""];
    for (done, (reason, credential, presented)) in rows.iter().enumerate() {
        stage
            .catalog
            .running()
            .identity
            .install(credential.svid(), vec![mesh.root()])
            .expect("good");
        let expected = format!("expected {}: ", id("catalog"));
        assert_refused(&posts(&stage).await, reason, &[presented, &expected]);
        stage.log.says(&["no mutual TLS with an endpoint", presented, &expected]).await;
        let told = "the client refused our certificate (alert CertificateUnknown); we presented";
        stage.log.says(&["inbound connection refused", "tls-failed", told, presented]).await;
        let count = 2.0 * (done as f64 + 1.0);
        stage.catalog.counts("weft_refused_connections_total", &refused, count).await;
    }

    // Again who it was, but under a root that web no longer trusts.
    let good = mesh.issue(&svid(&id("catalog")));
    stage.catalog.running().identity.install(good.svid(), vec![mesh.root()]).expect("good");
    let next = vec![Authority::stranger("the next root").root()];
    stage.web.running().identity.set_bundle(next).expect("a root");
    let parts = [&*id("catalog"), "leads to an old root, which was rotated out of the bundle"];
    assert_refused(&posts(&stage).await, "peer-unverified", &parts);
    stage.catalog.counts("weft_refused_connections_total", &refused, 8.0).await;
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_shows_nobody_a_certificate_that_has_expired() {
    let stage = Stage::start().await;
    let mesh = Authority::of(&stage.mesh);
    let install = |sidecar: &Sidecar, account: &str| {
        let mut expired = svid(&id(account));
        expired.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        let credential = mesh.issue(&expired);
        sidecar.running().identity.install(credential.svid(), vec![mesh.root()]).expect("good");
    };
    install(&stage.catalog, "catalog");
    assert_refused(&posts(&stage).await, "tls-failed", &[&id("catalog")]);
    let own = "our own SVID does not hold now: ";
    stage.log.says(&["reason=identity-missing", own, &id("catalog")]).await;
    let labels = ["direction=\"inbound\"", "reason=\"identity-missing\""];
    stage.catalog.counts("weft_refused_connections_total", &labels, 2.0).await;

    install(&stage.web, "web");
    for answer in posts(&stage).await {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert_eq!(answer.field("weft-reason"), "identity-missing", "{answer:?}");
        let body = String::from_utf8_lossy(&answer.body);
        assert!(body.contains(own) && body.contains(&id("web")), "{body:?}");
    }
    let labels = ["direction=\"outbound\"", "reason=\"identity-missing\""];
    stage.web.counts("weft_requests_failed_total", &labels, 2.0).await;
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sidecars_both_say_that_the_client_was_refused() {
    let stage = Stage::start().await;
    let mesh = Authority::of(&stage.mesh);
    let stranger = Authority::stranger("a root of another mesh");
    let install = |credential: &Credential, root: CertificateDer<'static>| {
        stage.web.running().identity.install(credential.svid(), vec![root]).expect("good");
    };
    let rows = [
        (Credential::self_signed(&svid(&id("alone"))), id("alone"), "is self-signed"),
        (stranger.issue(&svid(&id("guest"))), id("guest"), "leads to no root"),
        (mesh.issue(&svid(&id("late"))), id("late"), "leads to an old root"),
    ];
    for (done, (credential, presented, fault)) in rows.iter().enumerate() {
        install(credential, mesh.root());
        if *fault == "leads to an old root" {
            let next = vec![Authority::stranger("the next root").root()];
            stage.catalog.running().identity.set_bundle(next).expect("a root");
        }
        let told = "refused our certificate (alert CertificateUnknown); we presented";
        assert_refused(&posts(&stage).await, "tls-failed", &[told, &id("catalog"), presented]);
        stage.log.says(&["no mutual TLS with an endpoint", "reason=tls-failed", presented]).await;
        let line =
            ["reason=peer-unverified", "expected any identity of spiffe://weft.local", fault];
        stage.log.says(&[&line[..], &[presented]].concat()).await;

        let mut opaque = Raw::connect(stage.web.upstream(OPAQUE)).await;
        let _ = opaque.try_send("hello").await;
        assert_eq!(opaque.receive_to_end().await, "");
        let count = done as f64 + 1.0;
        let failed = ["service=\"shop/catalog:6379\"", "reason=\"tls-failed\""];
        stage.web.counts("weft_connections_failed_total", &failed, count).await;
        let failed = ["service=\"shop/catalog:80\"", "reason=\"tls-failed\""];
        stage.web.counts("weft_requests_failed_total", &failed, 2.0 * count).await;
        let handshakes = ["direction=\"outbound\"", "result=\"tls-failed\""];
        stage.web.counts("weft_tls_handshakes_total", &handshakes, 3.0 * count).await;
    }
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refused_to_read_is_sent_to_another() {
    let stage = Stage::start().await;
    let shunned = Recorder::start().await;
    let replica = stage.replica(shunned.app.address).await;
    let next = vec![Authority::stranger("another root").root()];
    replica.running().identity.set_bundle(next).expect("a root");
    // Not idempotent: only what provably nobody has read may be sent again.
    let retried = ["service=\"shop/catalog:80\"", "reason=\"tls-failed\""];
    let mut sent = 0;
    wait::until_true("requests to be sent to both", || {
        sent += CROWD;
        async {
            // So many at once that some share a connection and others have one of their own.
            for answer in join_all((0..CROWD).map(|_| post(&stage, Http::One))).await {
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            }
            stage.web.count("weft_retries_total", &retried).await >= CROWD as f64
        }
    })
    .await;
    assert_eq!(shunned.app.connections(), 0);
    assert_eq!(stage.http.requests().len(), sent);
}

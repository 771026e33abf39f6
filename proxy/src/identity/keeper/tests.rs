//! The certificate is got, renewed and replaced, on paused time.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::CertificateDer;
use tokio::{task::JoinHandle, time::Instant};
use weft_proto::JoinToken;

use super::*;
use crate::{
    identity::{IdentityStatus, Issued, ServiceAccount},
    tls::testing::{Authority, id, leaf_params},
};

const HOUR: Duration = Duration::from_secs(3600);

/// What the fake control plane does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Refuse,
    /// A certificate for a key that nobody asked for.
    OtherKey,
    /// A chain that does not lead to the roots that go with it.
    OtherRoots,
}

/// A control plane that runs on paused time.
struct Fake {
    began: (Duration, Instant),
    ttl: Duration,
    authorities: Mutex<Vec<Authority>>,
    /// Answers other than an SVID, first to last.
    script: Mutex<VecDeque<Answer>>,
    /// When, and whether by token.
    calls: Mutex<Vec<(Duration, bool)>>,
    proofs: Mutex<Vec<Proof>>,
    /// Roots that discovery pushes while the request is under way.
    pushed_meanwhile: Mutex<Option<(Identity, Vec<CertificateDer<'static>>)>>,
}

impl Fake {
    fn new(ttl: Duration) -> Arc<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Arc::new(Self {
            began: (Duration::from_secs(now.as_secs()), Instant::now()),
            ttl,
            authorities: Mutex::new(vec![Authority::new("root")]),
            script: Mutex::default(),
            calls: Mutex::default(),
            proofs: Mutex::default(),
            pushed_meanwhile: Mutex::default(),
        })
    }

    fn now(&self) -> Duration {
        self.began.0 + self.began.1.elapsed()
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.authorities.lock().unwrap().iter().map(Authority::root).collect()
    }

    fn answer_next_with(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().extend(answers);
    }

    /// When calls came since the start, and whether by token.
    fn calls(&self) -> Vec<(Duration, bool)> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|(at, token)| (*at - self.began.0, *token)).collect()
    }

    fn certify(&self, request: &[u8], authority: &Authority) -> CertificateDer<'static> {
        let request = rcgen::CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let mut params = leaf_params(&id("cart"));
        params.not_before = (UNIX_EPOCH + self.now() - Duration::from_secs(300)).into();
        params.not_after = (UNIX_EPOCH + self.now() + self.ttl).into();
        authority.issue(params, &request.public_key)
    }
}

impl Issuer for Arc<Fake> {
    async fn issue(&self, request: Vec<u8>, proof: Proof) -> Result<Issued, IssueError> {
        self.calls.lock().unwrap().push((self.now(), !matches!(proof, Proof::Svid)));
        self.proofs.lock().unwrap().push(proof);
        let answer = self.script.lock().unwrap().pop_front();
        if let Some((identity, roots)) = self.pushed_meanwhile.lock().unwrap().take() {
            identity.set_bundle(roots).unwrap();
        }
        let mut roots = self.roots();
        let request = match answer {
            Some(Answer::Refuse) => return Err(IssueError::Refused("not today".to_owned())),
            Some(Answer::OtherKey) => PrivateKey::generate().unwrap().signing_request().unwrap(),
            Some(Answer::OtherRoots) => {
                roots = vec![Authority::new("other").root()];
                request
            }
            None => request,
        };
        let chain = vec![self.certify(&request, &self.authorities.lock().unwrap()[0])];
        Ok(Issued { chain, roots })
    }
}

/// A keeper at work; it ends with this.
struct Running {
    identity: Identity,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn status(&self) -> IdentityStatus {
        self.identity.status()
    }
}

fn token() -> JoinToken {
    JoinToken { id: "0123456789abcdef".into(), secret: "5a".repeat(32), root_sha256: [7; 32] }
}

fn run(fake: &Arc<Fake>) -> Running {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(token().to_string().as_bytes()).unwrap();
    run_with(fake, Some(TokenSource::File(path)), folder)
}

fn run_with(fake: &Arc<Fake>, source: Option<TokenSource>, folder: tempfile::TempDir) -> Running {
    let identity = Identity::default();
    let clock = Arc::clone(fake);
    let keeper = Keeper::new(identity.clone(), Arc::clone(fake), source)
        .with_wall_clock(Arc::new(move || clock.now()));
    Running { identity, task: tokio::spawn(keeper.run()), _folder: folder }
}

/// Lets time pass.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_svid_comes_by_token_and_the_next_by_the_one_in_force() {
    let fake = Fake::new(24 * HOUR);
    let running = run(&fake);
    let mut changes = running.identity.watch();
    changes.changed().await.unwrap();
    let first = running.identity.credentials().unwrap();
    assert_eq!(first.svid.identity().as_str(), id("cart"));
    pass(13 * HOUR).await;
    assert_eq!(fake.calls().len(), 1, "renewed too early");
    pass(3 * HOUR + Duration::from_secs(60)).await;
    let calls = fake.calls();
    assert_eq!(calls.iter().map(|call| call.1).collect::<Vec<_>>(), [true, false]);
    let second = running.identity.credentials().unwrap();
    assert!(second.svid.not_after() > first.svid.not_after());
    assert_ne!(second.svid.chain(), first.svid.chain(), "another key, another certificate");
    assert_eq!(second.bundle_generation, 1, "the roots are the same");
    pass(10 * 24 * HOUR).await;
    let status = running.status();
    assert!((14..=20).contains(&status.issued), "{status:?}");
    assert_eq!((status.failures, status.last_failure), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_failing_renewal_is_tried_until_the_svid_expires_and_then_the_token_is_the_proof() {
    let fake = Fake::new(HOUR);
    let running = run(&fake);
    running.identity.watch().changed().await.unwrap();
    fake.answer_next_with(std::iter::repeat_n(Answer::Refuse, 120));
    pass(50 * Duration::from_secs(60)).await;
    let status = running.status();
    assert_eq!(status.last_failure.as_deref(), Some("not today"));
    assert!(status.failures > 10, "{status:?}");
    fake.answer_next_with(std::iter::repeat_n(Answer::Refuse, 100));
    pass(25 * Duration::from_secs(60)).await;
    for (at, by_token) in fake.calls().into_iter().skip(1) {
        assert_eq!(by_token, at >= HOUR, "at {at:?}");
    }
    assert!(fake.calls().last().unwrap().1, "the token was tried");
    fake.script.lock().unwrap().clear();
    pass(Duration::from_secs(31)).await;
    let status = running.status();
    assert_eq!((status.issued, status.last_failure), (2, None));
    assert!(running.identity.credentials().unwrap().svid.holds_at(fake.now()));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_the_status_says_what_to_do() {
    let fake = Fake::new(HOUR);
    let running = run_with(&fake, None, tempfile::tempdir().unwrap());
    pass(Duration::from_secs(60)).await;
    let status = running.status();
    assert!(status.failures > 2 && !status.ready, "{status:?}");
    assert!(status.last_failure.unwrap().contains("WEFT_TOKEN_FILE"));
    assert!(fake.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_signing_root_is_followed_soon_and_once() {
    let fake = Fake::new(24 * HOUR);
    let running = run(&fake);
    running.identity.watch().changed().await.unwrap();
    let announced: Vec<_> =
        fake.roots().into_iter().chain([Authority::new("other").root()]).collect();
    running.identity.set_bundle(announced).unwrap();
    pass(HOUR).await;
    assert_eq!(fake.calls().len(), 1, "a root that does not sign yet is no reason to renew");

    fake.authorities.lock().unwrap().insert(0, Authority::new("new"));
    running.identity.set_bundle(fake.roots()).unwrap();
    pass(Duration::from_secs(31)).await;
    assert_eq!(fake.calls().len(), 2);
    let credentials = running.identity.credentials().unwrap();
    assert!(credentials.bundle.newest_root_issued(credentials.svid.chain()));
    assert_eq!(running.identity.bundle_generation(), 3);
    pass(HOUR).await;
    assert_eq!(fake.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn roots_pushed_while_an_svid_is_asked_for_are_not_lost() {
    let fake = Fake::new(24 * HOUR);
    let running = run(&fake);
    running.identity.watch().changed().await.unwrap();
    // The answer to the renewal is from before the rotation that discovery pushes meanwhile.
    let newest = Authority::new("newest");
    let pushed: Vec<_> = std::iter::once(newest.root()).chain(fake.roots()).collect();
    *fake.pushed_meanwhile.lock().unwrap() = Some((running.identity.clone(), pushed.clone()));
    // At two thirds of its life at the latest, and once more within half a minute.
    pass(16 * HOUR + Duration::from_secs(31)).await;
    assert!(running.identity.credentials().unwrap().bundle.has_roots(&pushed));
    // The SVID is not under the newest root: it is asked for again soon, but less and less often.
    let calls = fake.calls().len();
    assert!((3..=14).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn what_is_issued_wrongly_is_never_put_into_force() {
    let fake = Fake::new(HOUR);
    fake.answer_next_with([Answer::OtherKey, Answer::OtherRoots]);
    let running = run(&fake);
    let mut failures = Vec::new();
    while running.identity.credentials().is_none() {
        let status = running.status();
        if status.failures as usize > failures.len() {
            failures.push(status.last_failure.unwrap());
        }
        pass(Duration::from_millis(50)).await;
    }
    assert!(failures[0].contains("another key"), "{failures:?}");
    assert!(failures[1].contains("leads to no root"), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_joins_by_its_token_as_it_is_then_also_after_an_outage_longer_than_its_svid() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("roots.pem"), Authority::new("root").root_pem()).unwrap();
    std::fs::write(path("token"), "aaaa.bbbb.first").unwrap();
    let source = ServiceAccount { token: path("token"), roots: path("roots.pem") };
    let fake = Fake::new(HOUR);
    let second = path("token");
    let running = run_with(&fake, Some(TokenSource::ServiceAccount(source)), folder);
    running.identity.watch().changed().await.unwrap();

    fake.answer_next_with(std::iter::repeat_n(Answer::Refuse, 1000));
    std::fs::write(&second, "aaaa.bbbb.second").unwrap();
    pass(2 * HOUR).await;
    assert!(!running.identity.credentials().unwrap().svid.holds_at(fake.now()));
    let last = fake.proofs.lock().unwrap().last().cloned().unwrap();
    let Proof::ServiceAccount { token, .. } = last else { panic!("{last:?}") };
    assert_eq!(token.into_secret(), "aaaa.bbbb.second");

    // A file that is gone is said, and nothing from before goes out.
    std::fs::remove_file(&second).unwrap();
    pass(Duration::from_secs(60)).await;
    let failure = running.status().last_failure.unwrap();
    assert!(failure.contains(second.to_str().unwrap()), "{failure}");
    let calls = fake.calls().len();
    pass(Duration::from_secs(120)).await;
    assert_eq!(fake.calls().len(), calls);

    std::fs::write(&second, "aaaa.bbbb.third").unwrap();
    fake.script.lock().unwrap().clear();
    pass(Duration::from_secs(31)).await;
    assert!(running.identity.credentials().unwrap().svid.holds_at(fake.now()));
    assert_eq!(running.status().last_failure, None);
}

//! What is learnt of a port, and when a silent client is no longer waited for: a client and a server that the tests move.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::net::{self, TcpListener};

async fn pair() -> (Socket, net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (far, near) = tokio::join!(net::connect(address), listener.accept());
    (Socket::new(near.expect("accepted").0), far.expect("connected"))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), test);
}

/// A server's connection that is there at once.
#[derive(Debug)]
struct Dialled(Socket);

impl AsRef<Socket> for Dialled {
    fn as_ref(&self) -> &Socket {
        &self.0
    }
}

#[test]
fn what_a_client_does_that_was_silent_at_first_teaches_what_the_next_is_to_expect() {
    const HTTP: &[u8] = b"GET / HTTP/1.1\r\n";
    for (before, said, after) in [
        (Learned::Nothing, HTTP, Learned::ClientFirst),
        (Learned::ServerFirst, HTTP, Learned::Mixed),
        (Learned::Mixed, HTTP, Learned::Mixed),
        (Learned::ClientFirst, HTTP, Learned::ClientFirst),
        (Learned::ServerFirst, b"*1\r\n", Learned::ServerFirst),
    ] {
        run(async {
            let ((client, mut far), (server, _application)) = (pair().await, pair().await);
            let learned = Cell::new(before);
            let wait = Wait::Gap(GAP);
            let asked = Client {
                socket: &client,
                learned: &learned,
                wait,
                ahead: Duration::ZERO,
                drain: None,
            };
            // It speaks once the server was dialled.
            let dial = async {
                far.write_all(said).await.expect("open");
                Ok(Dialled(server))
            };
            let found = find_out(asked, Duration::ZERO, dial).await.expect("found out");
            assert_eq!(matches!(found, Found::Http(_)), said == HTTP);
            assert_eq!(learned.get(), after, "{before:?} {said:?}");
        });
    }
}

/// A port may serve both, and one port may be another application's later.
#[test]
fn an_answered_request_keeps_nobody_from_a_server_that_was_heard_first_nor_for_long() {
    let now = clock::now();
    let late = |learned: Learned| learned.dialled_at(now).saturating_duration_since(now);
    assert_eq!(late(Learned::ServerFirst), Duration::ZERO);
    let mixed = Learned::ServerFirst.after_late_http().answered_request(now);
    assert_eq!((mixed, late(mixed)), (Learned::Mixed, SILENCE));
    assert_eq!(mixed.after_word(&Detected::Http1).answered_request(now), Learned::Mixed);

    let http = Learned::ClientFirst.answered_request(now);
    assert_eq!(late(http), STILL_HTTP);
    assert_eq!(http.after_word(&Detected::Http1), http);
    assert_eq!(http.after_word(&Detected::Opaque), Learned::ClientFirst);
    let answered_again = http.answered_request(now + STILL_HTTP);
    assert_eq!(late(answered_again), 2 * STILL_HTTP);
}

#[test]
fn a_client_that_is_expected_to_speak_first_is_waited_for_so_long_and_no_longer() {
    run(async {
        let (client, _far) = pair().await;
        let learned = Cell::new(Learned::Http(clock::now()));
        let (wait, ahead) = (Wait::Gap(GAP), Duration::from_millis(30));
        let asked = Client { socket: &client, learned: &learned, wait, ahead, drain: None };
        let found =
            find_out::<Dialled>(asked, Duration::ZERO, async { panic!("not to be dialled") });
        assert!(matches!(found.await, Ok(Found::Nothing)));
    });
}

#[test]
fn who_connects_and_leaves_without_a_word_teaches_nothing() {
    run(async {
        let (client, far) = pair().await;
        drop(far);
        let learned = Cell::default();
        let wait = Wait::Gap(GAP);
        let asked =
            Client { socket: &client, learned: &learned, wait, ahead: Duration::ZERO, drain: None };
        let found = find_out::<Dialled>(asked, Duration::ZERO, pending()).await.expect("found out");
        assert!(matches!(found, Found::Nothing));
        assert_eq!(learned.get(), Learned::Nothing);
    });
}

#[test]
fn a_client_that_has_begun_to_speak_is_neither_silent_nor_drained() {
    for is_draining in [false, true] {
        run(async {
            let ((client, mut far), (server, _application)) = (pair().await, pair().await);
            let (trigger, drain) = crate::drain::channel();
            if is_draining {
                trigger.start();
            }
            let learned = Cell::default();
            let wait = Wait::Whole(Duration::from_secs(20));
            let asked = Client {
                socket: &client,
                learned: &learned,
                wait,
                ahead: Duration::ZERO,
                drain: Some(&drain),
            };
            let dial = async |()| {
                far.write_all(b"GET / ").await.expect("open");
                tokio::task::spawn_local(async move {
                    // The pause is what is tested.
                    clock::sleep(Duration::from_millis(150)).await;
                    far.write_all(b"HTTP/1.1\r\n").await.expect("open");
                    pending::<()>().await;
                });
                clock::sleep(Duration::from_millis(20)).await;
                Ok(Dialled(server))
            };
            let idle = Duration::from_millis(50);
            let found = find_out_in_turn(asked, idle, ready(Ok(())), dial).await;
            assert!(matches!(found, Ok(Found::Http(Detected::Http1))), "{found:?}");
        });
    }
}

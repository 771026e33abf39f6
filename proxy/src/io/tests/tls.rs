//! The record layer: handshakes, their failures, and their ends.

use rustls::{AlertDescription, HandshakeKind};

use super::*;
use crate::io::TlsError;

#[test]
fn a_handshake_says_what_was_agreed_on() {
    worker(async {
        let configs = configs();
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (near, far) = tls_pair(&configs).await;
            for socket in [&near, &far] {
                let info = socket.tls().expect("TLS");
                assert_eq!(info.alpn.as_deref(), Some(&b"weft-h2/1"[..]));
                assert_eq!(info.server_name.as_deref(), Some("weft.test"));
                assert_eq!(info.handshake_kind, Some(expected));
            }
            assert_eq!(near.tls().expect("TLS").peer_certificates.len(), 1);
            // The tickets come behind the handshake; with them goes the first answer.
            far.write(b"hello").expect("open");
            assert_eq!(&fill_to(&near, 5).await[..], b"hello");
        }
    });
}

#[test]
fn bytes_that_were_peeked_at_are_put_back_in_front_of_the_handshake() {
    worker(async {
        let configs = configs();
        let (near, far) = pair().await;
        let (client, server) = soon(async {
            tokio::join!(near.start_tls_client(configs.client.clone(), name(), vec![]), async {
                let mut hello = BytesMut::new();
                fill(&far, &mut hello).await.expect("read");
                far.unread(hello.split_off(7).freeze());
                far.unread(hello.freeze());
                far.start_tls_server(configs.server.clone()).await
            })
        })
        .await;
        client.expect("client").write(b"inside").expect("open");
        assert_eq!(&fill_to(&server.expect("server"), 6).await[..], b"inside");
    });
}

#[test]
fn a_handshake_may_arrive_byte_by_byte() {
    worker(async {
        let configs = configs();
        let (near, near_proxy) = pair().await;
        let (far_proxy, far) = pair().await;
        let trickle = |from: Socket, to: Socket| async move {
            let mut buffer = BytesMut::new();
            while fill(&from, &mut buffer).await.expect("read") > 0 {
                for byte in buffer.split() {
                    to.write(&[byte]).expect("open");
                    to.flush_now();
                    tokio::task::yield_now().await;
                }
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_local(trickle(near_proxy.clone(), far_proxy.clone()));
        tasks.spawn_local(trickle(far_proxy, near_proxy));
        let (near, far) = tls_over(&configs, near, far).await;
        near.write(b"ping").expect("open");
        assert_eq!(&fill_to(&far, 4).await[..], b"ping");
        far.write(b"pong").expect("open");
        assert_eq!(&fill_to(&near, 4).await[..], b"pong");
    });
}

#[test]
fn a_refused_handshake_says_why_to_both_sides() {
    worker(async {
        let configs = configs();
        // The client does not know the server's certificate.
        let stranger = super::configs();
        let (near, far) = pair().await;
        let (client, server) = soon(async {
            tokio::join!(
                near.start_tls_client(stranger.client, name(), vec![]),
                far.start_tls_server(configs.server.clone())
            )
        })
        .await;
        let Err(TlsError::Refused(error)) = client else { panic!("{client:?}") };
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
        let Err(TlsError::Refused(error)) = server else { panic!("{server:?}") };
        assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
        settle(|| driver::count() == 0).await;
    });
}

#[test]
fn a_client_that_was_refused_after_it_thought_to_be_done_sees_the_alert() {
    worker(async {
        let configs = configs();
        let (near, far) = pair().await;
        let (client, server) = soon(async {
            tokio::join!(
                async {
                    let client = near.start_tls_client(configs.client.clone(), name(), vec![]);
                    let client = client.await.expect("the server speaks last");
                    // The server never reads this; its alert must come through all the same.
                    client.write(&pattern(1_000)).expect("open");
                    let mut nothing = BytesMut::new();
                    fill(&client, &mut nothing).await
                },
                far.start_tls_server(configs.strict.clone())
            )
        })
        .await;
        let Err(TlsError::Refused(error)) = server else { panic!("{server:?}") };
        assert_eq!(error, rustls::Error::NoCertificatesPresented);
        let error = client.expect_err("refused");
        let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        assert_eq!(
            alert,
            Some(&rustls::Error::AlertReceived(AlertDescription::CertificateRequired)),
            "{error}"
        );
    });
}

#[test]
fn a_peer_that_goes_away_or_speaks_something_else_fails_the_handshake() {
    worker(async {
        let configs = configs();
        let (near, far) = pair().await;
        drop(near);
        let outcome = soon(far.start_tls_server(configs.server.clone())).await;
        assert!(matches!(outcome, Err(TlsError::Closed)), "{outcome:?}");

        let (near, far) = pair().await;
        near.write(b"GET / HTTP/1.1\r\n\r\n").expect("open");
        let outcome = soon(far.start_tls_server(configs.server.clone())).await;
        assert!(
            matches!(outcome, Err(TlsError::Refused(rustls::Error::InvalidMessage(_)))),
            "{outcome:?}"
        );
    });
}

#[test]
fn an_end_is_clean_only_with_close_notify() {
    worker(async {
        let configs = configs();
        for drops in [true, false] {
            let (near, far) = tls_pair(&configs).await;
            near.write(b"last words").expect("open");
            let kept = if drops {
                drop(near);
                None
            } else {
                shut(&near).await.expect("drained");
                Some(near)
            };
            let mut buffer = fill_to(&far, 10).await;
            assert_eq!(fill(&far, &mut buffer).await.expect("a clean end"), 0);
            if let Some(near) = kept {
                far.write(b"the other way is open").expect("open");
                fill_to(&near, 21).await;
            }
        }

        // The far end is cut off below TLS.
        let (near, near_proxy) = pair().await;
        let (far_proxy, far) = pair().await;
        let forward = |from: Socket, to: Socket| async move {
            let mut buffer = BytesMut::new();
            while fill(&from, &mut buffer).await.is_ok_and(|count| count > 0) {
                to.write(&buffer.split()).expect("open");
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_local(forward(near_proxy.clone(), far_proxy.clone()));
        tasks.spawn_local(forward(far_proxy.clone(), near_proxy.clone()));
        let (near, far) = tls_over(&configs, near, far).await;
        near.write(b"cut").expect("open");
        let mut buffer = fill_to(&far, 3).await;
        shut(&far_proxy).await.expect("cut");
        for _ in 0..2 {
            let error = fill(&far, &mut buffer).await.expect_err("not clean");
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    });
}

#[test]
fn ciphertext_that_was_tampered_with_breaks_the_connection() {
    worker(async {
        let configs = configs();
        let (near, near_proxy) = pair().await;
        let (far_proxy, far) = pair().await;
        let tamper = Rc::new(std::cell::Cell::new(false));
        let forward = |from: Socket, to: Socket, tamper: Rc<std::cell::Cell<bool>>| async move {
            let mut buffer = BytesMut::new();
            while fill(&from, &mut buffer).await.is_ok_and(|count| count > 0) {
                if tamper.get()
                    && let Some(last) = buffer.last_mut()
                {
                    *last ^= 1;
                }
                to.write(&buffer.split()).expect("open");
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        let never = Rc::default();
        tasks.spawn_local(forward(near_proxy.clone(), far_proxy.clone(), Rc::clone(&tamper)));
        tasks.spawn_local(forward(far_proxy, near_proxy, never));
        let (near, far) = tls_over(&configs, near, far).await;
        near.write(b"good").expect("open");
        let mut buffer = fill_to(&far, 4).await;
        tamper.set(true);
        near.write(b"evil").expect("open");
        let error = fill(&far, &mut buffer).await.expect_err("tampered");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(&buffer[..], b"good");
        assert!(far.write(b"more").is_err());
        // The alert is still sent.
        drop(far);
        let error = fill(&near, &mut BytesMut::new()).await.expect_err("an alert");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    });
}

#[test]
fn http2_runs_over_it() {
    worker(async {
        let (near, far) = tls_pair(&configs()).await;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_local(async move {
            let mut server = h2::server::handshake(far).await.expect("a server");
            while let Some(request) = server.accept().await {
                let (request, mut respond) = request.expect("a request");
                let mut body = request.into_body();
                let mut answer =
                    respond.send_response(http::Response::new(()), false).expect("open");
                while let Some(data) = body.data().await {
                    let data = data.expect("data");
                    let _ = body.flow_control().release_capacity(data.len());
                    answer.send_data(data, false).expect("open");
                }
                answer.send_data(Bytes::new(), true).expect("open");
            }
        });
        let (client, connection) = h2::client::handshake(near).await.expect("a client");
        tasks.spawn_local(async move { connection.await.expect("a clean end") });
        let mut client = client.ready().await.expect("ready");
        let request = http::Request::post("https://weft.test/").body(()).expect("a request");
        let (response, mut body) = client.send_request(request, false).expect("open");
        let content = Bytes::from(pattern(50_000));
        body.send_data(content.clone(), true).expect("open");
        let mut answer = soon(response).await.expect("a response").into_body();
        let mut received = BytesMut::new();
        while let Some(data) = soon(answer.data()).await {
            let data = data.expect("data");
            let _ = answer.flow_control().release_capacity(data.len());
            received.extend_from_slice(&data);
        }
        assert!(received == content);
        drop((client, body, answer));
        while let Some(ended) = soon(tasks.join_next()).await {
            ended.expect("no panic");
        }
        settle(|| driver::count() == 0).await;
    });
}

#[test]
fn keys_may_change_at_any_time() {
    worker(async {
        let (near, far) = tls_pair(&configs()).await;
        for round in 0..20 {
            let (from, to) = if round % 3 == 0 { (&far, &near) } else { (&near, &far) };
            from.connection.refresh_keys();
            let content = pattern(1 + round * 10_000);
            from.write(&content).expect("open");
            assert!(fill_to(to, content.len()).await == content);
        }
        near.connection.refresh_keys();
        shut(&near).await.expect("drained");
        assert_eq!(fill(&far, &mut BytesMut::new()).await.expect("a clean end"), 0);
    });
}

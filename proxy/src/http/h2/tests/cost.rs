//! What HTTP/2 costs in system calls: the reason why nothing here flushes by itself.

use futures_util::future::join_all;
use http::{Method, Version};

use super::*;
use crate::http::{Fields, Frame, Interim, RequestHead};

fn head(method: Method) -> RequestHead {
    RequestHead {
        method,
        target: http::Uri::from_static("http://cart/"),
        version: Version::HTTP_2,
        headers: Fields::new(),
        upgrade: None,
        accepts_trailers: false,
    }
}

/// Our client and our server, which sends back what it gets.
async fn echoing() -> Rc<Http2Client> {
    let (near, far) = streams().await;
    let stream_window = super::super::STREAM_WINDOW;
    let settings = ServerSettings { stream_window, ..server_settings() };
    spawn_server(far, settings, |request| Box::pin(async { ok(request.body) }));
    our_client_with(near, ClientSettings { stream_window, ..client_settings() }).await
}

/// Sends content and reads it back; its size.
async fn echo(client: &Http2Client, content: Bytes) -> usize {
    let sent = client.send(&head(Method::POST), Body::full(content), &Interim::default()).await;
    let Response { mut body, upload, .. } = sent.expect("a response");
    let uploading = async {
        if let Some(upload) = upload {
            upload.await.expect("sent whole");
        }
    };
    let receiving = async {
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let Frame::Data(data) = frame.expect("whole") else { panic!("no trailers") };
            size += data.len();
        }
        size
    };
    tokio::join!(uploading, receiving).1
}

/// Writes of both sides while this runs.
async fn writes(work: impl Future) -> u64 {
    let before = turn::statistics().writes;
    work.await;
    turn::statistics().writes - before
}

#[test]
fn a_request_is_one_write_on_each_side() {
    worker(async {
        let client = echoing().await;
        let content = || Bytes::from_static(b"content");
        echo(&client, content()).await;
        let writes = writes(async {
            for _ in 0..100 {
                assert_eq!(echo(&client, content()).await, 7);
            }
        })
        .await;
        assert!(writes <= 210, "{writes} writes for 100 requests and responses");
    });
}

#[test]
fn requests_of_one_turn_leave_together() {
    worker(async {
        let client = echoing().await;
        let content = || Bytes::from_static(b"content");
        echo(&client, content()).await;
        let writes = writes(join_all((0..50).map(|_| echo(&client, content())))).await;
        assert!(writes <= 10, "{writes} writes for 50 requests and responses");
    });
}

#[test]
fn large_content_leaves_in_large_writes() {
    const SIZE: usize = 16 << 20;
    worker(async {
        let client = echoing().await;
        let content = Bytes::from(vec![7; SIZE]);
        let writes = writes(async { assert_eq!(echo(&client, content).await, SIZE) }).await;
        let smallest = 2 * SIZE as u64 / (32 * 1024);
        assert!(writes <= smallest, "{writes} writes for {SIZE} bytes each way");
    });
}

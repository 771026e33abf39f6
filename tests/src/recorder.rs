//! An application of bytes that keeps all it gets: what it was sent is known to the byte.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{apps::App, raw::Raw};

/// What it answers every request with.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The application.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub app: App,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Answers every request of HTTP/1 with [`OK`].
    pub async fn start() -> Self {
        Self::answering(|_| OK.to_owned()).await
    }

    /// Answers every request of HTTP/1 with what `answer` makes of its head.
    pub async fn answering(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> Self {
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&requests);
        let app = App::tcp(move |stream| {
            let (kept, answer) = (Arc::clone(&kept), answer.clone());
            async move {
                let mut peer = Raw::over(stream);
                while let Some(head) = peer.receive_until_or_end("\r\n\r\n").await {
                    // Kept before its body is whole: a request that breaks off has arrived too.
                    let at = keep(&kept, &head);
                    if !head.ends_with("\r\n\r\n") {
                        return;
                    }
                    let Some(body) = body(&head, &mut peer).await else { return };
                    kept.lock().unwrap_or_else(PoisonError::into_inner)[at] += &body;
                    if peer.try_send(answer(&head)).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { app, requests }
    }

    /// Every request so far, in the order of their heads, with as much of it as came.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn keep(kept: &Mutex<Vec<String>>, head: &str) -> usize {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(head.to_owned());
    kept.len() - 1
}

/// A request's body as its head frames it; `None` when it breaks off.
async fn body(head: &str, peer: &mut Raw) -> Option<String> {
    let head = head.to_lowercase();
    if head.contains("transfer-encoding: chunked\r\n") {
        let body = peer.receive_until_or_end("0\r\n\r\n").await?;
        return body.ends_with("0\r\n\r\n").then_some(body);
    }
    let Some((_, rest)) = head.split_once("content-length: ") else { return Some(String::new()) };
    let length = rest.split_once("\r\n").and_then(|(length, _)| length.parse().ok())?;
    let body = peer.receive_or_end(length).await?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

//! An application of bytes that keeps all it gets: what it was sent is known to the byte.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{apps::App, raw::Raw};

/// What it answers every request with.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the target of a request holds that is neither answered nor kept.
pub const HOLD: &str = "/hold";

/// The application.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub app: App,
    requests: Arc<Mutex<Vec<String>>>,
    held: Arc<AtomicU64>,
}

impl Recorder {
    /// Answers every request of HTTP/1 with [`OK`].
    pub async fn start() -> Self {
        Self::answering(|_| OK.to_owned()).await
    }

    /// Answers every request of HTTP/1 with what `answer` makes of its head.
    pub async fn answering(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> Self {
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let held = Arc::<AtomicU64>::default();
        let (kept, holding) = (Arc::clone(&requests), Arc::clone(&held));
        let app = App::tcp(move |stream| {
            let (kept, held, answer) = (Arc::clone(&kept), Arc::clone(&holding), answer.clone());
            async move {
                let mut peer = Raw::over(stream);
                while let Some(head) = peer.receive_until_or_end("\r\n\r\n").await {
                    if head.contains(HOLD) {
                        held.fetch_add(1, Ordering::Relaxed);
                        return peer.ended().await;
                    }
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
        Self { app, requests, held }
    }

    /// Every request so far, in the order of their heads, with as much of it as came.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests so far that are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
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
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        // Chunks hold no empty line here, so that the first one is the end of the trailers.
        let body = peer.receive_until_or_end("\r\n\r\n").await?;
        return body.ends_with("\r\n\r\n").then_some(body);
    }
    let Some((_, rest)) = head.split_once("\r\ncontent-length: ") else {
        return Some(String::new());
    };
    let length = rest.split_once("\r\n").and_then(|(length, _)| length.parse().ok())?;
    let body = peer.receive_or_end(length).await?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

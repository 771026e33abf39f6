//! Waiting for a condition, with a deadline: what tests do instead of sleeping.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// How long a condition may take on a busy machine before the test fails: longer than a dead HTTP/2 connection is
/// held for a live one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `look` gives a value.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        sleep(INTERVAL).await;
    }
}

/// Waits until `look` is true.
///
/// # Panics
/// When it is not within [`PATIENCE`].
pub async fn until_true<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    until(what, || {
        let looked = look();
        async move { looked.await.then_some(()) }
    })
    .await;
}

/// A result that must come soon.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub async fn soon<T: Debug>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

//! Waiting for a watched value.

use tokio::sync::watch;

/// The value, as soon as it is as wanted; never when its writer is gone. Cancel-safe.
pub(crate) async fn once<T: Clone>(
    value: &mut watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool,
) -> T {
    let found = value.wait_for(wanted).await.map(|found| found.clone()).ok();
    match found {
        Some(found) => found,
        None => std::future::pending().await,
    }
}

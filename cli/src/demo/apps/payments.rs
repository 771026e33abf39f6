//! The shop's payments: takes a moment, as payments do.

use std::time::Duration;

use serde_json::json;
use weft_proxy::clock;

use super::serve;

pub(super) async fn run() -> anyhow::Result<()> {
    serve::serve(|_| async {
        clock::sleep(Duration::from_millis(fastrand::u64(2..8))).await;
        Ok(json!({ "charged": fastrand::u32(1..100) }))
    })
    .await
}

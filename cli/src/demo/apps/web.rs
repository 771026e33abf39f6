//! The shop's front: asks catalog, cart and payments, and makes one page of their answers.

use serde_json::json;

use super::{call::Caller, serve};

pub(super) async fn run() -> anyhow::Result<()> {
    let caller = Caller::from_environment()?;
    serve::serve(move |_| page(caller.clone())).await
}

async fn page(caller: Caller) -> serve::Answer {
    let (catalog, cart) = tokio::join!(
        caller.get("http://catalog.shop/articles"),
        // The short name reaches the own namespace.
        caller.get("http://cart/cart"),
    );
    let (catalog, cart) = (catalog?, cart?);
    let payment = caller.get("http://payments.shop.svc.cluster.local/charge").await?;
    Ok(json!({ "catalog": catalog, "cart": cart, "payment": payment }))
}

//! The shop's cart: asks the inventory over gRPC, at the local port that its sidecar bound for it.

use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use super::{
    inventory::wire::{StockRequest, inventory_client::InventoryClient},
    serve, variable,
};

pub(super) async fn run() -> anyhow::Result<()> {
    let address = variable("INVENTORY_ADDR")?;
    let inventory = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let inventory = InventoryClient::new(inventory);
    serve::serve(move |_| cart(inventory.clone())).await
}

async fn cart(mut inventory: InventoryClient<Channel>) -> serve::Answer {
    let request = StockRequest { article: "kettle".into() };
    let answer = inventory.stock(request).await;
    let stock = answer.map_err(|status| format!("inventory: {status}"))?.into_inner();
    Ok(json!({ "articles": ["kettle"], "in_stock": stock.count }))
}

//! The shop's inventory: a gRPC service.

use tonic::{Request, Response, Status, async_trait, transport::Server};
use wire::{
    StockRequest, StockResponse,
    inventory_server::{Inventory, InventoryServer},
};

/// Generated from `proto/inventory.proto`.
#[allow(unreachable_pub, clippy::all, reason = "generated")]
pub(super) mod wire {
    tonic::include_proto!("shop.inventory.v1");
}

pub(super) async fn run() -> anyhow::Result<()> {
    let address = super::listen_address()?;
    Server::builder().add_service(InventoryServer::new(Shelf)).serve(address).await?;
    Ok(())
}

struct Shelf;

#[async_trait]
impl Inventory for Shelf {
    async fn stock(
        &self,
        request: Request<StockRequest>,
    ) -> Result<Response<StockResponse>, Status> {
        if request.get_ref().article.is_empty() {
            return Err(Status::invalid_argument("article is empty: name one"));
        }
        Ok(Response::new(StockResponse { count: fastrand::u32(1..50) }))
    }
}

//! The network that the proxy stands on: tokio's, or the simulator's under `--cfg weft_sim`.
//!
//! Every socket of the proxy is made from these types, so that a simulation can partition, delay and cut.

#[cfg(not(weft_sim))]
pub use tokio::net::{TcpListener, TcpStream};
#[cfg(weft_sim)]
pub use turmoil::net::{TcpListener, TcpStream};

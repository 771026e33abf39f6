//! The network that sidecars reach the control plane over: tokio's, or the simulator's under `--cfg weft_sim`.
//!
//! The admin port and the API's socket stay the system's: no sidecar speaks to them, and no partition of the
//! mesh concerns them.

#[cfg(not(weft_sim))]
pub use tokio::net::{TcpListener, TcpStream};
#[cfg(weft_sim)]
pub use turmoil::net::{TcpListener, TcpStream};

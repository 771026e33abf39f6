//! What the mesh refuses, with hostile peers made by hand: who may speak, on which port, what, and in whose name.

mod alpn;
mod answers;
mod http2;
mod limits;
mod patience;
mod peers;
mod plaintext;
mod side_headers;
mod smuggling;
mod stage;

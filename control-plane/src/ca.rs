//! The certificate authority: who a sidecar is, proved once by a join token and then by its certificate.
//!
//! Comes in: certificate signing requests with a proof. Goes out: X.509 SVIDs, the trust bundle, and the
//! control plane's own serving certificate. It must never let a key or a token's secret reach a log, an
//! answer or an error, nor acknowledge what would not survive kill -9.
//!
//! In the order in which an issue passes them:
//! - [`serving`]: TLS of port 4480 and of the webhook: the certificate presented; [`pem()`]: certificates as text;
//! - [`peer`]: the client's certificate, verified under today's bundle;
//! - [`service`]: the gRPC Identity service: which proof, for which workload;
//! - [`tokens`]: join tokens, of which only a hash of the secret is kept;
//! - [`durable`]: where the roots and the tokens are kept;
//! - [`csr`]: the signing request, of which only the key counts;
//! - [`authority`]: the roots and the signing;
//! - [`issued`]: the certificates last issued, for `weft identity`.
//!
//! # How a root is replaced
//! 1. `rotate_root` makes a key and a certificate, and announces it: the bundle becomes [old, new].
//! 2. When every connected proxy has acknowledged that bundle, but no sooner than the propagation time and
//!    no later than ten times it, the new root signs. The bundle becomes [new, old]: its first root is the
//!    one that signs, and a proxy whose SVID does not lead to it renews. Chains carry the new root
//!    cross-signed by the old one, so that whoever missed step 1 still verifies them.
//! 3. `retire_old` drops the old root as soon as every SVID under it has expired or been renewed: the
//!    bundle becomes \[new\]. Join tokens that pin the old root work until then.
//!
//! Each step is on disk before it is visible, so that a restart at any point goes on from there.

pub mod authority;
pub mod csr;
pub mod durable;
pub mod external;
pub mod issued;
pub mod peer;
mod pem;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod root;
pub mod service;
pub mod serving;
mod svid;
pub mod tokens;

use std::{io, path::PathBuf};

pub use authority::{Authority, AuthorityConfig, Bundle, RootStatus};
pub use issued::{Issued, IssuedRecord};
pub use peer::{Peer, PeerRefusal};
pub use pem::pem;
pub use svid::Holder;
pub use tokens::{NewToken, TokenRefusal, TokenStatus, Tokens};

/// What goes wrong in the certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the state folder, or one handed in, cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {why}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The state cannot be read or written where it is kept.
    #[error("{place}: {why}")]
    Vault {
        /// Where.
        place: String,
        /// What was the matter.
        why: String,
    },
    /// A signing request is refused.
    #[error("the certificate signing request is refused: {0}")]
    Csr(&'static str),
    /// What was asked is not possible in the state that the roots are in.
    #[error("{0}")]
    State(String),
    /// A name that no certificate can carry.
    #[error(transparent)]
    Name(#[from] weft_proto::NameError),
    /// The signing itself failed.
    #[error("the certificate could not be made: {0}")]
    Signing(#[from] rcgen::Error),
    /// rustls refused a certificate or key of ours.
    #[error("TLS refused our own certificate: {0}")]
    Tls(#[from] rustls::Error),
}

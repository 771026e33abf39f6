//! Why the rules could not be written, or do not hold: in words for who reads the init container's log.

use std::{io, net::SocketAddr};

/// What ended `weft-proxy init`.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A setting that makes no sense together with another.
    #[error("{0}")]
    Settings(String),
    /// There is no way to speak to the kernel's packet filter.
    #[error(
        "cannot speak with the kernel's nf_tables: {0}; it needs nf_tables (CONFIG_NF_TABLES) in the kernel"
    )]
    Netlink(#[source] io::Error),
    /// CAP_NET_ADMIN is missing.
    #[error(
        "the rules of this network namespace may not be changed by this process: it needs CAP_NET_ADMIN (as root \
         with securityContext.capabilities.add [NET_ADMIN] in a container), and in a user namespace of its own, \
         a network namespace of its own"
    )]
    NotPermitted,
    /// The kernel refuses an object; nothing was changed.
    #[error("the kernel refused {about}: {cause}{hint}; nothing was changed")]
    Refused {
        /// Which object.
        about: String,
        /// What it said.
        cause: io::Error,
        /// What it may lack.
        hint: String,
    },
    /// What is there is not what was written.
    #[error(
        "the rules are not there as they were written: {0}; does something else write table inet weft of this \
         network namespace?"
    )]
    NotAsWritten(String),
    /// Nothing can listen on the outbound port.
    #[error(
        "cannot listen on {address} to see whether interception holds: {cause}; is loopback up?"
    )]
    CannotListen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// The probe connection went elsewhere.
    #[error(
        "interception does not hold: a connection to {destination} should have come to the outbound port {port}, \
         but {what}{others}"
    )]
    NotIntercepted {
        /// What was dialled; nobody is there.
        destination: SocketAddr,
        /// Where it should have come.
        port: u16,
        /// What happened.
        what: String,
        /// Others' rules on its way.
        others: String,
    },
    /// The proxy's own connections come back to it.
    #[error(
        "interception does not hold: a connection to {destination} of user {user}, the proxy's own, came to the \
         outbound port {port} too: the proxy would talk to itself{others}"
    )]
    Loops {
        /// What was dialled.
        destination: SocketAddr,
        /// Whose connection it was.
        user: u32,
        /// Where it came.
        port: u16,
        /// Others' rules on its way.
        others: String,
    },
}

impl InitError {
    /// Whether the rules were written, but do not do what they should.
    #[must_use]
    pub const fn is_of_verification(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Netlink(_) | Self::NotPermitted | Self::Refused { .. } => {
                false
            }
            Self::NotAsWritten(_)
            | Self::CannotListen { .. }
            | Self::NotIntercepted { .. }
            | Self::Loops { .. } => true,
        }
    }
}

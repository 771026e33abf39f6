//! How the control plane's ports are opened.
//!
//! Comes in: an address and the flag that says it. Goes out: a listener. `[::]` means every address of both families; where
//! the kernel does without IPv6 it means those of IPv4, so that one manifest suits every cluster.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use super::StartError;

/// Opens a port by `bind`.
pub(super) async fn listen<L>(
    wanted: SocketAddr,
    flag: &'static str,
    bind: impl AsyncFn(SocketAddr) -> io::Result<L>,
) -> Result<L, StartError> {
    let bound = match bind(wanted).await {
        Err(error) if lacks_ipv6(wanted, &error) => {
            let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port());
            tracing::info!(flag, address = %wanted, listening = %ipv4, "this kernel has no IPv6");
            bind(ipv4).await
        }
        bound => bound,
    };
    bound.map_err(|source| StartError::Listen { address: wanted, flag, source })
}

/// Whether every address was asked for, and could not be had because the kernel does without IPv6
/// (`ipv6.disable=1`).
fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let no_such_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    address.is_ipv6()
        && address.ip().is_unspecified()
        && error.raw_os_error() == Some(no_such_family)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[tokio::test]
    async fn only_a_kernel_without_ipv6_turns_every_address_into_ipv4s() {
        for (address, error, expected) in [
            ("[::]:4480", Errno::AFNOSUPPORT, Some("0.0.0.0:4480")),
            ("[::]:4480", Errno::ADDRINUSE, None),
            ("[fd00::1]:4480", Errno::AFNOSUPPORT, None),
            ("0.0.0.0:4480", Errno::AFNOSUPPORT, None),
        ] {
            let wanted: SocketAddr = address.parse().unwrap();
            let bind = async |tried: SocketAddr| {
                if tried == wanted { Err(io::Error::from(error)) } else { Ok(tried) }
            };
            let bound = listen(wanted, "--discovery-listen", bind).await;
            let bound = bound.map(|address| address.to_string());
            match expected {
                Some(expected) => assert_eq!(bound.unwrap(), expected, "{address} {error}"),
                None => {
                    let message = bound.unwrap_err().to_string();
                    assert!(message.contains("(--discovery-listen)"), "{message}");
                    assert!(message.contains(address), "{message}");
                }
            }
        }
    }
}

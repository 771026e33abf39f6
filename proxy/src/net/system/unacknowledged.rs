//! How many of the bytes that a connection was given the peer's system has not acknowledged (`SIOCOUTQ`, tcp(7)).
//!
//! Comes in: a TCP connection. Goes out: a number, or nothing where the system does not tell. A server that ends a
//! kept connection while a request is on its way never reads that request; that its system acknowledged none of
//! it is the only proof, and lets even a POST be sent again (RFC 9112 section 9.3.1).
//!
//! The workspace's one exception from the ban on unsafe code: no crate asks for this safely.
#![allow(unsafe_code, reason = "one ioctl, which only reads")]

use std::{ffi::c_int, os::fd::AsFd};

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` is `TIOCOUTQ`, whose number differs between architectures.
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes sent and not acknowledged, and those that the kernel has not sent yet.
pub(crate) fn unacknowledged(stream: &impl AsFd) -> Option<u64> {
    // SAFETY: SIOCOUTQ on a socket writes one `int` to the address that it is given, and does nothing else; on
    // any other descriptor it fails without writing, or (a terminal) writes an `int` as well.
    let count = unsafe { ioctl(stream, Getter::<SIOCOUTQ, c_int>::new()) };
    count.ok().and_then(|count| u64::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;
    use crate::clock;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        (near, listener.accept().expect("accepted").0)
    }

    #[test]
    fn what_the_peer_has_is_acknowledged() {
        let (mut near, mut far) = pair();
        assert_eq!(unacknowledged(&near), Some(0));
        near.write_all(&[1; 1000]).expect("open");
        far.read_exact(&mut [0; 1000]).expect("arrives");
        let deadline = clock::now() + Duration::from_secs(10);
        while unacknowledged(&near) != Some(0) {
            // The peer's system may wait some 40 ms with it.
            assert!(clock::now() < deadline, "{:?}", unacknowledged(&near));
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_meets_a_closed_connection_never_is() {
        let (mut near, far) = pair();
        drop(far);
        near.write_all(&[1; 1000]).expect("the first write after the end still goes");
        assert_eq!(near.read(&mut [0; 1]).expect("a clean end"), 0);
        assert_eq!(unacknowledged(&near), Some(1000));
    }

    #[test]
    fn what_is_no_connection_has_no_number() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(unacknowledged(&file), None);
    }
}

//! The conversation with nf_tables: transactions and dumps over a netlink socket.
//!
//! Comes in: messages. Goes out: the kernel's word that all of a transaction took effect, or which message it
//! refused (then none did); and what a dump holds. It waits for an answer no longer than [`PATIENCE`], and reads
//! nothing but what the kernel sends to this very socket.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
        socket_with, sockopt,
    },
};

use super::{attributes::Attributes, error::InitError, messages::Message, nf_tables::*};

/// The kernel answers within the call, unless it loads modules.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than the greatest message, which a refusal brings back whole: a set's elements, 32 KiB at most. The kernel
/// fills no more than 32 KiB in a dump.
const RECEIVE: usize = 128 * 1024;
/// A dump that changed under way is asked for again, so often.
const DUMPS: usize = 10;
/// The head of a netlink message, and of what nf_tables has behind it.
const HEAD: usize = 16;
const FAMILY_HEAD: usize = 4;

/// A socket to nf_tables.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

/// A message from the kernel.
struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Netlink {
    pub(crate) fn open() -> Result<Self, InitError> {
        Self::try_open().map_err(|errno| InitError::Netlink(errno.into()))
    }

    fn try_open() -> rustix::io::Result<Self> {
        let protocol = Some(netlink::NETFILTER);
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket })
    }

    /// Carries out all messages, or none.
    pub(crate) fn commit(&self, messages: &[Message]) -> Result<(), InitError> {
        self.send(&batch(messages))?;
        let mut buffer = vec![0; RECEIVE];
        let mut confirmed = 0;
        while confirmed < messages.len() {
            let received = self.receive(&mut buffer)?;
            for reply in replies(received).filter(|reply| reply.kind == NLMSG_ERROR) {
                match errno(reply.payload) {
                    None => confirmed += 1,
                    Some(errno) => return Err(refusal(messages, reply.sequence, errno)),
                }
            }
        }
        Ok(())
    }

    /// The attributes of all objects that a request (one of `NFT_MSG_GET…`) asks for.
    pub(crate) fn dump(
        &self,
        kind: u16,
        family: u8,
        attributes: &Attributes,
    ) -> Result<Vec<Dumped>, InitError> {
        for _ in 1..DUMPS {
            if let Some(dumped) = self.try_dump(kind, family, attributes)? {
                return Ok(dumped);
            }
        }
        Err(InitError::Netlink(io::Error::other("the rules are changed faster than they are read")))
    }

    /// Nothing where the objects changed under way.
    fn try_dump(
        &self,
        kind: u16,
        family: u8,
        attributes: &Attributes,
    ) -> Result<Option<Vec<Dumped>>, InitError> {
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        let mut request = Vec::new();
        append(&mut request, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, (family, 0), attributes);
        self.send(&request)?;
        let mut buffer = vec![0; RECEIVE];
        let mut dumped = Vec::new();
        let mut is_whole = true;
        loop {
            let received = self.receive(&mut buffer)?;
            for reply in replies(received) {
                is_whole &= reply.flags & NLM_F_DUMP_INTR == 0;
                match reply.kind {
                    NLMSG_DONE => return Ok(is_whole.then_some(dumped)),
                    NLMSG_ERROR => match errno(reply.payload) {
                        Some(Errno::PERM) => return Err(InitError::NotPermitted),
                        Some(errno) => return Err(InitError::Netlink(errno.into())),
                        None => {}
                    },
                    _ => dumped.extend(Dumped::of(reply.payload)),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), InitError> {
        // A transaction is one message to the socket, which its buffer must hold.
        let _ = sockopt::set_socket_send_buffer_size(&self.socket, 2 * bytes.len());
        let sent = send(&self.socket, bytes, SendFlags::empty());
        sent.map(|_| ()).map_err(|errno| InitError::Netlink(errno.into()))
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], InitError> {
        let capacity = buffer.len();
        let (_, length) = recv(&self.socket, &mut *buffer, RecvFlags::TRUNC).map_err(|errno| {
            let cause = match errno {
                Errno::AGAIN => io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
                errno => errno.into(),
            };
            InitError::Netlink(cause)
        })?;
        if length > capacity {
            return Err(InitError::Netlink(io::Error::other("an answer is too long")));
        }
        Ok(&buffer[..length])
    }
}

/// An object of a dump: its family, and its attributes.
#[derive(Debug)]
pub(crate) struct Dumped {
    pub(crate) family: u8,
    pub(crate) attributes: Vec<u8>,
}

impl Dumped {
    fn of(payload: &[u8]) -> Option<Self> {
        let family = *payload.first()?;
        Some(Self { family, attributes: payload.get(FAMILY_HEAD..)?.to_vec() })
    }
}

/// A transaction. Each message has its place as its sequence number, and is to be confirmed.
fn batch(messages: &[Message]) -> Vec<u8> {
    let none = Attributes::new();
    let nf_tables = (NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
    let mut batch = Vec::new();
    append(&mut batch, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, nf_tables, &none);
    let mut sequence = 0;
    for message in messages {
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | message.kind;
        let flags = NLM_F_REQUEST | NLM_F_ACK | message.flags;
        let attributes = message.attributes.clone().followed_by(&message.aside);
        append(&mut batch, kind, flags, sequence, (NFPROTO_INET, 0), &attributes);
        sequence += 1;
    }
    append(&mut batch, NFNL_MSG_BATCH_END, NLM_F_REQUEST, sequence, nf_tables, &none);
    batch
}

fn append(
    to: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &Attributes,
) {
    let attributes = attributes.as_bytes();
    let length = u32::try_from(HEAD + FAMILY_HEAD + attributes.len())
        .expect("an attribute is below 64 KiB, and a message has few");
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(flags.to_ne_bytes());
    to.extend(sequence.to_ne_bytes());
    // The sender: whom the kernel takes this socket for.
    to.extend(0_u32.to_ne_bytes());
    // Then nf_tables' own: family, version 0, resource.
    to.extend([family, 0]);
    to.extend(resource.to_be_bytes());
    to.extend(attributes);
}

/// The messages in what was received; ends where the bytes make no sense.
fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let reply = Reply {
            kind: half(4)?,
            flags: half(6)?,
            sequence: u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
            payload: bytes.get(HEAD..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    })
}

/// What an answer of kind `NLMSG_ERROR` says: a negative errno, or 0 for a confirmation.
fn errno(payload: &[u8]) -> Option<Errno> {
    let code = payload
        .first_chunk()
        .map_or(-Errno::PROTO.raw_os_error(), |code| i32::from_ne_bytes(*code));
    (code != 0).then(|| Errno::from_raw_os_error(code.wrapping_neg()))
}

fn refusal(messages: &[Message], sequence: u32, errno: Errno) -> InitError {
    if errno == Errno::PERM {
        return InitError::NotPermitted;
    }
    let message = usize::try_from(sequence).ok().and_then(|place| messages.get(place));
    let about = message.map_or("the transaction", |message| message.about.as_str());
    let needs = message.map_or(&[][..], |message| message.needs.as_slice());
    let is_missing = matches!(
        errno,
        Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT
    );
    let hint = if is_missing && !needs.is_empty() {
        format!(
            ": the kernel has no {} (it takes Linux 5.2 or newer, with these modules built in or loaded on the node: \
             modprobe {})",
            needs.join(" or no "),
            needs.join(" ")
        )
    } else {
        String::new()
    };
    InitError::Refused { about: about.to_owned(), cause: errno.into(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::messages;

    #[test]
    fn a_refusal_names_the_object_and_what_the_kernel_lacks() {
        let table = crate::init::tests::table(&[]);
        let batch = messages::replace(&table);
        let refused = |about: &str, errno| {
            let place = batch.iter().position(|message| message.about.contains(about));
            let sequence = u32::try_from(place.expect("it is there")).expect("few messages");
            refusal(&batch, sequence, errno).to_string()
        };
        for (about, errno, parts) in [
            ("fib daddr", Errno::NOENT, ["fib daddr type != local", "modprobe nft_fib_inet"]),
            ("chain inbound,", Errno::NOENT, ["type nat in family inet", "Linux 5.2"]),
            ("table inet", Errno::OPNOTSUPP, ["table inet weft", "modprobe nf_tables"]),
            ("redirect", Errno::NOENT, ["redirect to :4140", "nft_redir"]),
            ("set skipped", Errno::NOMEM, ["set skipped_outbound_ports", "nothing was changed"]),
            ("chain inbound,", Errno::PERM, ["CAP_NET_ADMIN", "capabilities.add [NET_ADMIN]"]),
        ] {
            let said = refused(about, errno);
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
    }

    #[test]
    fn what_the_kernel_sends_is_read_without_trust_in_its_lengths() {
        let mut bytes = Vec::new();
        append(&mut bytes, 2, 0, 7, (0, 0), &Attributes::new());
        assert_eq!(replies(&bytes).map(|reply| reply.sequence).collect::<Vec<_>>(), [7]);
        for length in 0..bytes.len() {
            assert_eq!(replies(&bytes[..length]).count(), 0, "{length}");
        }
        assert_eq!(errno(&[]), Some(Errno::PROTO));
        assert_eq!(errno(&0_i32.to_ne_bytes()), None);
        assert_eq!(errno(&(-1_i32).to_ne_bytes()), Some(Errno::PERM));
    }
}

//! The TLS record layer inside a socket: plaintext on one side, ciphertext on the other, no system calls.
//!
//! In come ciphertext that was read and plaintext that was written; out go plaintext for the reader and batches of
//! ciphertext for the kernel. It stands on rustls's unbuffered connections, which own no buffers, so that an
//! idle connection holds none either: what is kept here is the beginning of a record that has not come whole,
//! and ciphertext that the kernel did not take. Certificates and identities are judged by `crate::tls`.
//!
//! It must never send a plaintext byte unencrypted, and never take a TCP end for the end of the data.

use std::{fmt, io, sync::Arc};

use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, NamedGroup, ServerConfig,
    client::UnbufferedClientConnection,
    server::{Acceptor, UnbufferedServerConnection},
};
use rustls_pki_types::{CertificateDer, ServerName};

use super::{buffer::WriteBuffer, failure::Failure, turn};

mod session;

use session::{Plain, Sealed, Session, Step};

/// Plaintext encrypted at a time: four records.
const BATCH: usize = 64 * 1024;

/// Room for a batch, its records' overhead (even when cut into many pieces), and what waited before it.
const BATCH_ROOM: usize = BATCH + 32 * 1024;

/// Ciphertext that waits is sent together with the next batch up to this size, alone beyond it.
const JOIN: usize = 16 * 1024;

/// A peer may leave so much unfinished: a handshake message is at most 64 KiB for rustls.
const MAX_PARTIAL: usize = 80 * 1024;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The connection broke.
    #[error("the connection broke during the TLS handshake: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection without a word.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// This side refused the peer, or the peer's alert refused this side.
    #[error("the TLS handshake was refused: {0}")]
    Refused(#[from] rustls::Error),
}

/// What a handshake came to.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The protocol agreed on.
    pub alpn: Option<Vec<u8>>,
    /// The peer's chain, its own certificate first; also after a resumed handshake.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// Full or resumed.
    pub handshake_kind: Option<HandshakeKind>,
    /// The name that the client asked for.
    pub server_name: Option<String>,
    /// The group of the key exchange.
    pub key_exchange: Option<NamedGroup>,
}

/// One TLS session and the little that it keeps.
pub(super) struct Tls {
    session: Session,
    server_name: Option<Box<str>>,
    /// Reads the server name out of the ClientHello, which the server's session does not tell.
    hello: Option<Box<Acceptor>>,
    /// Received, and not a whole record yet.
    partial: Vec<u8>,
    /// Encrypted, and not taken by the kernel yet.
    ciphertext: Vec<u8>,
    /// Plaintext bytes of which no ciphertext has reached the kernel.
    uncounted: usize,
    started: bool,
    /// Plaintext has come.
    heard: bool,
    /// See [`super::Socket::refusal`].
    refusal: Option<AlertDescription>,
    peer_closed: bool,
    close_sent: bool,
}

impl Tls {
    pub(super) fn client(
        config: Arc<ClientConfig>,
        server_name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, rustls::Error> {
        let name = server_name.to_str().into_owned().into_boxed_str();
        let session = UnbufferedClientConnection::new_with_alpn(config, server_name, alpn)?;
        Ok(Self { server_name: Some(name), ..Self::new(Session::Client(session), None) })
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let session = Session::Server(UnbufferedServerConnection::new(config)?);
        Ok(Self::new(session, Some(Box::default())))
    }

    fn new(session: Session, hello: Option<Box<Acceptor>>) -> Self {
        Self {
            session,
            server_name: None,
            hello,
            partial: Vec::new(),
            ciphertext: Vec::new(),
            uncounted: 0,
            started: false,
            heard: false,
            refusal: None,
            peer_closed: false,
            close_sent: false,
        }
    }

    /// What was read before TLS began.
    pub(super) fn begin_with(&mut self, received: &[u8]) {
        self.partial.extend_from_slice(received);
    }

    /// Takes the first step of a handshake: the client's hello, or the answer to what was read before.
    pub(super) fn start(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), rustls::Error> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        let mut received = std::mem::take(&mut self.partial);
        self.receive(&mut received, 0, sink).map(|_| ())
    }

    pub(super) fn is_established(&self) -> bool {
        !self.session.common().is_handshaking()
    }

    pub(super) const fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub(super) const fn close_sent(&self) -> bool {
        self.close_sent
    }

    pub(super) fn info(&self) -> TlsInfo {
        let common = self.session.common();
        TlsInfo {
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            peer_certificates: common.peer_certificates().unwrap_or_default().to_vec(),
            handshake_kind: common.handshake_kind(),
            server_name: self.server_name.as_deref().map(str::to_owned),
            key_exchange: common.negotiated_key_exchange_group().map(|group| group.name()),
        }
    }

    // Receiving.

    pub(super) const fn partial_len(&self) -> usize {
        self.partial.len()
    }

    /// Takes what was read into `incoming` behind room for the [`Tls::partial_len`] bytes that an earlier read
    /// left. Hands plaintext to `sink` and says how much; answers are kept as ciphertext to send.
    pub(super) fn receive(
        &mut self,
        incoming: &mut [u8],
        kept: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, rustls::Error> {
        incoming[..kept].copy_from_slice(&self.partial);
        self.read_hello(&incoming[kept..]);
        let mut plaintext = 0;
        let mut count = |bytes: &[u8]| {
            plaintext += bytes.len();
            sink(bytes);
        };
        let mut consumed = 0;
        loop {
            let rest = &mut incoming[consumed..];
            let (discard, step) = self.session.step(rest, &mut self.ciphertext, &mut count);
            consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Idle) => break,
                Err(error) => {
                    self.session.collect_alert(&mut incoming[consumed..], &mut self.ciphertext);
                    self.note_refusal(&error, plaintext);
                    return Err(error);
                }
            }
        }
        self.heard |= plaintext > 0;
        self.keep_partial(&incoming[consumed..])?;
        Ok(plaintext)
    }

    fn keep_partial(&mut self, rest: &[u8]) -> Result<(), rustls::Error> {
        if rest.is_empty() || self.peer_closed {
            self.partial = Vec::new();
        } else if rest.len() > MAX_PARTIAL {
            return Err(rustls::Error::General("handshake message too long".to_owned()));
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }

    fn note_refusal(&mut self, error: &rustls::Error, plaintext: usize) {
        if let rustls::Error::AlertReceived(alert) = error
            && !self.heard
            && plaintext == 0
        {
            self.refusal = Some(*alert);
        }
    }

    pub(super) const fn refusal(&self) -> Option<AlertDescription> {
        self.refusal
    }

    fn read_hello(&mut self, mut received: &[u8]) {
        let Some(acceptor) = &mut self.hello else { return };
        while !received.is_empty() {
            // What is wrong with the hello is the session's to say.
            let read = acceptor.read_tls(&mut received).is_ok();
            match acceptor.accept() {
                Ok(None) if read => {}
                Ok(None) | Err(_) => return self.hello = None,
                Ok(Some(accepted)) => {
                    self.server_name = accepted.client_hello().server_name().map(Box::from);
                    return self.hello = None;
                }
            }
        }
    }

    // Sending.

    pub(super) const fn has_ciphertext(&self) -> bool {
        !self.ciphertext.is_empty()
    }

    pub(super) const fn ciphertext_len(&self) -> usize {
        self.ciphertext.len()
    }

    pub(super) fn discard_ciphertext(&mut self) {
        self.ciphertext = Vec::new();
    }

    /// Puts into `batch` what is to be sent next: ciphertext that waits, then as much of `plaintext` as fits,
    /// then, after the last of it, close_notify where `close` asks for it.
    pub(super) fn encrypt_batch(
        &mut self,
        plaintext: &mut WriteBuffer,
        close: bool,
        batch: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let waiting = std::mem::take(&mut self.ciphertext);
        let mut filled = waiting.len();
        if batch.len() < BATCH_ROOM.max(filled) {
            batch.resize(BATCH_ROOM.max(filled), 0);
        }
        batch[..filled].copy_from_slice(&waiting);
        if filled > JOIN || !self.is_established() {
            return Ok(filled);
        }
        let mut left = BATCH;
        while left > 0 && !plaintext.is_empty() {
            let piece = plaintext.first();
            let piece = &piece[..piece.len().min(left)];
            match self.seal(Plain::Data(piece), &mut batch[filled..])? {
                Sealed::NoRoom => return Ok(filled),
                Sealed::Other(count) => filled += count,
                Sealed::Plain(count) => {
                    let piece = piece.len();
                    (filled, left) = (filled + count, left - piece);
                    self.uncounted += piece;
                    plaintext.consume(piece);
                }
            }
        }
        while close && plaintext.is_empty() && !self.close_sent {
            match self.seal(Plain::CloseNotify, &mut batch[filled..])? {
                Sealed::NoRoom => break,
                Sealed::Other(count) => filled += count,
                Sealed::Plain(count) => {
                    self.close_sent = true;
                    filled += count;
                }
            }
        }
        Ok(filled)
    }

    /// Encrypts into `room`.
    fn seal(&mut self, plain: Plain<'_>, room: &mut [u8]) -> Result<Sealed, Failure> {
        turn::count(|statistics| statistics.encryptions += 1);
        // What was received stands beside it because rustls looks at both together.
        self.session.seal(plain, &mut self.partial, room).map_err(Failure::Tls)
    }

    /// Keeps what the kernel did not take.
    pub(super) fn keep_ciphertext(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.ciphertext = rest.to_vec();
        }
    }

    #[cfg(test)]
    pub(super) fn refresh_keys(&mut self) {
        self.session.refresh_keys(&mut self.partial);
    }

    /// Bytes of heap that its buffers hold.
    #[cfg(test)]
    pub(super) const fn buffered_capacity(&self) -> usize {
        self.partial.capacity() + self.ciphertext.capacity()
    }

    /// How many plaintext bytes count as sent, after the kernel took `count` bytes of ciphertext.
    pub(super) fn count_sent(&mut self, count: usize) -> u64 {
        if count == 0 { 0 } else { std::mem::take(&mut self.uncounted) as u64 }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

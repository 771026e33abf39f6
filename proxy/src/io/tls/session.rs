//! A rustls connection without buffers, driven step by step.
//!
//! In come records and plaintext; out go plaintext and records, each into memory of the caller's. rustls has one
//! type for each side; here they are one.

use rustls::{
    CommonState,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

/// One side's session; both are driven alike.
pub(super) enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What one step of the session came to.
pub(super) enum Step {
    /// There is more to do.
    Again,
    /// The peer said that it sends no more.
    PeerClosed,
    /// Nothing more comes of what was received.
    Idle,
}

/// What to encrypt.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// What came of encrypting.
pub(super) enum Sealed {
    /// All of it, in so many bytes of ciphertext.
    Plain(usize),
    /// Not yet: so many bytes of something else go first.
    Other(usize),
    /// Nothing: the room is too small.
    NoRoom,
}

impl Session {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Client(session) => session,
            Self::Server(session) => session,
        }
    }

    /// Takes one step with what was received; says how many bytes of it are done with.
    pub(super) fn step(
        &mut self,
        received: &mut [u8],
        answers: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Self::Client(session) => {
                take_step(session.process_tls_records(received), answers, sink)
            }
            Self::Server(session) => {
                take_step(session.process_tls_records(received), answers, sink)
            }
        }
    }

    /// After an error: the alert that names it. As long as there is something to send, a step does just that
    /// and looks at nothing that was received.
    pub(super) fn collect_alert(&mut self, received: &mut [u8], answers: &mut Vec<u8>) {
        while self.common().wants_write() {
            if self.step(received, answers, &mut |_| {}).1.is_err() {
                break;
            }
        }
    }

    /// Encrypts into `room`. `partial` is what was received and is not a whole record.
    pub(super) fn seal(
        &mut self,
        plain: Plain<'_>,
        partial: &mut [u8],
        room: &mut [u8],
    ) -> Result<Sealed, rustls::Error> {
        match self {
            Self::Client(session) => seal(session.process_tls_records(partial), plain, room),
            Self::Server(session) => seal(session.process_tls_records(partial), plain, room),
        }
    }

    #[cfg(test)]
    pub(super) fn refresh_keys(&mut self, partial: &mut [u8]) {
        match self {
            Self::Client(session) => refresh(session.process_tls_records(partial)),
            Self::Server(session) => refresh(session.process_tls_records(partial)),
        }
    }
}

fn take_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    answers: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Again),
                Some(Err(error)) => break Err(error),
                Some(Ok(record)) => {
                    discard += record.discard;
                    sink(record.payload);
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let filled = answers.len();
            if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                answers.resize(filled + needed.required_size, 0);
                // It has exactly the room that it asked for.
                let _ = data.encode(&mut answers[filled..]);
            }
            Ok(Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(
            ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_)
            | ConnectionState::Closed,
        ) => Ok(Step::Idle),
        // Early data is never switched on.
        Ok(_) => Err(rustls::Error::General("unexpected TLS state".to_owned())),
    };
    (discard, step)
}

fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: Plain<'_>,
    room: &mut [u8],
) -> Result<Sealed, rustls::Error> {
    let mut traffic = match status.state? {
        ConnectionState::WriteTraffic(traffic) => traffic,
        // A key update that did not fit behind the batch before.
        ConnectionState::EncodeTlsData(mut data) => {
            // It is lost if it does not fit here either, and the peer could read nothing after it.
            let lost = |_| rustls::Error::General("no room for a TLS message".to_owned());
            return data.encode(room).map(Sealed::Other).map_err(lost);
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            return Ok(Sealed::Other(0));
        }
        // Receiving always goes on until nothing is left to do, so no other state can wait here.
        _ => return Err(rustls::Error::General("cannot encrypt in this TLS state".to_owned())),
    };
    let sealed = match plain {
        Plain::Data(bytes) => traffic.encrypt(bytes, room),
        Plain::CloseNotify => traffic.queue_close_notify(room),
    };
    match sealed {
        Ok(count) => Ok(Sealed::Plain(count)),
        Err(EncryptError::InsufficientSize(_)) => Ok(Sealed::NoRoom),
        Err(EncryptError::EncryptExhausted) => Err(rustls::Error::EncryptError),
    }
}

/// Asks for new keys, as rustls does by itself after many records.
#[cfg(test)]
fn refresh<Data>(status: UnbufferedStatus<'_, '_, Data>) {
    let Ok(ConnectionState::WriteTraffic(traffic)) = status.state else {
        panic!("not established");
    };
    traffic.refresh_traffic_keys().expect("TLS 1.3");
}

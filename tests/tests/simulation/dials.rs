//! Every attempt to connect from one host to another, as the simulated network saw it: also those that a
//! partition swallowed, which nobody else can tell.
//!
//! turmoil traces each packet; this takes the SYNs out of its traces.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    filter::filter_fn,
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// The attempts so far; a layer of the scenario's subscriber.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dials(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    now: Duration,
    dials: Vec<Dial>,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dial {
    /// When, since the scenario began.
    pub(crate) at: Duration,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

impl Dials {
    /// What takes the attempts out of a scenario's traces.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        self.clone().with_filter(filter_fn(|metadata| metadata.target() == "turmoil"))
    }

    /// Says what time it is.
    pub(crate) fn set_now(&self, now: Duration) {
        self.lock().now = now;
    }

    pub(crate) fn all(&self) -> Vec<Dial> {
        self.lock().dials.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Dials {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut packet = Packet::default();
        event.record(&mut packet);
        if let (true, true, Some(from), Some(to)) =
            (packet.is_sent, packet.is_syn, packet.from, packet.to)
        {
            let mut record = self.lock();
            let at = record.now;
            record.dials.push(Dial { at, from, to });
        }
    }
}

/// What a trace says of a packet.
#[derive(Default)]
struct Packet {
    is_sent: bool,
    is_syn: bool,
    from: Option<SocketAddr>,
    to: Option<SocketAddr>,
}

impl Visit for Packet {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.is_sent = begins_with(value, "Send"),
            "protocol" => self.is_syn = begins_with(value, "TCP SYN"),
            "src" => self.from = format!("{value:?}").parse().ok(),
            "dst" => self.to = format!("{value:?}").parse().ok(),
            _ => {}
        }
    }
}

/// Whether a value's text begins so. No more of it is made: of a packet of data it would be long.
fn begins_with(value: &dyn fmt::Debug, text: &'static str) -> bool {
    struct Expected(&'static str);
    impl Write for Expected {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            let length = self.0.len().min(piece.len());
            let (expected, rest) = self.0.split_at(length);
            // Ends the writing when the text differs, and when it is complete.
            if piece.as_bytes()[..length] != *expected.as_bytes() {
                return Err(fmt::Error);
            }
            self.0 = rest;
            if rest.is_empty() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut expected = Expected(text);
    let _ = write!(expected, "{value:?}");
    expected.0.is_empty()
}

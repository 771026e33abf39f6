//! The process's own log: text or JSON lines on standard error, with a level that can be changed at run time.
//!
//! Comes in: events of `tracing` from every thread. Goes out: lines, written by a thread of their own. A slow
//! reader of the log never delays a request: lines beyond a bound are dropped, counted, and the count is
//! logged.

use std::{
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::MakeWriter,
    layer::SubscriberExt,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use super::access;
use crate::config::{LogFormat, TelemetrySettings};

/// Lines that wait for the writer; some megabytes at most.
const QUEUE: usize = 8192;
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter's text.
    #[error(
        "log filter {filter:?}: {cause}; use info, debug, or for example weft_proxy=debug,warn"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The thread that writes.
    #[error("the thread that writes the log could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Another subscriber was there first.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
    /// The subscriber is gone.
    #[error("the log's filter could not be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Changes the level at run time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The filter in force, as it was given.
    text: Arc<Mutex<String>>,
    lines: Lines,
}

/// Sets up logging for the whole process.
///
/// # Errors
/// The filter is malformed, or logging is set up already.
pub fn init(settings: &TelemetrySettings) -> Result<LogHandle, LoggingError> {
    let (subscriber, handle) = build(settings, std::io::stderr())?;
    subscriber.try_init()?;
    Ok(handle)
}

pub(crate) fn build(
    settings: &TelemetrySettings,
    sink: impl Write + Send + 'static,
) -> Result<(impl Subscriber + Send + Sync, LogHandle), LoggingError> {
    let lines = Lines::start(sink)?;
    let (filter, handle) = reload::Layer::new(parse(&settings.log)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    let layer = match settings.log_format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(layer);
    let text = Arc::new(Mutex::new(settings.log.clone()));
    Ok((subscriber, LogHandle { filter: handle, text, lines }))
}

impl LogHandle {
    /// Puts another filter in force.
    ///
    /// # Errors
    /// The filter is malformed; the one before stays.
    pub fn set(&self, filter: &str) -> Result<(), LoggingError> {
        self.filter.reload(parse(filter)?)?;
        filter.clone_into(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// The filter in force, as it was given.
    #[must_use]
    pub fn filter(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits, a second at most, until the lines so far are written: for the end of the process.
    pub fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.lines.sender.try_send(Line::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The access log has a switch of its own, so the level does not hide it, unless the filter names it.
fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    let text = if filter.contains(access::TARGET) {
        filter.to_owned()
    } else {
        format!("{filter},{}=info", access::TARGET)
    };
    EnvFilter::try_new(text).map_err(|error| LoggingError::Filter {
        filter: filter.to_owned(),
        cause: error.to_string(),
    })
}

enum Line {
    Text(Vec<u8>),
    Flush(mpsc::SyncSender<()>),
}

/// Hands lines to the thread that writes them.
#[derive(Clone, Debug)]
struct Lines {
    sender: mpsc::SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    fn start(mut sink: impl Write + Send + 'static) -> Result<Self, std::io::Error> {
        let (sender, lines) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new().name("weft-log".to_owned()).spawn(move || {
            // Ends with the last sender. Where the log cannot be written there is nowhere to say so.
            while let Ok(line) = lines.recv() {
                match line {
                    Line::Text(text) => drop(sink.write_all(&text)),
                    Line::Flush(done) => {
                        let _ = sink.flush();
                        let _ = done.try_send(());
                    }
                }
                let lost = counter.swap(0, Relaxed);
                if lost > 0 {
                    let _ = writeln!(sink, "weft-log: {lost} lines were dropped: slow reader");
                }
            }
        })?;
        Ok(Self { sender, dropped })
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = OneLine<'a>;
    fn make_writer(&'a self) -> Self::Writer {
        OneLine { text: Vec::with_capacity(256), lines: self }
    }
}

/// One event's text, handed on when it is complete.
struct OneLine<'a> {
    text: Vec<u8>,
    lines: &'a Lines,
}

impl Write for OneLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for OneLine<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.sender.try_send(Line::Text(text)).is_err() {
            self.lines.dropped.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;

//! The lines of a run: apps' on stdout, Weft's own and the sidecars' on stderr, each with the name of whose
//! it is.
//!
//! Comes in: pipes of children, notes of the run. Goes out: whole lines, in order per pipe, written by a thread
//! of its own, so that a terminal that stands still holds up the apps and not the run. A line is cut at 64 KiB.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    sync::{mpsc, oneshot},
};

use super::process::Output;
use crate::output;

const LONGEST_LINE: u64 = 64 * 1024;
/// Lines that wait for the terminal before their writers do.
const WAITING: usize = 1_024;
/// Last lines kept of each process, to say why it ended.
const KEPT: usize = 8;
/// Readable on dark and on light ground.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Whose lines they are, and where they go.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    name: Arc<str>,
    /// Weft's own processes: their lines go to stderr.
    is_weft: bool,
    colour: u8,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Source {
    /// An app's, or with `is_weft` one of Weft's own processes.
    pub(crate) fn new(name: &str, is_weft: bool) -> Self {
        let sum: usize = name.bytes().map(usize::from).sum();
        let last = Arc::default();
        Self { name: name.into(), is_weft, colour: COLOURS[sum % COLOURS.len()], last }
    }

    /// The last lines, one after the other.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn remember(&self, line: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
}

/// What is shown of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Everything.
    Everything,
    /// Only notes of the run.
    Notes,
    /// Nothing: a live table has the screen.
    Nothing,
}

enum Message {
    Line { to_stdout: bool, text: String },
    Flush(oneshot::Sender<()>),
}

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    lines: mpsc::Sender<Message>,
    show: Show,
    colours: (bool, bool),
    /// Columns that names take.
    width: usize,
}

impl Logs {
    /// Starts the writing thread; it ends with the last handle.
    pub(crate) fn start(show: Show) -> Self {
        let (lines, waiting) = mpsc::channel(WAITING);
        thread::spawn(move || write_lines(waiting));
        let colours = (output::colours(io::stdout().is_terminal()), output::stderr_colours());
        Self { lines, show, colours, width: 20 }
    }

    /// Copies a process's lines until its pipes end.
    pub(crate) async fn follow(&self, source: &Source, output: Output) {
        tokio::join!(
            self.copy(source, output.stdout, !source.is_weft),
            self.copy(source, output.stderr, !source.is_weft)
        );
    }

    async fn copy(&self, source: &Source, pipe: impl AsyncRead + Unpin, to_stdout: bool) {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(1..)) {
                return;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            source.remember(text);
            if self.show == Show::Everything {
                self.write(source, text, to_stdout).await;
            }
        }
    }

    async fn write(&self, source: &Source, text: &str, to_stdout: bool) {
        let coloured = if to_stdout { self.colours.0 } else { self.colours.1 };
        let prefix = prefix(&source.name, source.colour, self.width, coloured);
        let _ =
            self.lines.send(Message::Line { to_stdout, text: format!("{prefix}{text}\n") }).await;
    }

    /// Says something about a process of the run.
    pub(crate) fn note(&self, source: &Source, text: &str) {
        if self.show != Show::Nothing {
            let prefix = prefix(&source.name, source.colour, self.width, self.colours.1);
            let line = Message::Line { to_stdout: false, text: format!("{prefix}[weft] {text}\n") };
            // A full channel means a terminal that stands still: the note is lost, the run goes on.
            let _ = self.lines.try_send(line);
        }
    }

    /// Says something about the run.
    pub(crate) fn say(&self, text: &str) {
        if self.show != Show::Nothing {
            let line = Message::Line { to_stdout: false, text: format!("{text}\n") };
            let _ = self.lines.try_send(line);
        }
    }

    /// Returns when everything so far is written, or nobody takes it.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ =
                weft_proxy::clock::timeout(std::time::Duration::from_millis(200), written).await;
        }
    }
}

fn prefix(name: &str, colour: u8, width: usize, coloured: bool) -> String {
    if coloured {
        format!("\x1b[{colour}m{name:<width$} |\x1b[0m ")
    } else {
        format!("{name:<width$} | ")
    }
}

/// Writes until the last handle is gone. What nobody reads any more is thrown away.
fn write_lines(mut waiting: mpsc::Receiver<Message>) {
    while let Some(message) = waiting.blocking_recv() {
        let _ = match message {
            Message::Line { to_stdout: true, text } => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Message::Line { to_stdout: false, text } => io::stderr().write_all(text.as_bytes()),
            Message::Flush(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_and_carry_their_name() {
        let (lines, mut written) = mpsc::channel(8);
        let logs = Logs { lines, show: Show::Everything, colours: (false, false), width: 6 };
        let source = Source::new("cart", false);
        logs.copy(&source, &b"one\r\ntwo \xff\nthree"[..], true).await;
        drop(logs);
        let mut seen = Vec::new();
        while let Some(Message::Line { text, to_stdout: true }) = written.recv().await {
            seen.push(text);
        }
        assert_eq!(seen, ["cart   | one\n", "cart   | two \u{fffd}\n", "cart   | three\n"]);
        assert_eq!(source.last_lines(), ["one", "two \u{fffd}", "three"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let (lines, mut written) = mpsc::channel(8);
        let logs = Logs { lines, show: Show::Everything, colours: (false, false), width: 1 };
        let long = vec![b'x'; 100_000];
        logs.copy(&Source::new("a", true), &long[..], false).await;
        drop(logs);
        let mut lengths = Vec::new();
        while let Some(Message::Line { text, .. }) = written.recv().await {
            lengths.push(text.trim_end().len() - "a | ".len());
        }
        assert_eq!(lengths, [65_536, 34_464]);
    }
}

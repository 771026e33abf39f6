//! The log of this process's sidecars, for tests that ask what an operator would read.
//!
//! One log for the whole process: tests that run beside each other tell their lines apart by what these name.

use std::{
    io,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::wait;

/// A line is logged by the time that its cause is seen, or nearly.
const LATE: Duration = Duration::from_secs(5);

static LINES: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("weft_proxy=info,weft::access=info")
        .with_writer(Lines)
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("nobody else logs in this process");
    Mutex::default()
});

/// What is logged from now on.
#[derive(Debug)]
pub struct Log {
    from: usize,
}

impl Log {
    /// Begins to listen; to be called before anything else of this process sets up logging.
    #[must_use]
    pub fn listen() -> Self {
        Self { from: LINES.lock().unwrap_or_else(PoisonError::into_inner).len() }
    }

    /// Waits for a line that has all these parts.
    ///
    /// # Panics
    /// When there is none in time; says what is there.
    pub async fn says(&self, parts: &[&str]) -> String {
        let says = wait::until("the line", || async { self.line(parts) });
        match tokio::time::timeout(LATE, says).await {
            Ok(line) => line,
            Err(_) => panic!("no line has all of {parts:?}:\n{}", self.lines().concat()),
        }
    }

    fn lines(&self) -> Vec<String> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner)[self.from..].to_vec()
    }

    /// The first line that has all these parts, if there is one.
    #[must_use]
    pub fn line(&self, parts: &[&str]) -> Option<String> {
        self.lines().into_iter().find(|line| parts.iter().all(|part| line.contains(part)))
    }
}

/// Takes each event's line, which comes in one piece.
#[derive(Debug, Clone, Copy)]
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

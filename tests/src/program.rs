//! Programs that nobody here wrote: found, started, run to their end, and stopped with the test.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::wait;

/// How long a client program may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Whether a program is installed; says SKIPPED loudly where not.
#[must_use]
pub fn installed(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        crate::skip(test, &format!("{program} is not installed"));
    }
    found
}

/// A Python with the packages of `tests/real/requirements.txt` (`WEFT_TEST_PYTHON`, else `python3` where it has
/// them); says SKIPPED loudly where there is none.
#[must_use]
pub fn python(test: &str, module: &str) -> Option<PathBuf> {
    let python =
        std::env::var_os("WEFT_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let import =
        std::process::Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    crate::skip(test, &format!("{} has no module {module}", python.display()));
    None
}

/// A script of `tests/real/`.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("real").join(name)
}

/// A server program; it is killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// The port that it said it serves.
    pub port: u16,
    child: Child,
    said: Option<Lines<BufReader<ChildStdout>>>,
}

impl Server {
    /// Starts a server that prints its port first.
    pub async fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = wait::soon("the server to print its port", said.next_line()).await;
        let line = line.expect("text").unwrap_or_default();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is no port"));
        Self { port, child, said: Some(said) }
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// When it prints none in time.
    pub async fn line(&mut self) -> String {
        let said = self.said.as_mut().expect("its output is piped");
        let line = wait::soon("the server to print a line", said.next_line()).await;
        line.expect("text").expect("it runs")
    }

    /// A server that is told its port, and serves when it accepts connections.
    pub async fn at(port: u16, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("the program starts");
        wait::until_true("the server to accept", || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self { port, child, said: None }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Runs a client program to its end.
///
/// # Panics
/// When it cannot be started or takes too long.
pub async fn run(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(output) => output.expect("the program starts"),
        Err(_) => panic!("{command:?} did not end within {LIMIT:?}"),
    }
}

/// Runs a client program that must succeed; what it wrote to its standard output.
///
/// # Panics
/// When it fails.
pub async fn succeed(command: &mut Command) -> String {
    let output = run(command).await;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A port that is free now.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("ports are free");
    listener.local_addr().expect("it is bound").port()
}

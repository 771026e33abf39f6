//! The shop's cache: raw TCP, one line a command. `GET KEY` is answered with `VALUE …` or `NONE`,
//! `SET KEY VALUE` with `OK`, anything else with `ERROR …`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const LONGEST_LINE: u64 = 4 * 1024;
const MOST_KEYS: usize = 1_000;

type Entries = Arc<Mutex<HashMap<String, String>>>;

pub(super) async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind(super::listen_address()?).await?;
    let entries = Entries::default();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(stream, Arc::clone(&entries)));
    }
}

/// Answers line after line until the client closes, or sends a line that is too long.
async fn converse(mut stream: TcpStream, entries: Entries) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LONGEST_LINE).read_line(&mut line).await?;
        if read == 0 || !line.ends_with('\n') {
            return Ok(());
        }
        let answer = answer(line.trim_end(), &entries) + "\n";
        writer.write_all(answer.as_bytes()).await?;
    }
}

fn answer(line: &str, entries: &Entries) -> String {
    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(key), None) => {
            entries.get(key).map_or_else(|| "NONE".into(), |value| format!("VALUE {value}"))
        }
        (Some("SET"), Some(key), Some(value)) => {
            if entries.len() >= MOST_KEYS {
                entries.clear();
            }
            entries.insert(key.into(), value.into());
            "OK".into()
        }
        _ => "ERROR use GET KEY or SET KEY VALUE".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_answered() {
        let entries = Entries::default();
        for (line, expected) in [
            ("GET a", "NONE"),
            ("SET a one two", "OK"),
            ("GET a", "VALUE one two"),
            ("SET a", "ERROR use GET KEY or SET KEY VALUE"),
            ("", "ERROR use GET KEY or SET KEY VALUE"),
        ] {
            assert_eq!(answer(line, &entries), expected, "{line}");
        }
    }
}

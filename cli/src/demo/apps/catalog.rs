//! The shop's catalog, in two versions: keeps its articles in the cache, which it reaches over raw TCP at the
//! local port that its sidecar bound for it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use weft_proxy::clock;

use super::{serve, variable};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A connection is used this often, and then a new one is made: so that the demo shows connections coming
/// and going.
const USES: u32 = 10;

pub(super) async fn run() -> anyhow::Result<()> {
    let version: Arc<str> = std::env::var("CATALOG_VERSION").unwrap_or_else(|_| "v1".into()).into();
    let cache = Cache::new(variable("CACHE_ADDR")?);
    serve::serve(move |_| articles(cache.clone(), Arc::clone(&version))).await
}

async fn articles(cache: Cache, version: Arc<str>) -> serve::Answer {
    let key = format!("articles-{version}");
    let asked = clock::timeout(ANSWER_WITHIN, cache.get_or_set(&key, "kettle,teapot,cup")).await;
    let articles = asked
        .map_err(|_| "cache: no answer in time".to_owned())?
        .map_err(|error| format!("cache: {error}"))?;
    Ok(json!({ "version": *version, "articles": articles.split(',').collect::<Vec<_>>() }))
}

/// A connection, and how often it was used.
type Connection = (BufReader<TcpStream>, u32);

/// The cache's client: a connection carries one command at a time. Clones share those that are idle.
#[derive(Clone)]
struct Cache {
    address: Arc<str>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Cache {
    fn new(address: String) -> Self {
        Self { address: address.into(), idle: Arc::default() }
    }

    /// A key's value, set to this one when it has none.
    async fn get_or_set(&self, key: &str, value: &str) -> std::io::Result<String> {
        let answer = self.ask(&format!("GET {key}\n")).await?;
        if let Some(value) = answer.strip_prefix("VALUE ") {
            return Ok(value.to_owned());
        }
        self.ask(&format!("SET {key} {value}\n")).await?;
        Ok(value.to_owned())
    }

    async fn ask(&self, command: &str) -> std::io::Result<String> {
        let kept = self.idle().pop();
        let (mut stream, uses) = match kept {
            Some(connection) => connection,
            None => (BufReader::new(TcpStream::connect(&*self.address).await?), 0),
        };
        stream.write_all(command.as_bytes()).await?;
        let mut answer = String::new();
        if stream.read_line(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        // Not given back after an error: the next command gets a fresh one.
        if uses + 1 < USES {
            self.idle().push((stream, uses + 1));
        }
        Ok(answer.trim_end().to_owned())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

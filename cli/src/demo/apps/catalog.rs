//! The shop's catalog, in two versions: keeps its articles in the cache, which it reaches over raw TCP at the
//! local port that its sidecar bound for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use weft_proxy::clock::{self, Instant};

use super::{serve, variable};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What the cache said is believed for this long: under load it is asked no more than so often.
const FRESH: Duration = Duration::from_millis(20);

pub(super) async fn run() -> anyhow::Result<()> {
    let version = std::env::var("CATALOG_VERSION").unwrap_or_else(|_| "v1".into());
    let catalog = Catalog {
        version: version.into(),
        cache: variable("CACHE_ADDR")?.into(),
        known: Arc::default(),
    };
    serve::serve(move |_| answer(catalog.clone())).await
}

async fn answer(catalog: Catalog) -> serve::Answer {
    let asked = clock::timeout(ANSWER_WITHIN, catalog.articles()).await;
    let articles = asked
        .map_err(|_| "cache: no answer in time".to_owned())?
        .map_err(|error| format!("cache: {error}"))?;
    let articles: Vec<&str> = articles.split(',').collect();
    Ok(json!({ "version": *catalog.version, "articles": articles }))
}

/// What the cache said, and when.
type Known = (Instant, Arc<str>);

/// The articles, with where they are kept. Clones share what is known.
#[derive(Clone)]
struct Catalog {
    version: Arc<str>,
    /// The cache's address.
    cache: Arc<str>,
    known: Arc<Mutex<Option<Known>>>,
}

impl Catalog {
    async fn articles(&self) -> std::io::Result<Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((when, articles)) = known
            && when.elapsed() < FRESH
        {
            return Ok(articles);
        }
        let articles: Arc<str> = self.ask_cache().await?.into();
        let known = Some((clock::now(), Arc::clone(&articles)));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(articles)
    }

    /// What the cache holds; filled when it holds nothing. A connection for each question, as simple programs
    /// do.
    async fn ask_cache(&self) -> std::io::Result<String> {
        const ARTICLES: &str = "kettle,teapot,cup";
        let key = format!("articles-{}", self.version);
        let mut connection = BufReader::new(TcpStream::connect(&*self.cache).await?);
        let answer = ask(&mut connection, &format!("GET {key}\n")).await?;
        if let Some(articles) = answer.strip_prefix("VALUE ") {
            return Ok(articles.to_owned());
        }
        ask(&mut connection, &format!("SET {key} {ARTICLES}\n")).await?;
        Ok(ARTICLES.to_owned())
    }
}

async fn ask(connection: &mut BufReader<TcpStream>, command: &str) -> std::io::Result<String> {
    connection.write_all(command.as_bytes()).await?;
    let mut answer = String::new();
    if connection.read_line(&mut answer).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim_end().to_owned())
}

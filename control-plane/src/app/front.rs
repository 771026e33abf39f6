//! What stands before everything else: the metrics, and the admin port, which tells how far the start has come. In a
//! cluster whose API is slow the start takes long; whoever watches over the process must see that it lives.
//!
//! Comes in: the settings. Goes out: the port, served by a task of the set, and the word by which it learns of progress.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{StartError, listen::listen};
use crate::{
    admin::{self, Progress},
    config::Config,
    metrics::Metrics,
};

const FLAG: &str = "--admin-listen";

/// The metrics and the admin port.
pub(super) struct Front {
    pub(super) metrics: Arc<Metrics>,
    pub(super) progress: watch::Sender<Progress>,
    /// Where the admin port is, if there is one.
    pub(super) address: Option<SocketAddr>,
}

impl Front {
    /// Opens the admin port, if one is asked for.
    pub(super) async fn open(
        config: &Config,
        servers: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::default());
        let (progress, seen) = watch::channel(Progress::Starting);
        let Some(wanted) = config.admin_listen else {
            return Ok(Self { metrics, progress, address: None });
        };
        let listener = listen(wanted, FLAG, TcpListener::bind).await?;
        let failed = |source| StartError::Listen { address: wanted, flag: FLAG, source };
        let address = listener.local_addr().map_err(failed)?;
        let served = admin::serve(listener, metrics.clone(), seen);
        servers.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the admin port is no longer served");
            }
        });
        Ok(Self { metrics, progress, address: Some(address) })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_start_that_takes_long_is_alive_and_says_what_it_waits_for() {
        let config = Line::try_parse_from(["weft", "--admin-listen=127.0.0.1:0"]).unwrap().config;
        let mut servers = JoinSet::new();
        let front = Front::open(&config, &mut servers).await.unwrap();
        let address = front.address.unwrap();
        let ready = get(address, "/ready").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.ends_with("starting: the objects are not all read yet\n"), "{ready}");
        for path in ["/live", "/metrics"] {
            assert!(get(address, path).await.starts_with("HTTP/1.1 200"), "{path}");
        }
        front.progress.send_replace(Progress::Ready);
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200"));
        front.progress.send_replace(Progress::Stopping);
        servers.join_next().await.unwrap().unwrap();
    }
}

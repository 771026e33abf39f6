//! A peer that speaks bytes, in plain or inside TLS: for what no well-behaved peer would send.

use std::{fmt::Debug, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::wait::PATIENCE;

/// A connection of raw bytes.
#[derive(Debug)]
pub struct Raw {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// What carries the bytes.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Debug> Stream for T {}

impl Raw {
    /// Connects. A connection that was reset before this side has looked at it has ended without a byte, like one that is
    /// reset later.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = match TcpStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Self::over(tokio::io::join(tokio::io::empty(), tokio::io::sink()));
            }
            connected => connected.expect("somebody listens"),
        };
        stream.set_nodelay(true).expect("a TCP socket");
        Self::over(stream)
    }

    /// A connection that was made or accepted already.
    #[must_use]
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + Debug + 'static) -> Self {
        Self { stream: Box::new(stream), received: Vec::new() }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the connection holds");
    }

    /// Sends bytes that the other side need not take.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Ends this side's direction.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("the connection holds");
    }

    /// Receives until `end` was received; what came up to and with it.
    ///
    /// # Panics
    /// When the connection ends before, or it takes too long.
    pub async fn receive_until(&mut self, end: &str) -> String {
        let received = self.receive_until_or_end(end).await.unwrap_or_default();
        assert!(received.ends_with(end), "the connection ended; received {received:?}");
        received
    }

    /// Receives until `end` was received, or to the connection's end; `None` when nothing came before it.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn receive_until_or_end(&mut self, end: &str) -> Option<String> {
        let end = end.as_bytes();
        loop {
            let found = self.received.windows(end.len()).position(|window| window == end);
            let is_over = found.is_none() && !self.fill().await;
            if found.is_none() && !is_over {
                continue;
            }
            let count = found.map_or(self.received.len(), |at| at + end.len());
            let rest = self.received.split_off(count);
            let received = std::mem::replace(&mut self.received, rest);
            return (count > 0).then(|| String::from_utf8_lossy(&received).into_owned());
        }
    }

    /// Receives a response's head.
    pub async fn receive_head(&mut self) -> String {
        self.receive_until("\r\n\r\n").await
    }

    /// Receives a response's head, or what came before the connection's end.
    pub async fn receive_head_or_end(&mut self) -> String {
        while !self.received.windows(4).any(|window| window == b"\r\n\r\n") && self.fill().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Receives this many bytes.
    ///
    /// # Panics
    /// When the connection ends before, or it takes too long.
    pub async fn receive_exactly(&mut self, count: usize) -> Vec<u8> {
        let received = self.receive_or_end(count).await;
        received.unwrap_or_else(|| panic!("the connection ended; received {:?}", self.received))
    }

    /// Receives this many bytes; `None` when the connection ends before.
    pub async fn receive_or_end(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.received.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        let rest = self.received.split_off(count);
        Some(std::mem::replace(&mut self.received, rest))
    }

    /// Receives to the connection's end; the error with which it ended, if with one.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn end(&mut self) -> Option<io::Error> {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut self.received)).await;
        read.expect("the connection ends in time").err()
    }

    /// Receives to the connection's end; whether it was a clean one is not told apart.
    pub async fn receive_to_end(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Waits for the connection's end, whatever comes before it.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn ended(&mut self) {
        while self.fill().await {
            self.received.clear();
        }
    }

    /// Whether nothing comes for this long.
    pub async fn is_silent_for(&mut self, duration: Duration) -> bool {
        timeout(duration, self.fill()).await.is_err()
    }

    async fn fill(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        let read = read.unwrap_or_else(|_| {
            panic!("nothing came; received {:?}", String::from_utf8_lossy(&self.received))
        });
        matches!(read, Ok(count) if count > 0)
    }
}

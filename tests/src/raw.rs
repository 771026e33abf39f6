//! A peer that speaks bytes: for what no well-behaved client would send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::wait::PATIENCE;

/// A connection of raw bytes.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self::over(stream)
    }

    /// A connection that was made or accepted already.
    #[must_use]
    pub const fn over(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the connection holds");
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
        let end = end.as_bytes();
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let rest = self.received.split_off(at + end.len());
                let received = std::mem::replace(&mut self.received, rest);
                return String::from_utf8_lossy(&received).into_owned();
            }
            let seen = String::from_utf8_lossy(&self.received).into_owned();
            assert!(self.fill().await, "the connection ended; received {seen:?}");
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
        while self.received.len() < count {
            assert!(self.fill().await, "the connection ended after {} bytes", self.received.len());
        }
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
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
        timeout(duration, self.stream.readable()).await.is_err()
    }

    async fn fill(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        let read = read.unwrap_or_else(|_| {
            panic!("nothing came; received {:?}", String::from_utf8_lossy(&self.received))
        });
        matches!(read, Ok(count) if count > 0)
    }
}

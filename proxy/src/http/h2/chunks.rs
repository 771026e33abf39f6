//! What a stream has received and nobody has read yet.
//!
//! In come pieces as frames brought them, out they go in the same order. A piece shares the memory of the read that it
//! came with; small ones are copied together, so that a peer that sends a byte a frame does not make every byte hold
//! a buffer.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this are copied.
const SMALL: usize = 1024;

/// The same where others wait before them: who reads slowly must not hold many reads by a piece of each.
const SMALL_IN_LINE: usize = 8 * 1024;

/// Pieces in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    whole: VecDeque<Bytes>,
    /// Small ones, behind all those.
    small: BytesMut,
}

impl Chunks {
    pub(super) fn push(&mut self, piece: Bytes) {
        let small = if self.is_empty() { SMALL } else { SMALL_IN_LINE };
        if piece.len() < small {
            self.small.extend_from_slice(&piece);
            return;
        }
        if !self.small.is_empty() {
            self.whole.push_back(self.small.split().freeze());
        }
        self.whole.push_back(piece);
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.whole.pop_front() {
            return Some(piece);
        }
        if self.small.is_empty() {
            return None;
        }
        // Taken whole: what comes next begins a buffer of its own.
        Some(std::mem::take(&mut self.small).freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.small.is_empty()
    }

    /// Drops all; returns how many bytes.
    pub(super) fn clear(&mut self) -> usize {
        let whole: usize = self.whole.drain(..).map(|piece| piece.len()).sum();
        whole + std::mem::take(&mut self.small).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_in_order_and_small_ones_together() {
        let mut chunks = Chunks::default();
        let large = Bytes::from(vec![7; SMALL_IN_LINE]);
        for piece in [&b"a"[..], b"b", &large, b"c", b"d"] {
            chunks.push(Bytes::copy_from_slice(piece));
        }
        assert_eq!(chunks.pop().expect("small ones"), "ab");
        let shared = chunks.pop().expect("the large one");
        assert_eq!(shared, large);
        chunks.push(Bytes::from_static(b"e"));
        assert_eq!(chunks.pop().expect("small ones"), "cde");
        assert!(chunks.is_empty() && chunks.pop().is_none());
    }

    #[test]
    fn what_is_dropped_is_counted() {
        let mut chunks = Chunks::default();
        chunks.push(Bytes::from(vec![7; SMALL + 1]));
        chunks.push(Bytes::from_static(b"abc"));
        assert_eq!((chunks.clear(), chunks.is_empty()), (SMALL + 4, true));
    }
}

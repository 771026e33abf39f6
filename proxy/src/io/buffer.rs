//! What was written and has not left: small pieces copied together, large ones kept as they are.
//!
//! In come slices and [`Bytes`]; out go slices in the same order, as few as possible. Holds no memory when
//! empty: the copy buffer goes back to the thread's spare ones.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

use super::turn;

/// From this size on, a piece is cheaper to pass along than to copy.
const SEGMENT: usize = 8 * 1024;

/// Bytes that wait to be sent: `segments`, then `tail` from `start` on.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    /// There are none but in large bodies.
    #[expect(clippy::box_collection, reason = "a word instead of four in every idle socket")]
    segments: Option<Box<VecDeque<Bytes>>>,
    tail: Vec<u8>,
    start: usize,
    len: usize,
}

impl WriteBuffer {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.tail.capacity() == 0 {
            self.tail = turn::spare_buffer();
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(super) fn append_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SEGMENT {
            return self.append(&bytes);
        }
        self.len += bytes.len();
        self.seal_tail();
        self.segments.get_or_insert_default().push_back(bytes);
    }

    /// Ends the copy buffer, so that a segment can follow it.
    fn seal_tail(&mut self) {
        if self.tail.len() > self.start {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(self.start);
            self.segments.get_or_insert_default().push_back(tail);
        }
        self.start = 0;
    }

    /// The first piece; empty when there is nothing.
    pub(super) fn first(&self) -> &[u8] {
        match self.segments.as_ref().and_then(|segments| segments.front()) {
            Some(segment) => segment,
            None => &self.tail[self.start..],
        }
    }

    /// Whether all of it lies in one piece.
    pub(super) fn is_contiguous(&self) -> bool {
        self.first().len() == self.len
    }

    /// Fills `slices` with the first pieces and says how many there are.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = std::iter::once(&self.tail[self.start..]);
        let segments = self.segments.iter().flat_map(|segments| segments.iter());
        let pieces = segments.map(|segment| &segment[..]).chain(tail);
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Drops `count` bytes (at most [`WriteBuffer::len`]) from the front.
    pub(super) fn consume(&mut self, count: usize) {
        self.len -= count;
        if self.len == 0 {
            return self.release();
        }
        let mut left = count;
        if let Some(segments) = &mut self.segments {
            while let Some(segment) = segments.front_mut() {
                if segment.len() > left {
                    return segment.advance(left);
                }
                left -= segment.len();
                segments.pop_front();
            }
        }
        self.start += left;
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.release();
    }

    /// Bytes of heap that it holds.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let segments = self.segments.as_ref().map_or(0, |segments| segments.capacity());
        self.tail.capacity() + segments * size_of::<Bytes>()
    }

    fn release(&mut self) {
        self.start = 0;
        self.segments = None;
        turn::give_back(std::mem::take(&mut self.tail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(buffer: &WriteBuffer) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = buffer.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let large = Bytes::from(vec![b'L'; SEGMENT]);
        let mut buffer = WriteBuffer::default();
        let mut expected = Vec::new();
        for round in 0..3_u8 {
            buffer.append(&[round; 3]);
            expected.extend_from_slice(&[round; 3]);
            buffer.append_bytes(large.clone());
            expected.extend_from_slice(&large);
            buffer.append_bytes(Bytes::from_static(b"small"));
            expected.extend_from_slice(b"small");
        }
        assert_eq!(content(&buffer), expected);
        for step in [1, 2, 3, SEGMENT - 1, SEGMENT + 9] {
            buffer.consume(step);
            expected.drain(..step);
            assert_eq!(content(&buffer), expected);
            assert_eq!(buffer.len(), expected.len());
            buffer.append(b"x");
            expected.push(b'x');
        }
        assert_eq!(&expected[..buffer.first().len()], buffer.first());
    }

    #[test]
    fn large_pieces_are_not_copied_and_small_ones_lie_together() {
        let large = Bytes::from(vec![0; SEGMENT]);
        let mut buffer = WriteBuffer::default();
        for _ in 0..100 {
            buffer.append(b"small");
        }
        assert!(buffer.is_contiguous());
        buffer.append_bytes(large.clone());
        let mut slices = [IoSlice::new(&[]); 16];
        assert_eq!(buffer.slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = WriteBuffer::default();
        buffer.append(&[0; 5_000]);
        buffer.append_bytes(Bytes::from(vec![0; SEGMENT]));
        buffer.append(b"tail");
        buffer.consume(buffer.len());
        assert_eq!(buffer.capacity(), 0);
    }
}

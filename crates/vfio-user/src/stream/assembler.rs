//! Whole messages out of a stream of bytes, and descriptors to the message they belong to.
//!
//! No socket here: bytes are put in, messages come out, however the stream was cut.
//!
//! One receive may return several messages. The kernel ends a receive after the bytes that
//! carried descriptors, so descriptors that come with a receive belong to the last message
//! that begins in its bytes; if none begins there, to the message those bytes continue. Both
//! are the same: the message with the highest start among those that have begun.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use thiserror::Error;
use zerocopy::FromBytes;

use super::Descriptors;
use crate::limits::RESTING_BUFFER;
use crate::wire::{HEADER_SIZE, Header};

/// A message size that cannot be: where the next message begins is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a message of {size} bytes (command {command}) breaks framing: sizes from 16 to {limit} are \
     possible"
)]
pub struct FramingError {
    /// The size in the header.
    pub size: u32,
    /// The command in the header.
    pub command: u16,
    /// The largest size that is accepted.
    pub limit: usize,
}

/// Collects bytes and descriptors of a stream and yields whole messages, in order.
///
/// [`space`](Self::space) and [`filled`](Self::filled) put bytes in; then
/// [`next`](Self::next), [`body`](Self::body), [`take_descriptors`](Self::take_descriptors)
/// and [`consume`](Self::consume) take one message out, until there is none.
#[derive(Debug)]
pub struct Assembler {
    /// All of it is usable; `start..end` is held.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
    /// Position in the stream of the byte at `start`.
    origin: u64,
    /// Position in the stream of the last message that has begun.
    begun: u64,
    /// Position in the stream of the first message whose header is not complete yet.
    boundary: u64,
    /// Descriptors, by the position of their message. Never more than two: a receive is made
    /// only when no whole message is held.
    held: VecDeque<(u64, Descriptors)>,
}

impl Assembler {
    /// An empty one that accepts messages of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            limit,
            origin: 0,
            begun: 0,
            boundary: 0,
            held: VecDeque::new(),
        }
    }

    /// Changes the largest message that is accepted, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes of memory that the buffer has now.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Whether bytes of an incomplete message are held.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        self.start != self.end
    }

    /// Position in the stream of the first byte that is held, or of the next one.
    pub(crate) fn position(&self) -> u64 {
        self.origin
    }

    /// What is held from a position in the stream on.
    pub(crate) fn held_from(&self, position: u64) -> &[u8] {
        let skipped = usize::try_from(position.saturating_sub(self.origin)).unwrap_or(usize::MAX);
        self.buffer[self.start..self.end]
            .get(skipped..)
            .unwrap_or_default()
    }

    /// Where the next bytes of the stream go. Never empty, as long as every whole message has
    /// been taken out.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() != RESTING_BUFFER {
                self.buffer = vec![0; RESTING_BUFFER];
            }
        }
        let wanted = self.message_size().unwrap_or(HEADER_SIZE);
        if self.start + wanted > self.buffer.len() || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if wanted > self.buffer.len() {
                self.buffer.resize(wanted, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// The first `count` bytes of the space have been filled by one receive, which brought
    /// these descriptors and lost others if `truncated`.
    ///
    /// # Panics
    /// When `count` exceeds the space.
    pub fn filled(&mut self, count: usize, fds: Vec<OwnedFd>, truncated: bool) {
        assert!(
            count <= self.buffer.len() - self.end,
            "more bytes than there was space for"
        );
        self.end += count;
        let received_end = self.origin + (self.end - self.start) as u64;
        while self.boundary < received_end {
            self.begun = self.boundary;
            match self.size_at(self.boundary) {
                Some(size) => self.boundary += size as u64,
                None => break,
            }
        }
        if fds.is_empty() && !truncated {
            return;
        }
        match self.held.back_mut() {
            Some((position, descriptors)) if *position == self.begun => {
                descriptors.add(fds, truncated);
            }
            _ => {
                let mut descriptors = Descriptors::none();
                descriptors.add(fds, truncated);
                self.held.push_back((self.begun, descriptors));
            }
        }
    }

    /// The header of the next message, if the whole message is held. It stays until
    /// [`consume`](Self::consume).
    ///
    /// # Errors
    /// When its size is impossible. Nothing after it can be understood.
    pub fn next(&self) -> Result<Option<Header>, FramingError> {
        let Ok((header, _)) = Header::read_from_prefix(&self.buffer[self.start..self.end]) else {
            return Ok(None);
        };
        let Some(size) = self.checked_size(&header) else {
            return Err(FramingError {
                size: header.message_size,
                command: header.command,
                limit: self.limit,
            });
        };
        Ok((self.end - self.start >= size).then_some(header))
    }

    /// The bytes after the header of the message that [`next`](Self::next) gave.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        let size = self.message_size().unwrap_or(HEADER_SIZE);
        self.buffer[self.start..self.end]
            .get(HEADER_SIZE..size)
            .unwrap_or_default()
    }

    /// The descriptors of the message that [`next`](Self::next) gave.
    #[must_use]
    pub fn take_descriptors(&mut self) -> Descriptors {
        match self.held.front() {
            Some((position, _)) if *position == self.origin => self
                .held
                .pop_front()
                .map(|(_, descriptors)| descriptors)
                .unwrap_or_default(),
            _ => Descriptors::none(),
        }
    }

    /// Removes the message that [`next`](Self::next) gave, and closes what descriptors it
    /// still has.
    pub fn consume(&mut self) {
        drop(self.take_descriptors());
        if let Some(size) = self.message_size()
            && self.end - self.start >= size
        {
            self.start += size;
            self.origin += size as u64;
        }
    }

    /// The size of the first message held, when its header is complete and its size possible.
    fn message_size(&self) -> Option<usize> {
        self.size_at(self.origin)
    }

    fn size_at(&self, position: u64) -> Option<usize> {
        let offset = usize::try_from(position - self.origin).ok()?;
        let held = &self.buffer[self.start..self.end];
        let (header, _) = Header::read_from_prefix(held.get(offset..)?).ok()?;
        self.checked_size(&header)
    }

    fn checked_size(&self, header: &Header) -> Option<usize> {
        let size = usize::try_from(header.message_size).ok()?;
        (HEADER_SIZE..=self.limit).contains(&size).then_some(size)
    }
}

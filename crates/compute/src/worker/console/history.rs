//! The last bytes of a stream, by their position in it.

use std::collections::VecDeque;

/// What is kept of a stream: its last bytes, at most `limit`.
#[derive(Debug)]
pub(super) struct History {
    bytes: VecDeque<u8>,
    limit: usize,
    /// How many bytes the stream had so far.
    end: u64,
}

impl History {
    /// Of a stream without bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            end: 0,
        }
    }

    /// Adds what came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(self.limit)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
    }

    /// The position after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The position of the first byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Some bytes from `position` on; none only at the end. From the first one that is kept, if that is later.
    pub(super) fn after(&self, position: u64) -> &[u8] {
        let skip = position.saturating_sub(self.start());
        let (first, second) = self.bytes.as_slices();
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        match skip.checked_sub(first.len()) {
            None => &first[skip..],
            Some(skip) => second.get(skip..).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bytes from a position on, as far as they are kept.
    fn read(history: &History, mut position: u64) -> Vec<u8> {
        let mut read = Vec::new();
        position = position.max(history.start());
        while position < history.end() {
            let bytes = history.after(position);
            assert!(!bytes.is_empty());
            read.extend(bytes);
            position += bytes.len() as u64;
        }
        assert!(history.after(position).is_empty());
        read
    }

    #[test]
    fn the_last_bytes_are_kept_wherever_it_wraps() {
        let mut history = History::new(16);
        let mut all: Vec<u8> = Vec::new();
        for round in 0..100_u8 {
            let piece: Vec<u8> = (0..round % 23)
                .map(|byte| byte.wrapping_mul(7) ^ round)
                .collect();
            history.push(&piece);
            all.extend(&piece);
            assert_eq!(history.end(), all.len() as u64);
            let start = usize::try_from(history.start()).unwrap();
            assert_eq!(start, all.len().saturating_sub(16));
            for position in start..=all.len() {
                assert_eq!(read(&history, position as u64), all[position..]);
            }
            assert_eq!(read(&history, 0), all[start..]);
        }
    }
}

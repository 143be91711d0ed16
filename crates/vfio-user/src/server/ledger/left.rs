//! What a session has left: its ledger, read by whoever goes on. Nothing of it is believed, since the session's process may
//! have written anything.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use zerocopy::FromBytes;

use super::{
    AGREED, BEGINNING, BEGINNING_SIZE, BODY, COMMAND_SIZE, COMMANDS, MAX_COMMANDS, PARTIAL,
    REPLYING, SIZE, STATE, WAS_RESET, WORD,
};
use crate::limits::MAX_MESSAGE_SIZE;
use crate::wire::{HEADER_SIZE, Header};

/// What a session that is no more has left to be done on its connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    agreed: bool,
    pub(in super::super) was_reset: bool,
    pub(in super::super) pending: Vec<Pending>,
    pub(in super::super) partial: Partial,
}

/// A command that has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Pending {
    pub(in super::super) header: Header,
    /// What its body begins with, then zeros.
    pub(in super::super) body: [u8; BODY],
}

/// A message of which a part is gone from the socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Partial {
    /// There is none.
    #[default]
    None,
    /// All that is gone is here.
    Beginning(Vec<u8>),
    /// More is gone. So many bytes are still to come.
    Rest(Pending, usize),
}

impl Left {
    /// Reads the ledger in `file`. The session must not have the connection any more.
    ///
    /// # Errors
    /// The file cannot be read, or is too short.
    pub fn read(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut bytes = [0; SIZE];
        let mut filled = 0;
        while filled < SIZE {
            match rustix::io::pread(file, &mut bytes[filled..], filled as u64) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self::parse(&bytes))
    }

    /// Whether VERSION was agreed. Otherwise nobody can go on.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        self.agreed
    }

    fn parse(bytes: &[u8; SIZE]) -> Self {
        let state = word(bytes, STATE);
        let [received, mut answered] = [state, state >> 16].map(|count| usize::from(low(count)));
        if state & REPLYING != 0 {
            // Most likely it was sent before its process came to say so. A second one would be a reply to nothing.
            answered += 1;
        }
        Self {
            agreed: state & AGREED != 0,
            was_reset: state & WAS_RESET != 0,
            pending: (answered..received.min(MAX_COMMANDS))
                .map(|index| Pending::at(bytes, COMMANDS + index * COMMAND_SIZE))
                .collect(),
            partial: Partial::parse(bytes),
        }
    }
}

impl Pending {
    /// A message, of whose body the beginning is kept.
    pub(in super::super) fn new(header: Header, body: &[u8]) -> Self {
        let mut kept = [0; BODY];
        let len = body.len().min(BODY);
        kept[..len].copy_from_slice(&body[..len]);
        Self { header, body: kept }
    }

    /// The fixed part of its body.
    ///
    /// # Errors
    /// `EINVAL`: it is not all there.
    pub(in super::super) fn body<T: FromBytes>(&self) -> Result<T, Errno> {
        let size = self.header.message_size as usize;
        let body = self.body.get(..size.saturating_sub(HEADER_SIZE).min(BODY));
        let parsed = body.and_then(|body| T::read_from_prefix(body).ok());
        parsed.map(|(fixed, _)| fixed).ok_or(Errno::INVAL)
    }

    fn at(bytes: &[u8; SIZE], at: usize) -> Self {
        let first = word(bytes, at);
        let mut body = [0; BODY];
        body.copy_from_slice(&bytes[at + WORD..][..BODY]);
        Self {
            header: Header {
                message_id: low(first),
                command: low(first >> 16),
                message_size: u32::try_from(first >> 32).unwrap_or_default(),
                flags: 0,
                error: 0,
            },
            body,
        }
    }
}

impl Partial {
    fn parse(bytes: &[u8; SIZE]) -> Self {
        let held = usize::try_from(word(bytes, PARTIAL)).unwrap_or(usize::MAX);
        let beginning = &bytes[BEGINNING..][..BEGINNING_SIZE];
        if held == 0 {
            return Self::None;
        }
        if let Some(all) = beginning.get(..held) {
            return Self::Beginning(all.to_vec());
        }
        let (header, body) = beginning.split_at(HEADER_SIZE);
        let Ok(header) = Header::read_from_bytes(header) else {
            return Self::None;
        };
        let size = header.message_size as usize;
        if size > MAX_MESSAGE_SIZE || size <= held {
            return Self::None;
        }
        Self::Rest(Pending::new(header, body), size - held)
    }
}

fn word(bytes: &[u8; SIZE], at: usize) -> u64 {
    let mut word = [0; WORD];
    word.copy_from_slice(&bytes[at..][..WORD]);
    u64::from_ne_bytes(word)
}

fn low(word: u64) -> u16 {
    u16::try_from(word & u64::from(u16::MAX)).unwrap_or_default()
}

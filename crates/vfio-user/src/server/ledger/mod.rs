//! What a session has received and not answered, in memory that outlives its process: whoever takes the connection over
//! (`stand_in`) knows from it what the client waits for.
//!
//! A session reads ahead, so several commands may be gone from the socket when its process dies, and the beginning of
//! one more. Each command that wants a reply is written down before it is carried out and taken off when it is answered.
//! The session alone writes; who takes over reads when it is gone, and believes nothing.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | commands received, 16 bits; those of them answered, 16 bits; [`AGREED`], [`WAS_RESET`], [`REPLYING`] |
//! | 8 | bytes held of a message that is not complete |
//! | 16 to 55 | its first ones |
//! | 64 to 4095 | the commands: id, number and size of each, then what its body begins with |

mod left;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};
use zerocopy::{FromBytes, IntoBytes};

use crate::stream::Assembler;
use crate::wire::{HEADER_SIZE, Header, Kind};

pub use left::Left;
pub(super) use left::{Partial, Pending};

/// Bytes of the memory.
const SIZE: usize = 4096;
/// Where the counts and flags are.
const STATE: usize = 0;
/// Where it is said how much of an incomplete message is held.
const PARTIAL: usize = 8;
/// Where its beginning is.
const BEGINNING: usize = 16;
/// Bytes of the beginning.
const BEGINNING_SIZE: usize = 40;
/// Where the commands are.
const COMMANDS: usize = 64;
/// Bytes of each.
const COMMAND_SIZE: usize = 32;
/// Most commands that are written down. Those that a receive can bring and that want a reply are fewer, but for such
/// as have no body at all.
const MAX_COMMANDS: usize = (SIZE - COMMANDS) / COMMAND_SIZE;
/// What of a command's body is written down, in bytes: enough to answer it.
const BODY: usize = COMMAND_SIZE - WORD;
const WORD: usize = size_of::<u64>();

/// In the state: VERSION was agreed.
const AGREED: u64 = 1 << 32;
/// The client has reset the device.
const WAS_RESET: u64 = 1 << 33;
/// The reply to the first command that is not answered is being sent.
const REPLYING: u64 = 1 << 34;

/// What a session keeps for whoever takes its connection over: see [`Session::keep_ledger`](super::Session::keep_ledger).
///
/// It lies in a file that [`Ledger::file`] makes and that both ends have.
#[derive(Debug)]
pub struct Ledger {
    memory: MmapRegion,
    /// Commands written down.
    received: u16,
    /// Those of them that are answered.
    answered: u16,
    flags: u64,
    /// Position in the stream of the first message that is not written down.
    position: u64,
    /// The beginning of an incomplete message is written down.
    is_partial: bool,
}

impl Ledger {
    /// A file for one, of 4096 bytes for good.
    ///
    /// # Errors
    /// The kernel has no memory or no descriptor for it.
    pub fn file() -> io::Result<OwnedFd> {
        let file = memfd_create(
            "vfio-user-ledger",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&file, SIZE as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(file)
    }

    /// The ledger in a file, which stays open as long.
    ///
    /// # Errors
    /// The file is not one that [`Ledger::file`] has made, or it cannot be mapped.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let wrong = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let seals = fcntl_get_seals(&file).map_err(|_| wrong("a ledger is a memory file"))?;
        // It must stay as it is: an access to what is cut off is a signal.
        if !seals.contains(SealFlags::SHRINK | SealFlags::SEAL) {
            return Err(wrong("a ledger's file is sealed"));
        }
        if rustix::fs::fstat(&file)?.st_size != i64::try_from(SIZE).unwrap_or(i64::MAX) {
            return Err(wrong("a ledger has 4096 bytes"));
        }
        let file = FileOffset::from_arc(Arc::new(file.into()), 0);
        let memory = MmapRegion::from_file(file, SIZE).map_err(io::Error::other)?;
        Ok(Self {
            memory,
            received: 0,
            answered: 0,
            flags: 0,
            position: 0,
            is_partial: false,
        })
    }

    /// The session begins, with what was received after VERSION.
    pub(super) fn begin(&mut self, assembler: &Assembler) {
        self.position = assembler.position();
        self.flags = AGREED;
        self.note(assembler);
        self.store_state();
    }

    /// Writes down what a receive has brought.
    pub(super) fn note(&mut self, assembler: &Assembler) {
        let mut is_new = false;
        let mut held = assembler.held_from(self.position);
        while let Ok((header, body)) = Header::read_from_prefix(held) {
            let size = header.message_size as usize;
            if size < HEADER_SIZE {
                // The session ends here.
                return;
            }
            if size > held.len() {
                break;
            }
            if header.kind() != Kind::Reply && !header.no_reply() {
                self.add(&header, body);
                is_new = true;
            }
            self.position += size as u64;
            held = held.get(size..).unwrap_or_default();
        }
        // First: neither is what is whole now a part besides, nor goes a length with the bytes of another message.
        if self.is_partial {
            self.store(PARTIAL, 0);
        }
        if is_new {
            self.store_state();
        }
        self.note_partial(held);
    }

    fn add(&mut self, header: &Header, body: &[u8]) {
        if self.received == self.answered {
            // Nothing is awaited: the place of those before is free.
            self.received = 0;
            self.answered = 0;
        }
        let index = usize::from(self.received);
        if index >= MAX_COMMANDS {
            return;
        }
        let at = COMMANDS + index * COMMAND_SIZE;
        let first = u64::from(header.message_id)
            | u64::from(header.command) << 16
            | u64::from(header.message_size) << 32;
        self.store(at, first);
        let len = body.len().min(header.message_size as usize - HEADER_SIZE);
        self.store_bytes::<BODY>(at + WORD, &body[..len]);
        self.received += 1;
    }

    fn note_partial(&mut self, held: &[u8]) {
        if held.is_empty() && !self.is_partial {
            return;
        }
        self.is_partial = !held.is_empty();
        self.store_bytes::<BEGINNING_SIZE>(BEGINNING, held);
        self.store(PARTIAL, held.len() as u64);
    }

    /// The reply to the first command that is not answered is about to be sent.
    pub(super) fn reply_begins(&mut self) {
        self.flags |= REPLYING;
        self.store_state();
    }

    /// It was sent.
    pub(super) fn replied(&mut self, is_reset: bool) {
        self.flags &= !REPLYING;
        if is_reset {
            self.flags |= WAS_RESET;
        }
        if self.answered < self.received {
            self.answered += 1;
        }
        self.store_state();
    }

    /// Nothing of it was sent: it is still awaited.
    pub(super) fn reply_failed(&mut self) {
        self.flags &= !REPLYING;
        self.store_state();
    }

    fn store_state(&self) {
        let counts = u64::from(self.received) | u64::from(self.answered) << 16;
        self.store(STATE, counts | self.flags);
    }

    /// Stores the first `N` bytes, and zeros where there are fewer.
    fn store_bytes<const N: usize>(&self, at: usize, bytes: &[u8]) {
        let mut words = [0_u64; 8];
        let room = &mut words.as_mut_bytes()[..N];
        let len = bytes.len().min(N);
        room[..len].copy_from_slice(&bytes[..len]);
        for (index, word) in words[..N / WORD].iter().enumerate() {
            self.store(at + index * WORD, *word);
        }
    }

    /// Each store is seen before those that follow it.
    fn store(&self, at: usize, value: u64) {
        if let Ok(word) = self.memory.get_atomic_ref::<AtomicU64>(at) {
            word.store(value, Ordering::Release);
        }
    }
}

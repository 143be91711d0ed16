//! DMA messages: the server's own requests to the client.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::DmaError;
use super::channel::Channel;
use crate::limits::DMA_REPLY_TIMEOUT;
use crate::wire::{self, Command, DmaAccess, HEADER_SIZE, Header};

/// The client of a session, for access to memory that it did not share by a descriptor.
///
/// Usable from any thread; requests of one session are made one after the other. While the
/// session has received a command and not yet sent its reply the client does not serve
/// requests (QEMU holds its lock): every request fails then, at once, with
/// [`DmaError::ClientWaits`], whichever thread makes it. One that is under way on the main socket when a
/// command arrives fails likewise; a write may then still be carried out. So does, without a twin socket, one made
/// by the session's own thread within a posted write, since that thread is the one that would
/// have to receive the reply.
///
/// A `Peer` keeps the socket's descriptor open, though not the connection.
#[derive(Clone)]
pub struct Peer {
    channel: Arc<Channel>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

impl Peer {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel }
    }

    /// Reads client memory from a DMA address (DMA_READ), in as many messages as the client's
    /// largest transfer makes necessary.
    ///
    /// # Errors
    /// See [`DmaError`]. Part of `data` may have been filled then.
    pub fn dma_read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        check_range(address, data.len())?;
        let mut message = vec![0; HEADER_SIZE + size_of::<DmaAccess>()];
        let mut address = address;
        for chunk in data.chunks_mut(self.channel.max_transfer) {
            let access = DmaAccess {
                address,
                count: chunk.len() as u64,
            };
            message[HEADER_SIZE..].copy_from_slice(access.as_bytes());
            let header = Header::command(0, Command::DmaRead, size_of::<DmaAccess>());
            self.request(header, &mut message, &mut |body| {
                let (reply, bytes) = wire::parse_prefix::<DmaAccess>(body).ok_or(Errno::PROTO)?;
                if reply != access || bytes.len() != chunk.len() {
                    return Err(Errno::PROTO);
                }
                chunk.copy_from_slice(bytes);
                Ok(())
            })?;
            address = address.wrapping_add(access.count);
        }
        Ok(())
    }

    /// Writes client memory at a DMA address (DMA_WRITE), in as many messages as the client's
    /// largest transfer makes necessary.
    ///
    /// # Errors
    /// See [`DmaError`]. Part of `data` may have been written then.
    pub fn dma_write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        check_range(address, data.len())?;
        let mut message = Vec::new();
        let mut address = address;
        for chunk in data.chunks(self.channel.max_transfer) {
            let access = DmaAccess {
                address,
                count: chunk.len() as u64,
            };
            let body = size_of::<DmaAccess>() + chunk.len();
            message.clear();
            message.resize(HEADER_SIZE, 0);
            message.extend_from_slice(access.as_bytes());
            message.extend_from_slice(chunk);
            let header = Header::command(0, Command::DmaWrite, body);
            self.request(header, &mut message, &mut |body| {
                // The specification's table gives the count of this reply four bytes, its
                // implementations eight: the address decides, and what there is of the count.
                let (written, count) = body.split_first_chunk().ok_or(Errno::PROTO)?;
                let count = match *count {
                    [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
                    _ => wire::parse_prefix::<u64>(count).ok_or(Errno::PROTO)?.0,
                };
                if u64::from_ne_bytes(*written) != access.address || count != access.count {
                    return Err(Errno::PROTO);
                }
                Ok(())
            })?;
            address = address.wrapping_add(access.count);
        }
        Ok(())
    }

    fn request(
        &self,
        header: Header,
        message: &mut [u8],
        accept: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), DmaError> {
        let mut turn = self.channel.take_turn(Instant::now() + DMA_REPLY_TIMEOUT)?;
        let deadline = Instant::now() + DMA_REPLY_TIMEOUT;
        self.channel
            .exchange(&mut turn, header, message, deadline, accept)
    }
}

fn check_range(address: u64, len: usize) -> Result<(), DmaError> {
    let size = len as u64;
    let last = size.saturating_sub(1);
    address
        .checked_add(last)
        .map(|_| ())
        .ok_or(DmaError::OutOfRange { address, size })
}

//! Client memory: DMA_MAP, DMA_UNMAP, and answers to the server's DMA_READ and DMA_WRITE.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use zerocopy::IntoBytes;

use super::{Client, ClientError};
use crate::backend::DmaFlags;
use crate::limits::{MAX_DATA_TRANSFER, MAX_MESSAGE_SIZE};
use crate::stream::{Assembler, Received, receive, send, shutdown};
use crate::vfio::dma_unmap;
use crate::wire::size_as_u32;
use crate::wire::{self, Command, DmaAccess, HEADER_SIZE, Header, Kind};

/// What answers the server's DMA messages.
pub trait DmaHandler {
    /// DMA_READ: fills `data` from the DMA address.
    ///
    /// # Errors
    /// The errno of the reply.
    fn dma_read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// DMA_WRITE: stores `data` at the DMA address.
    ///
    /// # Errors
    /// The errno of the reply.
    fn dma_write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno>;
}

/// The handler that is set, if one is.
#[derive(Default)]
pub(super) struct Handler(Option<Box<dyn DmaHandler + Send>>);

impl Client {
    /// DMA_MAP: lets the server access `address..address + size`, through the file (and the
    /// offset in it) if one is given, otherwise by messages.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dma_map(
        &mut self,
        address: u64,
        size: u64,
        flags: DmaFlags,
        file: Option<(BorrowedFd<'_>, u64)>,
    ) -> Result<(), ClientError> {
        let (fd, offset) = file.unzip();
        let map = wire::DmaMap {
            argsz: size_as_u32::<wire::DmaMap>(),
            flags: flags.bits(),
            offset: offset.unwrap_or(0),
            address,
            size,
        };
        self.call(Command::DmaMap, &[map.as_bytes()], fd.as_slice(), |_, _| {
            Ok(())
        })
    }

    /// DMA_UNMAP: when this returns the server does not access `address..address + size` any
    /// more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), ClientError> {
        self.unmap(0, address, size)
    }

    /// DMA_UNMAP of everything that is mapped (`VFIO_DMA_UNMAP_FLAG_ALL`).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dma_unmap_all(&mut self) -> Result<(), ClientError> {
        self.unmap(dma_unmap::ALL, 0, 0)
    }

    fn unmap(&mut self, flags: u32, address: u64, size: u64) -> Result<(), ClientError> {
        let unmap = wire::DmaUnmap {
            argsz: size_as_u32::<wire::DmaUnmap>(),
            flags,
            address,
            size,
        };
        self.call(Command::DmaUnmap, &[unmap.as_bytes()], &[], |_, _| Ok(()))
    }

    /// Sets what answers the server's DMA messages. Without one they are refused.
    pub fn set_dma_handler(&mut self, handler: Box<dyn DmaHandler + Send>) {
        let mut current = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        current.0 = Some(handler);
    }

    /// Answers what the server asks on the main socket for as long as `timeout`; returns how
    /// many requests that were. With a twin socket there are none here.
    ///
    /// # Errors
    /// When the connection ends or the server breaks the protocol.
    pub fn serve_requests(&mut self, timeout: Duration) -> Result<usize, ClientError> {
        self.connection.serve_requests(timeout, &self.handler)
    }
}

/// Builds the answer to a request of the server; empty for none.
pub(super) fn answer_request(
    header: &Header,
    body: &[u8],
    handler: &Mutex<Handler>,
    answer: &mut Vec<u8>,
) {
    answer.clear();
    let result = carry_out(header, body, handler, answer);
    if header.no_reply() {
        answer.clear();
    } else if let Err(errno) = result {
        answer.clear();
        answer.extend_from_slice(header.error_reply(errno).as_bytes());
    }
}

fn carry_out(
    header: &Header,
    body: &[u8],
    handler: &Mutex<Handler>,
    answer: &mut Vec<u8>,
) -> Result<(), Errno> {
    let command = Command::from_number(header.command).ok_or(Errno::NOSYS)?;
    if !matches!(command, Command::DmaRead | Command::DmaWrite) {
        return Err(Errno::INVAL);
    }
    let (access, data) = wire::parse_prefix::<DmaAccess>(body).ok_or(Errno::INVAL)?;
    let count = usize::try_from(access.count).map_err(|_| Errno::INVAL)?;
    let end = access.address.checked_add(access.count.saturating_sub(1));
    if count > MAX_DATA_TRANSFER || end.is_none() {
        return Err(Errno::INVAL);
    }
    let mut handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
    let handler = handler.0.as_mut().ok_or(Errno::OPNOTSUPP)?;
    let mut reply_body = size_of::<DmaAccess>();
    if command == Command::DmaRead {
        if !data.is_empty() {
            return Err(Errno::INVAL);
        }
        reply_body += count;
        answer.resize(HEADER_SIZE + reply_body, 0);
        handler.dma_read(
            access.address,
            &mut answer[HEADER_SIZE + size_of::<DmaAccess>()..],
        )?;
    } else {
        if data.len() != count {
            return Err(Errno::INVAL);
        }
        handler.dma_write(access.address, data)?;
        answer.resize(HEADER_SIZE + reply_body, 0);
    }
    answer[..HEADER_SIZE].copy_from_slice(header.reply(reply_body).as_bytes());
    answer[HEADER_SIZE..][..size_of::<DmaAccess>()].copy_from_slice(access.as_bytes());
    Ok(())
}

/// Answers requests on the twin socket until it ends.
pub(super) fn serve_twin(socket: Arc<OwnedFd>, handler: Arc<Mutex<Handler>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let socket = socket.as_fd();
        let mut assembler = Assembler::new(MAX_MESSAGE_SIZE);
        let mut answer = Vec::new();
        while let Ok(Received::Bytes) = receive(socket, &mut assembler, RecvFlags::empty()) {
            loop {
                let header = match assembler.next() {
                    Ok(Some(header)) => header,
                    Ok(None) => break,
                    Err(_) => return shutdown(socket),
                };
                answer.clear();
                if header.kind() == Kind::Command {
                    answer_request(&header, assembler.body(), &handler, &mut answer);
                }
                assembler.consume();
                if !answer.is_empty() && send(socket, &answer, &[]).is_err() {
                    return;
                }
            }
        }
    })
}

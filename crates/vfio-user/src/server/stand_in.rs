//! What answers on a connection whose session is no more: reads are all ones, writes are dropped, what the client must
//! not see fail is acknowledged. Without a backend: the device and all that was known of it are gone.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tracing::debug;
use zerocopy::IntoBytes;

use super::Error;
use super::ledger::{Left, Partial, Pending};
use super::reply::Reply;
use crate::limits::{MAX_DATA_TRANSFER, MAX_MESSAGE_SIZE, RESTING_BUFFER};
use crate::stream::{Assembler, Received, receive, wait_for_ever};
use crate::wire::{self, Command, Kind, RegionAccess};

/// Takes a connection over whose VERSION was agreed by a session that is no more, for as long as the client stays.
///
/// What that session had received and not answered ([`Ledger`](super::Ledger)) is answered first. Until the client has reset the device
/// for the first time it is still finding out what the device is: reads fail then, so that it gives up, as do questions
/// about the device at any time. Afterwards reads are all ones, and everything else succeeds without an effect.
/// A hostile process of that session may have kept the socket: whatever it sets on it, and whenever, nothing here spins.
#[derive(Debug)]
pub struct StandIn {
    socket: UnixStream,
    assembler: Assembler,
    reply: Reply,
    was_reset: bool,
}

impl StandIn {
    /// Goes on with what `left` says. Nobody else may read from the connection any more. Blocks until the client
    /// leaves.
    ///
    /// # Errors
    /// [`Error::NoVersionYet`], and nothing is done; the client breaks framing, or the socket fails. The connection has
    /// ended then.
    pub fn run(stream: UnixStream, left: Left) -> Result<(), Error> {
        if !left.is_agreed() {
            return Err(Error::NoVersionYet);
        }
        let mut stand_in = Self {
            socket: stream,
            assembler: Assembler::new(MAX_MESSAGE_SIZE),
            reply: Reply::new(),
            was_reset: left.was_reset,
        };
        let served = stand_in.serve(left);
        crate::stream::shutdown(stand_in.socket.as_fd());
        match served {
            Err(Error::Socket(Errno::PIPE | Errno::CONNRESET)) => Ok(()),
            served => served,
        }
    }

    fn serve(&mut self, left: Left) -> Result<(), Error> {
        for pending in &left.pending {
            self.answer(pending)?;
        }
        match left.partial {
            Partial::None => {}
            Partial::Beginning(bytes) => {
                self.assembler.space()[..bytes.len()].copy_from_slice(&bytes);
                self.assembler.filled(bytes.len(), Vec::new(), false);
            }
            Partial::Rest(command, rest) => {
                if !self.skip(rest)? {
                    return Ok(());
                }
                self.answer(&command)?;
            }
        }
        loop {
            while let Some(header) = self.assembler.next()? {
                let command = Pending::new(header, self.assembler.body());
                self.assembler.consume();
                self.answer(&command)?;
            }
            let socket = self.socket.as_fd();
            match receive(socket, &mut self.assembler, RecvFlags::DONTWAIT)? {
                Received::Bytes => {}
                Received::Nothing => wait_for_ever(socket, PollFlags::IN)?,
                Received::Closed => return Ok(()),
            }
        }
    }

    /// Takes so many bytes out of the stream; false if the client has left.
    fn skip(&self, mut rest: usize) -> Result<bool, Errno> {
        let mut bytes = [0; RESTING_BUFFER];
        while rest > 0 {
            let part = &mut bytes[..rest.min(RESTING_BUFFER)];
            match rustix::net::recv(&self.socket, part, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(false),
                Ok((count, _)) => rest -= count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait_for_ever(self.socket.as_fd(), PollFlags::IN)?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Answers a message, if it wants that.
    fn answer(&mut self, message: &Pending) -> Result<(), Errno> {
        let header = &message.header;
        if header.kind() == Kind::Reply {
            return Ok(());
        }
        self.reply.reset();
        let result = self.carry_out(message);
        if header.no_reply() {
            return Ok(());
        }
        match result {
            Ok(()) => self.reply.finish(header),
            Err(errno) => {
                debug!(command = header.command, %errno, "a command failed: the device is gone");
                self.reply.fail(header, errno);
            }
        }
        self.send()
    }

    /// Sends the reply. Blocks as long as the client does not read.
    fn send(&self) -> Result<(), Errno> {
        let mut rest = self.reply.bytes();
        while !rest.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.socket, rest, flags) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait_for_ever(self.socket.as_fd(), PollFlags::OUT)?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, message: &Pending) -> Result<(), Errno> {
        if message.header.kind() != Kind::Command {
            return Err(Errno::INVAL);
        }
        match Command::from_number(message.header.command).ok_or(Errno::NOSYS)? {
            Command::RegionRead => {
                let access: RegionAccess = message.body()?;
                let count = usize::try_from(access.count).map_err(|_| Errno::INVAL)?;
                if count > MAX_DATA_TRANSFER {
                    return Err(Errno::INVAL);
                }
                if !self.was_reset {
                    return Err(Errno::IO);
                }
                let body = self.reply.body(size_of::<RegionAccess>() + count);
                let (fixed, data) = body.split_at_mut(size_of::<RegionAccess>());
                fixed.copy_from_slice(access.as_bytes());
                data.fill(u8::MAX);
            }
            Command::RegionWrite => {
                let access: RegionAccess = message.body()?;
                self.reply.set_body(&access);
            }
            Command::RegionWriteMulti => {
                let writes: wire::WriteMulti = message.body()?;
                self.reply.set_body(&writes);
            }
            Command::DmaUnmap => {
                let unmap: wire::DmaUnmap = message.body()?;
                self.reply.set_body(&unmap);
            }
            Command::DeviceReset => self.was_reset = true,
            Command::DmaMap | Command::DeviceSetIrqs => {}
            Command::DeviceGetInfo
            | Command::DeviceGetRegionInfo
            | Command::DeviceGetRegionIoFds
            | Command::DeviceGetIrqInfo => return Err(Errno::NODEV),
            Command::DeviceFeature | Command::MigDataRead | Command::MigDataWrite => {
                return Err(Errno::OPNOTSUPP);
            }
            Command::Version | Command::DmaRead | Command::DmaWrite => return Err(Errno::INVAL),
        }
        Ok(())
    }
}

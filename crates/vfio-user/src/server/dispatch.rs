//! One command in, one reply out. No socket here: what arrives has been received, what is
//! built is sent by the session.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use tracing::{debug, trace};

use super::reply::Reply;
use super::{Error, Statistics};
use crate::backend::{Backend, DeviceInfo, Irq, Region};
use crate::capabilities::Capabilities;
use crate::limits::{MAX_DATA_TRANSFER, MAX_IRQ_INDEXES, MAX_REGIONS};
use crate::stream::Descriptors;
use crate::wire::{Command, Header, Kind};

/// Whether the connection lives on after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// The device failed to start: the reply says so. The client may take its memory back, and change it as it
    /// must; with its next use of the device the connection ends.
    Failed(Errno),
    /// The device that failed to start is used all the same: there is no reply, and the connection ends.
    End(Errno),
}

/// Carries out commands on a backend and builds the replies.
///
/// What the backend says that must not change during a session is asked once, so that the hot
/// path makes one virtual call per access.
#[derive(Debug)]
pub struct Dispatcher {
    pub(super) device: DeviceInfo,
    pub(super) regions: Vec<Region>,
    pub(super) irqs: Vec<Irq>,
    /// Most descriptors that the client takes in one message.
    pub(super) client_fds: usize,
    pub(super) max_transfer: usize,
    pub(super) reply: Reply,
    pub(super) statistics: Arc<Statistics>,
    used: bool,
    failed: Option<Errno>,
}

/// What the backend says of its interrupt indexes. No index is used before
/// [`Backend::first_use`], which may be where a device learns of its vectors.
fn irqs(backend: &dyn Backend, count: u32) -> Vec<Irq> {
    (0..count).map(|index| backend.irq(index)).collect()
}

/// A command on its way to the function that carries it out.
pub(super) struct Request<'a> {
    pub(super) body: &'a [u8],
    pub(super) fds: Descriptors,
}

impl Dispatcher {
    /// Asks the backend what does not change, for a client with these capabilities.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn new(
        backend: &dyn Backend,
        client: &Capabilities,
        statistics: Arc<Statistics>,
    ) -> Result<Self, Error> {
        let device = backend.device_info();
        for (what, count, limit) in [
            ("regions", device.num_regions, MAX_REGIONS),
            ("interrupt indexes", device.num_irqs, MAX_IRQ_INDEXES),
        ] {
            if count > limit {
                return Err(Error::TooMany { what, count, limit });
            }
        }
        Ok(Self {
            device,
            regions: (0..device.num_regions).map(|i| backend.region(i)).collect(),
            irqs: irqs(backend, device.num_irqs),
            client_fds: client.message_fds(),
            max_transfer: MAX_DATA_TRANSFER,
            reply: Reply::new(),
            statistics,
            used: false,
            failed: None,
        })
    }

    /// Carries out one command. Afterwards [`reply`](Self::reply) is what goes back.
    pub fn dispatch(
        &mut self,
        header: &Header,
        body: &[u8],
        fds: Descriptors,
        backend: &mut dyn Backend,
    ) -> Flow {
        self.reply.reset();
        self.statistics.count_message();
        let mut flow = Flow::Continue;
        let result = match self.start(header, backend) {
            Ok(()) => self.carry_out(header, Request { body, fds }, backend),
            Err(errno) if self.failed.is_some() => return Flow::End(errno),
            Err(errno) => {
                self.failed = Some(errno);
                flow = Flow::Failed(errno);
                Err(errno)
            }
        };
        if let Err(errno) = result {
            self.statistics.count_error();
            debug!(
                command = header.command,
                flags = header.flags,
                size = header.message_size,
                %errno,
                "a command failed"
            );
        }
        if header.no_reply() {
            self.reply.reset();
        } else {
            match result {
                Ok(()) => self.reply.finish(header),
                Err(errno) => self.reply.fail(header, errno),
            }
        }
        flow
    }

    /// The reply to the last command: its bytes, empty for none, and its descriptors.
    #[must_use]
    pub fn reply(&self) -> (&[u8], &[OwnedFd]) {
        (self.reply.bytes(), self.reply.fds())
    }

    pub(super) fn last_reply(&self) -> &Reply {
        &self.reply
    }

    /// Tells the backend of the first use of the device.
    fn start(&mut self, header: &Header, backend: &mut dyn Backend) -> Result<(), Errno> {
        let early = matches!(
            Command::from_number(header.command),
            None | Some(Command::Version | Command::DmaMap | Command::DmaUnmap)
        );
        if self.used || early || header.kind() != Kind::Command {
            return Ok(());
        }
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        backend.first_use()?;
        self.used = true;
        self.irqs = irqs(backend, self.device.num_irqs);
        Ok(())
    }

    fn carry_out(
        &mut self,
        header: &Header,
        request: Request<'_>,
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        if header.kind() != Kind::Command || request.fds.excess() {
            return Err(Errno::INVAL);
        }
        let command = Command::from_number(header.command).ok_or(Errno::NOSYS)?;
        trace!(%command, body = request.body.len(), fds = request.fds.len(), "command");
        let takes_fds = matches!(command, Command::DmaMap | Command::DeviceSetIrqs);
        if !takes_fds && !request.fds.is_empty() {
            return Err(Errno::INVAL);
        }
        match command {
            Command::RegionRead => self.region_read(request.body, backend),
            Command::RegionWrite => self.region_write(request.body, backend),
            Command::RegionWriteMulti => self.region_write_multi(request.body, backend),
            Command::DmaMap => Self::dma_map(request, backend),
            Command::DmaUnmap => self.dma_unmap(request.body, backend),
            Command::DeviceGetInfo => self.device_get_info(request.body),
            Command::DeviceGetRegionInfo => self.device_get_region_info(request.body, backend),
            Command::DeviceGetRegionIoFds => self.device_get_region_io_fds(request.body, backend),
            Command::DeviceGetIrqInfo => self.device_get_irq_info(request.body),
            Command::DeviceSetIrqs => self.device_set_irqs(request, backend),
            Command::DeviceReset => self.device_reset(request.body, backend),
            Command::DeviceFeature | Command::MigDataRead | Command::MigDataWrite => {
                Err(Errno::OPNOTSUPP)
            }
            Command::Version | Command::DmaRead | Command::DmaWrite => Err(Errno::INVAL),
        }
    }
}

//! Guest memory as a device sees it: DMA addresses that the client mapped, copied from and to
//! without a lock.
//!
//! Where memory comes from is the transport's business ([`GuestMemory::map`] and
//! [`GuestMemory::unmap`] are its side); the wire format is not here.

mod aperture;
mod fault;
mod files;
mod follow;
mod map;
mod mapping;
mod pages;
mod transfer;
mod watch;

use std::convert::Infallible;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, compiler_fence, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hdv_vfio_user::backend::{DmaFlags, DmaMap};
use hdv_vfio_user::limits::PAGE_SIZE;
use hdv_vfio_user::server::{DmaError, Peer};
use rustix::io::Errno;
use vm_memory::{AtomicAccess, ByteValued, Bytes, GuestAddress};

pub use aperture::Aperture;
pub(crate) use fault::let_through;
pub use map::MAX_REGIONS;
pub(crate) use mapping::Mapping;

use crate::sync::Published;
use fault::Loss;
use files::Source;
use follow::{Upkeep, View};
use map::{Backed, Backing, NotMapped, Piece, Region, RegionMap};
use transfer::{Reading, Transfer, Writing};

/// Why an access to guest memory failed. Nothing was written, unless the memory is lost or the access
/// spans regions of which one came without a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The access leaves guest memory.
    #[error("{:#x} is not in guest memory", .0.0)]
    NotMapped(GuestAddress),
    /// There is no guest memory at all: no VM is connected.
    #[error("there is no guest memory: no VM is connected")]
    NoMemory,
    /// The function may not access memory: in a [domain](crate::domain) it may while Bus Master Enable is set in its command
    /// register and in those of all ports above it, and the links between them are up.
    #[error(
        "the guest does not let the function access memory: its driver sets Bus Master Enable first (pci_set_master)"
    )]
    NotBusMaster,
    /// An aperture of no bytes, or one that wraps.
    #[error("{length:#x} bytes at {:#x} are no range", .address.0)]
    BadRange {
        /// Where.
        address: GuestAddress,
        /// Bytes.
        length: usize,
    },
    /// An aperture over memory that came without a descriptor: it can be copied from and to only.
    #[error(
        "guest memory at {:#x} came without a descriptor and cannot be mapped: start the VMM with \
         shared guest memory",
        .0.0
    )]
    NoDescriptor(GuestAddress),
    /// An aperture over memory in huge pages: it can be copied from and to only.
    #[error(
        "guest memory at {:#x} is in huge pages and cannot be mapped: read and write it, or start the \
         VMM without hugetlbfs memory (transparent huge pages are no hindrance)",
        .0.0
    )]
    HugePages(GuestAddress),
    /// An aperture's mapping failed.
    #[error("guest memory at {:#x} cannot be mapped: {reason}", .address.0)]
    MappingFailed {
        /// Where.
        address: GuestAddress,
        /// What the kernel says.
        reason: Errno,
    },
    /// The file behind guest memory has shrunk, here or elsewhere: what was read may be zeros that are not the
    /// guest's, and what was written may be lost. So is all of it until the VMM leaves.
    #[error("guest memory at {:#x} is lost: the VMM's memory file has shrunk", .0.0)]
    Lost(GuestAddress),
    /// A write to a region that the client gave read-only, or a read of a write-only one.
    #[error("guest memory at {:#x} does not allow this access", .0.0)]
    Denied(GuestAddress),
    /// An atomic access that is not aligned to its size or spans regions.
    #[error("atomic access at {:#x} is misaligned", .0.0)]
    Misaligned(GuestAddress),
    /// The region came without a descriptor and its client waits for a reply of ours, so
    /// that it cannot answer DMA_READ or DMA_WRITE. Try again from another thread once this access
    /// is answered, or start the VMM with shared memory.
    #[error(
        "guest memory at {:#x} came without a descriptor and its client is waiting for us: \
         start the VMM with shared guest memory",
        .0.0
    )]
    ClientWaits(GuestAddress),
    /// The client did not carry out DMA_READ or DMA_WRITE.
    #[error("the client did not give access to guest memory at {:#x}: {reason}", .address.0)]
    Client {
        /// Where.
        address: GuestAddress,
        /// What came of the message.
        reason: DmaError,
    },
}

struct Shared {
    view: Published<View>,
    /// Whose memory it is, once it is another's; also when it has been closed since.
    leader: OnceLock<GuestMemory>,
    /// Only for regions without a descriptor, never on the way to a mapped one.
    client: Mutex<Option<Peer>>,
    /// All mappings and apertures are lost together.
    loss: Arc<Loss>,
    upkeep: Mutex<Upkeep>,
}

/// A device's view of guest memory. Clones see the same memory; usable from any thread.
///
/// Addresses are DMA addresses: guest physical addresses, unless the VMM has a virtual IOMMU. Lengths
/// are in bytes.
///
/// A device that fills a ring writes a record first, and then the index that says it is there:
///
/// ```
///
/// use hdv::{GuestAddress, GuestMemory, MemoryError};
///
/// fn publish(
///     memory: &GuestMemory,
///     ring: GuestAddress,
///     record: &[u8; 16],
///     head: u32,
/// ) -> Result<(), MemoryError> {
///     // The guest chose the address: it may be near 2^64.
///     memory.write(GuestAddress(ring.0.wrapping_add(64)), record)?;
///     memory.store(ring, head.to_le())
/// }
///
/// let nowhere = publish(&GuestMemory::new(), GuestAddress(0x1000), &[0; 16], 1);
/// assert_eq!(nowhere, Err(MemoryError::NoMemory));
/// ```
#[derive(Clone)]
pub struct GuestMemory {
    shared: Arc<Shared>,
}

impl GuestMemory {
    /// No memory at all.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                view: Published::new(View::Own(RegionMap::default())),
                leader: OnceLock::new(),
                client: Mutex::new(None),
                loss: Arc::new(Loss::new()),
                upkeep: Mutex::default(),
            }),
        }
    }

    /// Fills `data` from guest memory.
    ///
    /// # Errors
    /// [`MemoryError`]; `data` is then unspecified.
    pub fn read(&self, address: GuestAddress, data: &mut [u8]) -> Result<(), MemoryError> {
        self.access(address, Reading(data))
    }

    /// Writes `data` to guest memory, all of it or nothing; only where some of it has no descriptor
    /// may an error come after a part has been written.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn write(&self, address: GuestAddress, data: &[u8]) -> Result<(), MemoryError> {
        self.access(address, Writing(data))
    }

    /// Reads an object, for example an integer in this machine's byte order.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn read_obj<T: ByteValued>(&self, address: GuestAddress) -> Result<T, MemoryError> {
        let mut value = T::zeroed();
        self.read(address, value.as_mut_slice())?;
        Ok(value)
    }

    /// Writes an object, for example an integer in this machine's byte order.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn write_obj<T: ByteValued>(
        &self,
        address: GuestAddress,
        value: T,
    ) -> Result<(), MemoryError> {
        self.write(address, value.as_slice())
    }

    /// Loads an aligned integer atomically, as a driver in the guest stores it: what the driver wrote before
    /// it is seen afterwards ([`Ordering::Acquire`]).
    ///
    /// # Errors
    /// [`MemoryError`]. Memory without a descriptor is read by message, which is no more atomic than
    /// its client makes it.
    pub fn load<T: AtomicAccess>(&self, address: GuestAddress) -> Result<T, MemoryError> {
        fault::let_through();
        let loaded = self.with_map(|owner, map| {
            let Some((mapping, offset)) =
                mapped_atomic(map, address, size_of::<T>(), DmaFlags::READ)?
            else {
                return Ok(None);
            };
            let value = mapping
                .slice(offset, size_of::<T>())
                .and_then(|slice| slice.load(0, Ordering::Acquire).ok())
                .ok_or(MemoryError::Misaligned(address))?;
            owner.not_lost(address)?;
            Ok::<_, MemoryError>(Some(value))
        })?;
        match loaded {
            Some(value) => Ok(value),
            None => self.read_obj(address),
        }
    }

    /// Stores an aligned integer atomically: a driver that sees it also sees what was written before
    /// ([`Ordering::Release`]).
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn store<T: AtomicAccess>(
        &self,
        address: GuestAddress,
        value: T,
    ) -> Result<(), MemoryError> {
        fault::let_through();
        let stored = self.with_map(|owner, map| {
            let Some((mapping, offset)) =
                mapped_atomic(map, address, size_of::<T>(), DmaFlags::WRITE)?
            else {
                return Ok(false);
            };
            mapping
                .slice(offset, size_of::<T>())
                .and_then(|slice| slice.store(value, 0, Ordering::Release).ok())
                .ok_or(MemoryError::Misaligned(address))?;
            owner.not_lost(address)?;
            Ok::<_, MemoryError>(true)
        })?;
        if stored {
            return Ok(());
        }
        self.write_obj(address, value)
    }

    /// Whether the whole range can be written now. It may be gone a moment later; use it
    /// to refuse a setting, not instead of looking at the result of a write.
    ///
    /// # Errors
    /// The first address that cannot be written.
    pub fn check_writeable(&self, address: GuestAddress, length: u64) -> Result<(), MemoryError> {
        let length =
            usize::try_from(length).map_err(|_| MemoryError::NotMapped(GuestAddress(u64::MAX)))?;
        self.with_map(|_, map| {
            map.pieces(address.0, length, |piece| allowed(&piece, DmaFlags::WRITE))
                .map_err(|error| none_at_all(map, error))
        })
    }

    /// Adds a range that a client gave. Ignored for a function that has been torn down: a refusal would end
    /// its VM.
    ///
    /// # Errors
    /// `EEXIST` when it overlaps another, `ENOSPC` beyond [`MAX_REGIONS`] or 16 TiB, `EINVAL` when it is empty,
    /// wraps, exceeds its file or, with a file, is not made of whole pages of 4096 bytes, `EBUSY` when this is the
    /// memory of another device, which carries this one; otherwise why the file cannot be mapped.
    pub fn map(&self, map: &DmaMap) -> Result<(), Errno> {
        let last = map
            .size
            .checked_sub(1)
            .and_then(|span| map.address.checked_add(span))
            .ok_or(Errno::INVAL)?;
        let pages = [map.address, map.size, map.offset]
            .iter()
            .all(|value| value.is_multiple_of(PAGE_SIZE));
        if map.file.is_some() && !pages {
            // Atomic accesses rely on it.
            return Err(Errno::INVAL);
        }
        let mut upkeep = self.upkeep();
        let upkeep = &mut *upkeep;
        if upkeep.closed {
            return Ok(());
        }
        let backed = self.shared.view.replace(|view| {
            let current = own(view)?;
            // The cheap checks first: no mapping is made for a range that will be refused.
            let mut region = Region {
                start: map.address,
                last,
                flags: map.flags,
                backing: Backing::Messages,
            };
            let with = current.with(region.clone())?;
            let Some(file) = &map.file else {
                return Ok((View::Own(with), None));
            };
            let mapping = Mapping::sharing_loss(
                file.as_fd(),
                map.offset,
                map.size,
                map.flags.contains(DmaFlags::WRITE),
                &self.shared.loss,
            )?;
            // Last of the checks: what is wrong with the file is told first.
            current.check_room(map.size)?;
            let source = upkeep.files.keep(file.as_fd()).map(|file| Source {
                file,
                offset: map.offset,
            });
            let backed = Arc::new(Backed { mapping, source });
            region.backing = Backing::Mapped(Arc::clone(&backed));
            Ok((View::Own(current.with(region)?), Some(backed)))
        })?;
        if let Some(source) = backed.as_ref().and_then(|backed| backed.source.as_ref())
            && !self.is_lost()
        {
            upkeep.give(map.address, last, map.flags, source);
        }
        Ok(())
    }

    /// Removes every range wholly inside `address..address + size`; when this returns, no access
    /// to them is in flight and no aperture shows them.
    ///
    /// # Errors
    /// `EINVAL` when a range would be cut in two; nothing is removed then. `ENOMEM` when an aperture's
    /// pages cannot be replaced; nothing is removed then either, but apertures may show zeros. `EBUSY` when this
    /// is the memory of another device.
    pub fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        let last = size
            .checked_sub(1)
            .and_then(|span| address.checked_add(span))
            .ok_or(Errno::INVAL)?;
        let mut upkeep = self.upkeep();
        self.shared.view.replace(|view| {
            let without = own(view)?.without(address, last)?;
            upkeep.take(address, last)?;
            Ok((View::Own(without), ()))
        })
    }

    /// Forgets the client and everything it mapped. Apertures show private zero pages from now on, whatever
    /// a next client maps.
    pub fn clear(&self) {
        let mut upkeep = self.upkeep();
        let view = match self.shared.leader.get() {
            // The client is the leader's.
            Some(leader) => upkeep.of(leader),
            None => View::default(),
        };
        self.become_empty(&mut upkeep, view);
    }

    /// The function is gone: forgets its client, and whatever that maps from now on.
    pub(crate) fn close(&self) {
        let mut upkeep = self.upkeep();
        upkeep.closed = true;
        self.become_empty(&mut upkeep, View::default());
    }

    /// Forgets everything of this memory, which is `view` from now on.
    fn become_empty(&self, upkeep: &mut Upkeep, view: View) {
        *self.client() = None;
        self.unmap_everything(upkeep, view);
        upkeep.forget();
        // Last: whatever an access may still meet is not lost memory any more.
        self.shared.loss.forget();
    }

    /// Removes every range; as [`GuestMemory::unmap`]. Nothing happens to the memory of another device.
    pub fn unmap_all(&self) {
        let mut upkeep = self.upkeep();
        if self.shared.leader.get().is_none() {
            self.unmap_everything(&mut upkeep, View::default());
        }
    }

    fn unmap_everything(&self, upkeep: &mut Upkeep, view: View) {
        let cleared = self.shared.view.replace(|_| {
            let taken = upkeep.take(0, u64::MAX);
            Ok::<_, Infallible>((view, taken))
        });
        // There are fewer mappings now.
        let taken = match cleared {
            Ok(taken) => taken.or_else(|_| upkeep.take(0, u64::MAX)),
            Err(never) => match never {},
        };
        if let Err(error) = taken {
            tracing::error!("an aperture still shows memory that the VMM took away: {error}");
        }
    }

    /// Whether the file behind some of it shrank, so that what was read there was not the guest's. It
    /// stays so until [`GuestMemory::clear`].
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.loss.is_lost() || self.shared.leader.get().is_some_and(Self::is_lost)
    }

    /// To be asked after every access to what this memory itself has mapped, before its guard of the map goes:
    /// lost memory reads as zeros.
    fn not_lost(&self, address: GuestAddress) -> Result<(), MemoryError> {
        // The fault's handler ran on this thread, unseen by the compiler, or on another.
        compiler_fence(Ordering::SeqCst);
        fence(Ordering::Acquire);
        if self.shared.loss.is_lost() {
            return Err(MemoryError::Lost(address));
        }
        Ok(())
    }

    /// Says whom to ask for memory that comes without a descriptor.
    pub fn set_peer(&self, peer: Peer) {
        *self.client() = Some(peer);
    }

    /// The ranges mapped now, as (first address, last address, rights).
    #[must_use]
    pub fn ranges(&self) -> Vec<(GuestAddress, GuestAddress, DmaFlags)> {
        let range = |region: &Region| {
            (
                GuestAddress(region.start),
                GuestAddress(region.last),
                region.flags,
            )
        };
        self.with_map(|_, map| map.regions().iter().map(range).collect())
    }

    fn client(&self) -> MutexGuard<'_, Option<Peer>> {
        self.shared
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.shared.upkeep()
    }

    fn access(
        &self,
        address: GuestAddress,
        mut transfer: impl Transfer,
    ) -> Result<(), MemoryError> {
        fault::let_through();
        match self.with_map(|owner, map| owner.access_mapped(map, address, &mut transfer))? {
            Way::Mapped => Ok(()),
            // A message may take as long as its client likes; DMA_UNMAP must not wait for it.
            Way::Messages => self.access_by_message(address, transfer),
        }
    }

    /// Accesses what this memory has mapped, unless some of it needs messages: nothing is done then.
    #[inline]
    fn access_mapped(
        &self,
        map: &RegionMap,
        address: GuestAddress,
        transfer: &mut impl Transfer,
    ) -> Result<Way, MemoryError> {
        let length = transfer.length();
        // Nearly every access, in one look.
        if let Some((region, offset)) = map.whole(address.0, length)
            && let Backing::Mapped(backed) = &region.backing
            && region.flags.contains(transfer.rights())
        {
            transfer.copy(&backed.mapping, offset, 0..length);
            return self.not_lost(address).map(|()| Way::Mapped);
        }
        // All of it is checked before any of it is touched: an access fails whole.
        let mut way = Way::Mapped;
        map.pieces(address.0, length, |piece| {
            if matches!(piece.region.backing, Backing::Messages) {
                way = Way::Messages;
            }
            allowed(&piece, transfer.rights())
        })
        .map_err(|error| none_at_all(map, error))?;
        if way == Way::Messages {
            return Ok(way);
        }
        map.pieces(address.0, length, |piece| {
            if let Backing::Mapped(backed) = &piece.region.backing {
                transfer.copy(&backed.mapping, piece.offset, piece.buffer);
            }
            Ok::<_, MemoryError>(())
        })?;
        if length > 0 {
            self.not_lost(address)?;
        }
        Ok(way)
    }

    /// The slow path: some of the range is reached by messages only. Every piece is looked up anew,
    /// since memory may have been unmapped during a message, and may not be touched then.
    fn access_by_message(
        &self,
        address: GuestAddress,
        mut transfer: impl Transfer,
    ) -> Result<(), MemoryError> {
        let peer = self.with_map(|owner, _| owner.client().clone());
        let length = transfer.length();
        let mut done = 0;
        while done < length {
            let asked = self.with_map(|owner, map| {
                let piece = map
                    .first_piece(address.0, done..length)
                    .map_err(|error| none_at_all(map, error.into()))?;
                allowed(&piece, transfer.rights())?;
                let (at, buffer) = (piece.region.start + piece.offset, piece.buffer.clone());
                done = buffer.end;
                if let Backing::Mapped(backed) = &piece.region.backing {
                    transfer.copy(&backed.mapping, piece.offset, buffer);
                    owner.not_lost(address)?;
                    return Ok(None);
                }
                Ok::<_, MemoryError>(Some((at, buffer)))
            })?;
            let Some((at, buffer)) = asked else {
                continue;
            };
            let address = GuestAddress(at);
            let Some(peer) = &peer else {
                return Err(MemoryError::Client {
                    address,
                    reason: DmaError::Disconnected,
                });
            };
            transfer
                .exchange(peer, at, buffer)
                .map_err(|error| match error {
                    DmaError::ClientWaits => MemoryError::ClientWaits(address),
                    reason => MemoryError::Client { address, reason },
                })?;
        }
        Ok(())
    }
}

/// How an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Mapped,
    Messages,
}

/// What may be changed here.
fn own(view: &View) -> Result<&RegionMap, Errno> {
    match view {
        View::Own(map) => Ok(map),
        View::Of(_) | View::Barred(_) => Err(Errno::BUSY),
    }
}

impl Default for GuestMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory")
            .field("view", &self.shared.view)
            .finish_non_exhaustive()
    }
}

impl From<NotMapped> for MemoryError {
    fn from(NotMapped(address): NotMapped) -> Self {
        Self::NotMapped(GuestAddress(address))
    }
}

/// The error of an access: where there is no memory at all, no address is at fault.
fn none_at_all(map: &RegionMap, error: MemoryError) -> MemoryError {
    match error {
        MemoryError::NotMapped(_) if map.is_barred() => MemoryError::NotBusMaster,
        MemoryError::NotMapped(_) if map.regions().is_empty() => MemoryError::NoMemory,
        error => error,
    }
}

fn allowed(piece: &Piece<'_>, rights: DmaFlags) -> Result<(), MemoryError> {
    if piece.region.flags.contains(rights) {
        Ok(())
    } else {
        Err(MemoryError::Denied(GuestAddress(
            piece.region.start + piece.offset,
        )))
    }
}

/// The mapping and offset of an atomic access; `None` when messages must carry it.
fn mapped_atomic(
    map: &RegionMap,
    address: GuestAddress,
    size: usize,
    rights: DmaFlags,
) -> Result<Option<(&Mapping, u64)>, MemoryError> {
    let mut found = None;
    map.pieces(address.0, size, |piece| {
        allowed(&piece, rights)?;
        if piece.buffer != (0..size) {
            return Err(MemoryError::Misaligned(address));
        }
        if let Backing::Mapped(backed) = &piece.region.backing {
            found = Some((&backed.mapping, piece.offset));
        }
        Ok(())
    })
    .map_err(|error| none_at_all(map, error))?;
    Ok(found)
}

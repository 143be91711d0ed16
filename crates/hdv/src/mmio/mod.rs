//! What of a function's BARs is answered without calling the device: doorbells, whose writes signal
//! an event, and sections, ranges backed by a file.
//!
//! [`Mmio`] is the device's handle. The transport looks here before every call into the device. The
//! MSI-X table and pending-bit array, which have the right of way over sections, are not here.
//!
//! Everything is in one immutable value that is replaced whole, so that an access looks
//! without a lock.

mod allowance;
mod doorbell;
mod offer;
mod section;
mod table;

use std::fmt;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use hdv_pci::BarIndex;
use hdv_vfio_user::limits::{MAX_SPARSE_AREAS, PAGE_SIZE};
use rustix::io::Errno;

pub(crate) use allowance::Allowance;
pub use doorbell::{AccessSize, Doorbell};
pub(crate) use offer::Offer;
pub use section::{Section, SectionFlags};

use crate::access::{self, BarAccess};
use crate::sync::Published;
use doorbell::Bell;
use offer::Offers;
use section::Backing;
use table::Table;

/// Why a doorbell or a section could not be had, or not be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MmioError {
    /// A range that is empty, misaligned, wraps, or leaves its BAR.
    #[error("offset {offset:#x} of BAR {bar}, {length:#x} bytes: {problem}")]
    Range {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same doorbell is registered, or another section overlaps.
    #[error(
        "offset {offset:#x} of BAR {bar} is taken by another doorbell or section: remove that one first"
    )]
    Taken {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
    },
    /// There is no such doorbell or section.
    #[error(
        "there is no such doorbell or section at offset {offset:#x} of BAR {bar}: give the values that it \
         was placed with"
    )]
    NotFound {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
    },
    /// The client has mapped the section and cannot be made to give it back.
    #[error(
        "offset {offset:#x} of BAR {bar} is mapped by the client: it is free when the client has left"
    )]
    Mapped {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
    },
    /// The descriptor is not an eventfd.
    #[error("a doorbell's event must be an eventfd, and this descriptor is something else")]
    NotAnEvent,
    /// An event's descriptor cannot be duplicated.
    #[error("the event's descriptor cannot be duplicated: {0}")]
    Descriptor(Errno),
    /// The section's file cannot be mapped: `EINVAL` if it does not have the range, `EACCES` if the
    /// section is writeable and the file is not, otherwise what the kernel says.
    #[error("the section's file cannot be mapped: {0}{remedy}", remedy = file_remedy(*_0))]
    File(Errno),
    /// The host may not have more doorbells.
    #[error(
        "a restricted device host may have {limit} doorbells, all its devices together: unregister one first, or \
         match more writes with one (any value, a whole page)"
    )]
    Limit {
        /// How many it may have.
        limit: usize,
    },
    /// The function has been torn down.
    #[error("the device has been torn down, and what was placed into its BARs with it")]
    Gone,
}

/// What to do about a section's file that cannot be mapped, where the error says it.
fn file_remedy(error: Errno) -> &'static str {
    match error {
        Errno::INVAL => "; the section's range must lie wholly in the file",
        Errno::ACCESS => "; a section that is writeable needs a file that was opened for writing",
        _ => "",
    }
}

/// A doorbell as a client may be given it (GET_REGION_IO_FDS).
#[derive(Clone, Debug)]
pub(crate) struct OfferedDoorbell {
    pub(crate) doorbell: Doorbell,
    pub(crate) event: Arc<OwnedFd>,
}

/// Everything that is placed.
type Placed = Table<Arc<Bell>, Arc<Backing>>;

/// How far the function's end has come.
#[derive(Clone, Default)]
enum Life {
    #[default]
    Open,
    /// It is being torn down: what was placed answers no guest any more and can still be taken back, as
    /// devices do in their teardown.
    Ending(Placed),
    Gone,
}

/// Everything that is placed, and what the client was told of it.
#[derive(Clone, Default)]
struct State {
    table: Placed,
    offers: Offers,
    life: Life,
}

impl State {
    /// Where things are taken back from.
    fn removable(&mut self) -> &mut Placed {
        match &mut self.life {
            Life::Ending(placed) => placed,
            Life::Open | Life::Gone => &mut self.table,
        }
    }

    /// Whether the client may have mapped any of these bytes of a BAR.
    fn check_not_mapped(&self, bar: BarIndex, bytes: &Range<u64>) -> Result<(), MmioError> {
        if self.offers.cover(bar, bytes) {
            let offset = bytes.start;
            return Err(MmioError::Mapped { bar, offset });
        }
        Ok(())
    }

    fn offer(&self, bar: BarIndex) -> Option<Arc<Offer>> {
        let sections: Vec<_> = self.table.sections(bar).collect();
        let described: Vec<_> = sections
            .iter()
            .map(|placed| (placed.section, placed.file))
            .collect();
        let (size, reserved) = (self.table.bar_size(bar), self.table.reserved(bar));
        let choice = offer::choose(&described, size, reserved, MAX_SPARSE_AREAS)?;
        Some(Arc::new(Offer {
            file: Arc::clone(sections[choice.section].backing.file.as_ref()?),
            offset: choice.offset,
            areas: choice.areas,
        }))
    }
}

/// The handle through which a device places doorbells and sections into its BARs. Clones
/// act on the same function; usable from any thread, also inside a call into the device.
///
/// Everything placed here is released when the device is torn down. When a call that takes something back
/// returns, nothing is signalled or accessed through it any more.
#[derive(Clone)]
pub struct Mmio {
    shared: Arc<Shared>,
}

struct Shared {
    state: Published<State>,
    /// Of a host that may not have as many doorbells as it likes.
    allowance: OnceLock<Arc<Allowance>>,
}

impl Mmio {
    /// Nothing placed, and no BAR known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Published::new(State::default()),
                allowance: OnceLock::new(),
            }),
        }
    }

    /// From now on doorbells are taken from `allowance`.
    pub(crate) fn limit_doorbells(&self, allowance: &Arc<Allowance>) {
        self.shared.allowance.get_or_init(|| Arc::clone(allowance));
    }

    fn bell(&self, event: BorrowedFd<'_>) -> Result<Arc<Bell>, MmioError> {
        let allowance = self.shared.allowance.get();
        let permit = allowance.map(Allowance::take).transpose()?;
        Ok(Arc::new(Bell::new(event, permit)?))
    }

    /// Makes a change, unless the function is gone or going.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut State) -> Result<R, MmioError>,
    ) -> Result<R, MmioError> {
        self.change_until_gone(|state| match state.life {
            Life::Open => change(state),
            Life::Ending(_) | Life::Gone => Err(MmioError::Gone),
        })
    }

    /// Makes a change, unless the function is gone.
    fn change_until_gone<R>(
        &self,
        change: impl FnOnce(&mut State) -> Result<R, MmioError>,
    ) -> Result<R, MmioError> {
        self.shared.state.replace_helping(
            |state| {
                if matches!(state.life, Life::Gone) {
                    return Err(MmioError::Gone);
                }
                let mut next = state.clone();
                let result = change(&mut next)?;
                Ok((next, result))
            },
            |old| old.table.events().for_each(|bell| bell.relieve()),
        )
    }

    /// Registers a doorbell: a guest's write that it matches signals `event` and is discarded; the
    /// device is not called. `event`, an eventfd, is duplicated and otherwise left as it is. A client
    /// may be given it too.
    ///
    /// # Errors
    /// [`MmioError::Range`], [`MmioError::NotAnEvent`], [`MmioError::Descriptor`];
    /// [`MmioError::Taken`] for one that matches the same writes; [`MmioError::Mapped`] inside of what the
    /// client has mapped; [`MmioError::Limit`]; [`MmioError::Gone`].
    pub fn register_doorbell(
        &self,
        doorbell: Doorbell,
        event: BorrowedFd<'_>,
    ) -> Result<(), MmioError> {
        let doorbell = doorbell.normalized();
        self.change(|state| {
            state.table.add_doorbell(doorbell, self.bell(event)?)?;
            let Doorbell { bar, offset, .. } = doorbell;
            state.check_not_mapped(bar, &(offset..offset.saturating_add(1)))
        })
    }

    /// Takes a doorbell back. A client that was given its event
    /// ([`register_doorbell`](Self::register_doorbell)) may go on to signal that.
    ///
    /// # Errors
    /// [`MmioError::NotFound`], [`MmioError::Gone`].
    pub fn unregister_doorbell(&self, doorbell: &Doorbell) -> Result<(), MmioError> {
        self.change_until_gone(|state| state.removable().remove_doorbell(&doorbell.normalized()))
    }

    /// Registers a whole page of 4096 bytes, number `page` of the BAR: any write of any size to it that no
    /// [`Doorbell`] matches signals `event` and is discarded.
    ///
    /// # Errors
    /// As [`register_doorbell`](Self::register_doorbell).
    pub fn register_doorbell_page(
        &self,
        bar: BarIndex,
        page: u64,
        event: BorrowedFd<'_>,
    ) -> Result<(), MmioError> {
        self.change(|state| {
            state.table.add_page(bar, page, self.bell(event)?)?;
            let offset = table::offset_of(bar, page)?;
            state.check_not_mapped(bar, &(offset..offset.saturating_add(PAGE_SIZE)))
        })
    }

    /// Takes a doorbell page back.
    ///
    /// # Errors
    /// [`MmioError::NotFound`], [`MmioError::Gone`].
    pub fn unregister_doorbell_page(&self, bar: BarIndex, page: u64) -> Result<(), MmioError> {
        self.change_until_gone(|state| state.removable().remove_page(bar, page))
    }

    /// Backs a range of a BAR with a range of `file`, which is mapped, and duplicated if need be: guest
    /// accesses go there and do not reach the device. The same section of the same file
    /// again changes nothing.
    ///
    /// A section that is writeable, not [`SectionFlags::NEVER_OFFERED`], and placed before the client
    /// asks for it may be mapped by the client, which gets the whole file for that. Seal its size
    /// (`F_SEAL_SHRINK`): a client that truncates it would end this process where that has mapped the
    /// file itself; the mapping made here survives.
    ///
    /// # Errors
    /// [`MmioError::Range`], [`MmioError::File`]; [`MmioError::Taken`] when another section
    /// overlaps; [`MmioError::Gone`].
    pub fn create_section(&self, section: Section, file: BorrowedFd<'_>) -> Result<(), MmioError> {
        self.change(|state| {
            // A range that is wrong is told before what is wrong with the file.
            state.table.check_section(&section)?;
            let (id, backing) = Backing::new(&section, file).map_err(MmioError::File)?;
            state.table.add_section(section, id, Arc::new(backing))
        })
    }

    /// Takes the section that begins at `offset` of the BAR, in bytes, back.
    ///
    /// # Errors
    /// [`MmioError::NotFound`]; [`MmioError::Mapped`] when the client may have mapped some of it;
    /// [`MmioError::Gone`].
    pub fn destroy_section(&self, bar: BarIndex, offset: u64) -> Result<(), MmioError> {
        self.change_until_gone(|state| {
            let bytes = state.removable().section_at(bar, offset)?.bytes();
            state.check_not_mapped(bar, &bytes)?;
            state.removable().remove_section(bar, offset)
        })
    }

    /// Says how large the BARs are, in bytes, and where interrupt tables lie, whose pages are never offered to a
    /// client and whose bytes no section answers. Known from power-on; what was placed before
    /// and does not fit is never reached.
    pub fn set_layout(
        &self,
        bar_sizes: [u64; BarIndex::ALL.len()],
        tables: Vec<(BarIndex, Range<u64>)>,
    ) {
        // One that is gone needs no layout.
        let _ = self.change(|state| {
            state.table.set_layout(bar_sizes, tables);
            Ok(())
        });
    }

    /// Whether nothing at all is placed: the answer of most functions, without a search.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.state.read().table.is_empty()
    }

    /// Answers a read from a section, unless an interrupt table is there; false if there is none.
    pub(crate) fn read(&self, access: BarAccess, data: &mut [u8]) -> bool {
        let state = self.shared.state.read();
        let Some(placed) = state.table.section(access) else {
            return false;
        };
        !state.table.meets_interrupt_table(access)
            && placed
                .backing
                .read(access.offset - placed.section.offset, data)
    }

    /// Carries out a write that a doorbell or a section takes, interrupt tables excepted from the
    /// latter; false if none does.
    pub(crate) fn write(&self, access: BarAccess, data: &[u8]) -> bool {
        let state = self.shared.state.read();
        if let Some(bell) = state.table.rung(access, access::value_of(data)) {
            bell.ring();
            return true;
        }
        let Some(placed) = state.table.section(access) else {
            return false;
        };
        if state.table.meets_interrupt_table(access) {
            return false;
        }
        if placed.section.flags.contains(SectionFlags::WRITEABLE) {
            placed
                .backing
                .write(access.offset - placed.section.offset, data);
        }
        true
    }

    /// As [`Mmio::read`], interrupt tables included: for a function whose device keeps them in a section.
    pub(crate) fn read_section(&self, access: BarAccess, data: &mut [u8]) -> bool {
        let state = self.shared.state.read();
        state.table.section(access).is_some_and(|placed| {
            placed
                .backing
                .read(access.offset - placed.section.offset, data)
        })
    }

    /// Writes a section, interrupt tables included and whatever the guest may write: for the host's own
    /// writes to an interrupt table. False if there is none, or its file cannot be written.
    pub(crate) fn write_section(&self, access: BarAccess, data: &[u8]) -> bool {
        let state = self.shared.state.read();
        state.table.section(access).is_some_and(|placed| {
            placed
                .backing
                .write(access.offset - placed.section.offset, data)
        })
    }

    /// What this client may map of a BAR. Once asked, the answer holds until
    /// [`Mmio::client_left`], and what it names counts as mapped.
    pub(crate) fn offer(&self, bar: BarIndex) -> Option<Arc<Offer>> {
        let given = self.shared.state.read().offers.given(bar);
        given.unwrap_or_else(|| {
            let offered = self.change(|state| {
                let offer = state.offer(bar);
                Ok(state.offers.give(bar, offer))
            });
            // A stub has nothing to map.
            offered.unwrap_or_default()
        })
    }

    /// Doorbells of a BAR that a client may signal itself: those that it can tell from the others at their
    /// offset, and whose value, if they have one, has a size.
    pub(crate) fn offered_doorbells(&self, bar: BarIndex) -> Vec<OfferedDoorbell> {
        let state = self.shared.state.read();
        let size = state.table.bar_size(bar);
        let all: Vec<_> = state.table.doorbells(bar).collect();
        all.chunk_by(|(one, _), (other, _)| one.offset == other.offset)
            .filter(|here| match here {
                [(only, _)] => only.size.is_some() || only.value.is_none(),
                several => several.iter().all(|(doorbell, _)| doorbell.is_exact()),
            })
            .flatten()
            .filter(|(doorbell, _)| doorbell.offset < size)
            .map(|(doorbell, bell)| OfferedDoorbell {
                doorbell: *doorbell,
                event: bell.give(),
            })
            .collect()
    }

    /// The client is gone and has nothing mapped any more.
    pub(crate) fn client_left(&self) {
        // One that is gone has offered nothing.
        let _ = self.change(|state| {
            state.offers = Offers::default();
            Ok(())
        });
    }

    /// The function is about to be torn down: nothing answers a guest any more, and nothing new comes.
    pub(crate) fn end(&self) {
        // A second time there is nothing left to do.
        let _ = self.change(|state| {
            let placed = std::mem::take(&mut state.table);
            *state = State {
                life: Life::Ending(placed),
                ..State::default()
            };
            Ok(())
        });
    }

    /// The function has been torn down: releases everything and refuses everything.
    pub(crate) fn close(&self) {
        // A second time there is nothing left to do.
        let _ = self.change_until_gone(|state| {
            *state = State {
                life: Life::Gone,
                ..State::default()
            };
            Ok(())
        });
    }
}

impl Default for Mmio {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Mmio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmio").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

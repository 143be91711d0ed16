//! Guest memory that is another's: what a function behind a bus of ours sees of the memory of the device
//! that carries the bus.
//!
//! A follower has no regions of its own: each access is one of the memory that it follows, the *leader*,
//! while the follower's own guard says that it still follows. So a leader that unmaps waits for the copies
//! of its followers as for its own, and a follower that is closed waits for its own copies only.
//!
//! A follower can be barred from its leader's memory, and let in again: a function that may not send requests, say.
//!
//! Apertures stay with the memory that they were made of. A leader keeps its followers, not the other way
//! round alone, so that theirs are changed with its own. Upkeeps are locked from the leader down.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use hdv_vfio_user::backend::DmaFlags;
use rustix::io::Errno;

use super::files::{Files, Source};
use super::map::{Backing, Region, RegionMap};
use super::watch::Watched;
use super::{GuestMemory, Shared};

/// What is guest memory.
#[derive(Debug)]
pub(super) enum View {
    /// What a transport mapped.
    Own(RegionMap),
    /// What is another's.
    Of(GuestMemory),
    /// Nothing: what is another's, which it is barred from.
    Barred(RegionMap),
}

/// What only changes of the map and apertures need, never an access. Locked before the map is changed and
/// until apertures have followed.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    pub(super) files: Files,
    /// Made of this memory, not of that of a follower.
    pub(super) apertures: Watched,
    followers: Vec<Weak<Shared>>,
    /// It has nothing of its leader's memory, once it has a leader.
    barred: bool,
    /// The function is gone: nothing is mapped any more.
    pub(super) closed: bool,
}

impl Default for View {
    fn default() -> Self {
        Self::Own(RegionMap::default())
    }
}

impl Upkeep {
    /// What a follower of `leader` sees.
    pub(super) fn of(&self, leader: &GuestMemory) -> View {
        if self.barred {
            View::Barred(RegionMap::barred())
        } else {
            View::Of(leader.clone())
        }
    }

    fn each_follower(&mut self, mut visit: impl FnMut(&mut Self)) {
        self.followers.retain(|follower| {
            let Some(follower) = follower.upgrade() else {
                return false;
            };
            let mut upkeep = follower.upkeep();
            if !upkeep.closed {
                visit(&mut upkeep);
            }
            !upkeep.closed
        });
    }

    /// Whether there is any aperture.
    fn is_watched(&self) -> bool {
        !self.apertures.is_empty() || self.any_follower(Self::is_watched)
    }

    /// Whether there is an aperture of some of `start..=last`.
    fn watches(&self, start: u64, last: u64) -> bool {
        self.apertures.meets(start, last) || self.any_follower(|one| one.watches(start, last))
    }

    fn any_follower(&self, is_so: impl Fn(&Self) -> bool) -> bool {
        let mut followers = self.followers.iter().filter_map(Weak::upgrade);
        followers.any(|follower| is_so(&follower.upkeep()))
    }

    /// As [`Watched::take`], in all apertures.
    pub(super) fn take(&mut self, start: u64, last: u64) -> Result<(), Errno> {
        // All of them, also after the first error.
        let mut taken = self.apertures.take(start, last);
        self.each_follower(|follower| taken = taken.and(follower.take(start, last)));
        taken
    }

    /// As [`Watched::give`], in all apertures.
    pub(super) fn give(&mut self, start: u64, last: u64, rights: DmaFlags, source: &Source) {
        self.apertures.give(start, last, rights, source);
        self.each_follower(|follower| {
            if !follower.barred {
                follower.give(start, last, rights, source);
            }
        });
    }

    /// As [`Watched::forget`], in all apertures.
    pub(super) fn forget(&mut self) {
        self.apertures.forget();
        self.each_follower(Self::forget);
    }
}

/// Locked upkeeps: while there is one, what the memory sees does not change.
pub(super) struct Settled<'a> {
    pub(super) own: MutexGuard<'a, Upkeep>,
    /// Unlocked after `own`.
    _leaders: Option<Box<Settled<'a>>>,
}

impl Shared {
    pub(super) fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuestMemory {
    /// From now on this is the memory of `leader`, for all clones: what that maps and unmaps, its messages, its
    /// loss. What was mapped here is forgotten. Only [`GuestMemory::close`] ends it; ignored after that.
    ///
    /// # Errors
    /// `EBUSY` when it follows another already, `ELOOP` when `leader` follows this one.
    pub(crate) fn follow(&self, leader: &Self) -> Result<(), Errno> {
        let mut above = Some(leader);
        while let Some(one) = above {
            if Arc::ptr_eq(&one.shared, &self.shared) {
                return Err(Errno::LOOP);
            }
            above = one.shared.leader.get();
        }
        let mut leaders = leader.upkeep();
        let mut upkeep = self.upkeep();
        if upkeep.closed {
            return Ok(());
        }
        let followed = self.shared.leader.get_or_init(|| leader.clone());
        if !Arc::ptr_eq(&followed.shared, &leader.shared) {
            return Err(Errno::BUSY);
        }
        let view = upkeep.of(leader);
        self.become_empty(&mut upkeep, view);
        drop(upkeep);
        // So that those that are gone do not pile up.
        leaders.each_follower(|_| {});
        let shared = Arc::downgrade(&self.shared);
        if !leaders.followers.iter().any(|one| one.ptr_eq(&shared)) {
            leaders.followers.push(shared);
        }
        Ok(())
    }

    /// Bars this memory from that of the leader that it follows, or will follow, or lets it in again. When it is barred, no access
    /// is in flight and no aperture shows any of it; those show it again when it is let in.
    pub(crate) fn set_barred(&self, barred: bool) {
        // Mostly nothing is to be done, and locking all of them is not free.
        if self.upkeep().barred == barred {
            return;
        }
        let mut settled = self.settled();
        let upkeep = &mut *settled.own;
        if upkeep.closed || upkeep.barred == barred {
            return;
        }
        upkeep.barred = barred;
        let Some(leader) = self.shared.leader.get() else {
            return;
        };
        let view = upkeep.of(leader);
        self.unmap_everything(upkeep, view);
        if !barred {
            for region in self.watched_regions(upkeep) {
                if let Backing::Mapped(backed) = &region.backing
                    && let Some(source) = &backed.source
                {
                    upkeep.give(region.start, region.last, region.flags, source);
                }
            }
        }
    }

    /// The regions of which there are apertures, copied: nobody should wait for the map's guard while those are mapped.
    fn watched_regions(&self, upkeep: &Upkeep) -> Vec<Region> {
        if !upkeep.is_watched() {
            return Vec::new();
        }
        self.with_map(|_, map| {
            let regions = map.regions().iter();
            let watched = regions.filter(|region| upkeep.watches(region.start, region.last));
            watched.cloned().collect()
        })
    }

    /// Looks at the regions, and at the memory whose they are. A leader's are there as long as the look
    /// lasts, even if this memory is closed meanwhile: that waits.
    #[inline]
    pub(super) fn with_map<R>(&self, look: impl FnOnce(&Self, &RegionMap) -> R) -> R {
        let view = self.shared.view.read();
        match &*view {
            View::Own(map) | View::Barred(map) => look(self, map),
            View::Of(leader) => leader.with_leaders_map(look),
        }
    }

    /// [`GuestMemory::with_map`], apart from the code of those that follow nobody.
    #[inline(never)]
    fn with_leaders_map<R>(&self, look: impl FnOnce(&Self, &RegionMap) -> R) -> R {
        self.with_map(look)
    }

    /// Locks whatever a change of this memory needs.
    pub(super) fn settled(&self) -> Settled<'_> {
        loop {
            let leader = self.shared.leader.get();
            let leaders = leader.map(|leader| Box::new(leader.settled()));
            let own = self.upkeep();
            if leader.is_some() || self.shared.leader.get().is_none() {
                return Settled {
                    own,
                    _leaders: leaders,
                };
            }
            // It has begun to follow in between.
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

//! Handles: numbers that look like pointers and are none, so that a wrong one can be told.
//!
//! A handle names a kind, a place in that kind's table, and the generation of the place: one that
//! was removed, or is of another kind, or was never ours, finds nothing. Finding takes no lock.

use std::ffi::c_void;
use std::sync::{Arc, LazyLock};

use sharded_slab::{Config, Entry, Slab};

use crate::error::{Failure, codes};

/// Bits of a handle that name its kind.
const KIND_BITS: usize = 8;

/// Leaves room for the kind, and all that can be spared for the generation: what the number of threads
/// and of places does not need.
pub(crate) struct Layout;

impl Config for Layout {
    const RESERVED_BITS: usize = KIND_BITS;
    /// As many as the registry of threads has, which other users of the crate share.
    const MAX_THREADS: usize = 4096;
    /// Each twice as large as the one before: 131,040 live handles for each thread that makes some. This
    /// leaves 25 bits for the generation; the 32 pages of the default would leave five, and a stale
    /// handle be somebody else's after its place was used 32 times.
    const MAX_PAGES: usize = 12;
    const INITIAL_PAGE_SIZE: usize = 32;
}

/// What a handle is for. Not 0, so that no handle is null; and no address of a process's own memory
/// begins so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    System = 0xc5,
    Host = 0xc6,
    Device = 0xc7,
    Interface = 0xc8,
    Operation = 0xc9,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::System => "compute system",
            Self::Host => "device host",
            Self::Device => "device",
            Self::Interface => "PCI_VIRTUALIZATION_INTERFACE",
            Self::Operation => "operation",
        }
    }

    const fn tag(self) -> usize {
        (self as usize) << (usize::BITS as usize - KIND_BITS)
    }
}

/// The live handles of one kind.
pub(crate) struct Table<T: 'static> {
    kind: Kind,
    slab: LazyLock<Slab<Arc<T>, Layout>>,
}

/// What a handle names, held while it is used.
pub(crate) type Found<'a, T> = Entry<'a, Arc<T>, Layout>;

impl<T> Table<T> {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            slab: LazyLock::new(Slab::new_with_config),
        }
    }

    /// Makes a handle.
    pub(crate) fn insert(&self, value: Arc<T>) -> Result<*mut c_void, Failure> {
        let key = self.slab.insert(value).ok_or_else(|| {
            Failure::new(
                codes::E_OUTOFMEMORY,
                format!("there are too many {} handles", self.kind.name()),
            )
        })?;
        Ok(std::ptr::without_provenance_mut(key | self.kind.tag()))
    }

    /// What a handle names.
    pub(crate) fn get(&self, handle: *mut c_void) -> Result<Found<'_, T>, Failure> {
        self.key(handle)
            .and_then(|key| self.slab.get(key))
            .ok_or_else(|| self.unknown(handle))
    }

    /// As [`Table::get`], without the handle kept in use: for calls that wait or call out.
    pub(crate) fn share(&self, handle: *mut c_void) -> Result<Arc<T>, Failure> {
        self.get(handle).map(|found| Arc::clone(&found))
    }

    /// Ends a handle; calls that have found it go on.
    pub(crate) fn remove(&self, handle: *mut c_void) {
        if let Some(key) = self.key(handle) {
            self.slab.remove(key);
        }
    }

    fn key(&self, handle: *mut c_void) -> Option<usize> {
        const TAG: usize = 0xff << (usize::BITS as usize - KIND_BITS);
        (handle.addr() & TAG == self.kind.tag()).then_some(handle.addr() & !TAG)
    }

    fn unknown(&self, handle: *mut c_void) -> Failure {
        Failure::new(
            codes::E_HANDLE,
            format!(
                "{handle:p} is not the handle of a {}, or of one that is gone",
                self.kind.name()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_handle_comes_again_soon() {
        const ROUNDS: usize = 100_000;
        static TABLE: Table<usize> = Table::new(Kind::Device);
        let mut seen = HashSet::new();
        for round in 0..ROUNDS {
            let handle = TABLE.insert(Arc::new(round)).unwrap();
            assert!(seen.insert(handle.addr()), "{handle:p} in round {round}");
            assert_eq!(*TABLE.share(handle).unwrap(), round);
            TABLE.remove(handle);
            assert_eq!(TABLE.share(handle).unwrap_err().code, codes::E_HANDLE);
        }
    }
}

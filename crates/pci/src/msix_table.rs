//! The MSI-X table in BAR memory (PCI Express Base Specification 7.7.2, 6.1.4): entries and how
//! software reads and writes them. Who delivers the messages is elsewhere.

use std::ops::Range;

use crate::spec::msix;

/// 32-bit words of an entry.
const WORDS: usize = 4;
/// Bytes of an entry, as an index.
const ENTRY: usize = 4 * WORDS;
const _: () = assert!(ENTRY as u64 == msix::ENTRY_SIZE);

/// The table: a message and a mask bit for every vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsixTable {
    entries: Box<[[u32; WORDS]]>,
}

/// One vector's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MsixEntry {
    /// Message address, a multiple of 4.
    pub address: u64,
    /// Message data.
    pub data: u32,
    /// The vector may not fire.
    pub masked: bool,
}

/// An entry after reset: all zeros and masked.
const RESET: [u32; WORDS] = [0, 0, 0, msix::ENTRY_CONTROL_MASK];

/// The bits of an entry that software can write.
const WRITABLE: [u32; WORDS] = [
    msix::ADDRESS_MASK,
    u32::MAX,
    u32::MAX,
    msix::ENTRY_CONTROL_MASK,
];

impl MsixTable {
    /// A table of `vectors` entries, all masked; the standard has at most 2048.
    #[must_use]
    pub fn new(vectors: u16) -> Self {
        Self {
            entries: vec![RESET; usize::from(vectors)].into_boxed_slice(),
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        u16::try_from(self.entries.len()).unwrap_or(u16::MAX)
    }

    /// Fills `data` from `offset`, in bytes from the start of the table. Any length and
    /// alignment; beyond the table reads 0.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let Ok(mut at) = usize::try_from(offset) else {
            data.fill(0);
            return;
        };
        let mut rest = data;
        while !rest.is_empty() {
            let lane = at % 4;
            let length = rest.len().min(4 - lane);
            let word = self
                .entries
                .get(at / ENTRY)
                .map_or(0, |entry| entry[at % ENTRY / 4]);
            let (chunk, tail) = rest.split_at_mut(length);
            chunk.copy_from_slice(&word.to_le_bytes()[lane..lane + length]);
            at = at.saturating_add(length);
            rest = tail;
        }
    }

    /// Software writes `data` at `offset`, in bytes from the start of the table. Any length and
    /// alignment; beyond the table is ignored.
    ///
    /// Returns the vectors from the first to the last whose entry changed; empty if none did.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Range<u16> {
        let mut changed = 0..0;
        let Ok(mut at) = usize::try_from(offset) else {
            return changed;
        };
        let mut rest = data;
        while let (false, Some(entry)) = (rest.is_empty(), self.entries.get_mut(at / ENTRY)) {
            let lane = at % 4;
            let length = rest.len().min(4 - lane);
            let (chunk, tail) = rest.split_at(length);
            let index = at % ENTRY / 4;
            let mut bytes = entry[index].to_le_bytes();
            bytes[lane..lane + length].copy_from_slice(chunk);
            let word = u32::from_le_bytes(bytes) & WRITABLE[index];
            if word != entry[index] {
                entry[index] = word;
                let vector = u16::try_from(at / ENTRY).unwrap_or(u16::MAX);
                let start = if changed.is_empty() {
                    vector
                } else {
                    changed.start
                };
                changed = start..vector.saturating_add(1);
            }
            at += length;
            rest = tail;
        }
        changed
    }

    /// A vector's entry; `None` beyond the table.
    #[must_use]
    pub fn entry(&self, vector: u16) -> Option<MsixEntry> {
        let [low, high, data, control] = *self.entries.get(usize::from(vector))?;
        Some(MsixEntry {
            address: u64::from(high) << 32 | u64::from(low),
            data,
            masked: control & msix::ENTRY_CONTROL_MASK != 0,
        })
    }

    /// Sets a vector's entry, as software would. Returns whether the table has that vector.
    pub fn set_entry(&mut self, vector: u16, entry: MsixEntry) -> bool {
        let Some(words) = self.entries.get_mut(usize::from(vector)) else {
            return false;
        };
        let address = entry.address.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = address;
        *words = [
            u32::from_le_bytes([a, b, c, d]) & msix::ADDRESS_MASK,
            u32::from_le_bytes([e, f, g, h]),
            entry.data,
            if entry.masked {
                msix::ENTRY_CONTROL_MASK
            } else {
                0
            },
        ];
        true
    }

    /// All entries are 0 and masked, as after a reset.
    pub fn reset(&mut self) {
        self.entries.fill(RESET);
    }
}

//! The capability lists as the guest sees them: pointer and headers are the host's, and lead through
//! what is well-formed only.

use hdv_pci::spec::{CONFIG_SPACE_SIZE, extended};

use super::capabilities::{Capabilities, Entry};

/// Identifier and next pointer of a standard capability.
const STANDARD_HEADER: u32 = 0xffff;

/// Part of a dword that the host shows.
#[derive(Clone, Copy, Debug)]
struct Shown {
    offset: u16,
    mask: u32,
    value: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Links {
    pointer: u8,
    /// Sorted by offset.
    headers: Vec<Shown>,
}

impl Links {
    pub(super) fn new(capabilities: &Capabilities) -> Self {
        let standard = &capabilities.standard;
        let pointer = standard.first().map_or(0, |first| first.offset);
        let mut headers: Vec<_> = with_next(standard)
            .map(|(entry, next)| Shown {
                offset: entry.offset,
                mask: STANDARD_HEADER,
                value: u32::from(entry.id) | u32::from(next) << 8,
            })
            .collect();
        let extended = &capabilities.extended;
        let first = extended.first().map_or(0, |first| first.offset);
        if first != extended::FIRST {
            // The list begins there whatever it holds: the standard's header of nothing.
            headers.push(Shown {
                offset: extended::FIRST,
                mask: u32::MAX,
                value: u32::from(first) << extended::NEXT_SHIFT,
            });
        }
        headers.extend(with_next(extended).map(|(entry, next)| Shown {
            offset: entry.offset,
            mask: u32::MAX,
            value: u32::from(entry.id)
                | u32::from(entry.version) << extended::VERSION_SHIFT
                | u32::from(next) << extended::NEXT_SHIFT,
        }));
        headers.sort_by_key(|shown| shown.offset);
        debug_assert!(headers.iter().all(|shown| shown.offset < CONFIG_SPACE_SIZE));
        Self {
            pointer: pointer.to_le_bytes()[0],
            headers,
        }
    }

    /// Offset of the first standard capability; 0 if there is none.
    pub(super) fn pointer(&self) -> u8 {
        self.pointer
    }

    /// What the guest reads at `offset` where the device reads `dword`.
    pub(super) fn show(&self, offset: u16, dword: u32) -> u32 {
        match self
            .headers
            .binary_search_by_key(&offset, |shown| shown.offset)
        {
            Ok(found) => {
                let shown = self.headers[found];
                dword & !shown.mask | shown.value
            }
            Err(_) => dword,
        }
    }
}

/// Each entry with the offset of the next, 0 for the last.
fn with_next(entries: &[Entry]) -> impl Iterator<Item = (Entry, u16)> + '_ {
    let nexts = entries.iter().skip(1).map(|next| next.offset);
    entries.iter().copied().zip(nexts.chain([0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u16, id: u16, version: u8) -> Entry {
        Entry {
            offset,
            id,
            version,
            length: 4,
        }
    }

    #[test]
    fn headers_lead_from_entry_to_entry() {
        let links = Links::new(&Capabilities {
            standard: vec![entry(0x80, 0x11, 0), entry(0x40, 0x09, 0)],
            extended: vec![entry(0x100, 3, 1), entry(0x200, 0xb, 2)],
        });
        assert_eq!(links.pointer(), 0x80);
        assert_eq!(links.show(0x80, 0xabcd_ffff), 0xabcd_4011);
        assert_eq!(links.show(0x40, 0), 0x0009);
        assert_eq!(links.show(0x44, 0x1234_5678), 0x1234_5678);
        assert_eq!(links.show(0x100, u32::MAX), 0x2001_0003);
        assert_eq!(links.show(0x200, 0), 0x0002_000b);
    }

    #[test]
    fn without_entries_there_is_no_list() {
        let links = Links::new(&Capabilities::default());
        assert_eq!(links.pointer(), 0);
        assert_eq!(links.show(0x100, u32::MAX), 0);
        let later = Links::new(&Capabilities {
            standard: vec![],
            extended: vec![entry(0x180, 3, 1)],
        });
        assert_eq!(later.show(0x100, 0xffff_0007), 0x1800_0000);
        assert_eq!(later.show(0x180, 0), 0x0001_0003);
    }
}

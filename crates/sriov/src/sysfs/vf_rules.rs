//! What a VF's own config space reads as by the SR-IOV rules (9.3.4), whatever a device shows there.

use hdv::pci::spec::header::{
    BAR0, COMMAND, Command, EXPANSION_ROM, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};

/// BARs end where the `CardBus` CIS pointer begins.
const BARS_END: u16 = BAR0 + 24;

/// Makes `data`, which a VF's config space reads from `offset` on, follow the rules: vendor and device id all ones; BARs, I/O
/// Space and Memory Space 0.
pub(super) fn apply(offset: u16, data: &mut [u8]) {
    const SPACES: u8 = Command::IO_SPACE
        .union(Command::MEMORY_SPACE)
        .bits()
        .to_le_bytes()[0];
    const _: () = assert!(BARS_END < SUBSYSTEM_VENDOR_ID);
    for (at, byte) in (offset..).zip(data) {
        match at {
            VENDOR_ID..COMMAND => *byte = 0xff,
            COMMAND => *byte &= !SPACES,
            BAR0..BARS_END => *byte = 0,
            _ if (EXPANSION_ROM..EXPANSION_ROM + 4).contains(&at) => *byte = 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_hold_from_wherever_one_reads() {
        let complete: Vec<u8> = (0x40..0x80).collect();
        let mut whole = complete.clone();
        apply(0, &mut whole);
        assert_eq!(whole[..4], [0xff; 4]);
        assert_eq!(whole[4..6], [0x44, 0x45]);
        assert_eq!(whole[0x10..0x28], [0; 24]);
        assert_eq!(whole[0x28..0x30], complete[0x28..0x30]);
        assert_eq!(whole[0x30..0x34], [0; 4]);
        assert_eq!(whole[0x34..], complete[0x34..]);
        for start in 0_u16..64 {
            for end in start..64 {
                let range = usize::from(start)..usize::from(end);
                let mut part = complete[range.clone()].to_vec();
                apply(start, &mut part);
                assert_eq!(part, whole[range]);
            }
        }
        let mut command = [0xff];
        apply(4, &mut command);
        assert_eq!(command, [0xfc]);
    }
}

//! The MSI-X table against a model that is a plain array of bytes.

use hdv_pci::{MsixEntry, MsixTable};
use proptest::collection::vec;
use proptest::prelude::*;

/// Which bits of the byte at `at` software can write.
fn writable(at: usize) -> u8 {
    match at % 16 {
        0 => 0xfc,
        12 => 0x01,
        13..=15 => 0,
        _ => 0xff,
    }
}

fn after_reset(vectors: u16) -> Vec<u8> {
    (0..usize::from(vectors) * 16)
        .map(|at| u8::from(at % 16 == 12))
        .collect()
}

proptest! {
    #[test]
    fn writes_do_what_they_do_to_bytes(
        vectors in 1_u16..20,
        writes in vec((0_u64..400, vec(any::<u8>(), 0..40)), 0..40),
    ) {
        let mut table = MsixTable::new(vectors);
        let mut model = after_reset(vectors);
        for (offset, data) in &writes {
            let before = model.clone();
            let start = usize::try_from(*offset).unwrap();
            for (at, byte) in (start..model.len()).zip(data) {
                model[at] = byte & writable(at);
            }
            let changed: Vec<u16> = (0..vectors)
                .filter(|&vector| {
                    let entry = usize::from(vector) * 16..usize::from(vector) * 16 + 16;
                    before[entry.clone()] != model[entry]
                })
                .collect();
            let range = table.write(*offset, data);
            match (changed.first(), changed.last()) {
                (Some(&first), Some(&last)) => prop_assert_eq!(range, first..last + 1),
                _ => prop_assert!(range.is_empty()),
            }
            let mut bytes = vec![0xee; model.len() + 24];
            table.read(0, &mut bytes);
            prop_assert_eq!(&bytes[..model.len()], &model[..]);
            prop_assert!(bytes[model.len()..].iter().all(|byte| *byte == 0));
            let mut part = vec![0xee; data.len()];
            table.read(*offset, &mut part);
            let expected: Vec<u8> =
                (start..start + data.len()).map(|at| model.get(at).copied().unwrap_or(0)).collect();
            prop_assert_eq!(part, expected);
        }
        for vector in 0..vectors {
            let at = usize::from(vector) * 16;
            let entry = table.entry(vector).unwrap();
            prop_assert_eq!(&entry.address.to_le_bytes()[..], &model[at..at + 8]);
            prop_assert_eq!(&entry.data.to_le_bytes()[..], &model[at + 8..at + 12]);
            prop_assert_eq!(entry.masked, model[at + 12] == 1);
        }
        table.reset();
        prop_assert_eq!(table, MsixTable::new(vectors));
    }

    #[test]
    fn an_entry_comes_back_as_it_was_set(vector in 0_u16..3, address: u64, data: u32, masked: bool) {
        let mut table = MsixTable::new(3);
        let entry = MsixEntry { address: address & !3, data, masked };
        let known = table.set_entry(vector, MsixEntry { address, ..entry });
        prop_assert!(known);
        prop_assert_eq!(table.entry(vector), Some(entry));
        for other in (0..3).filter(|other| *other != vector) {
            prop_assert_eq!(table.entry(other), Some(MsixEntry { address: 0, data: 0, masked: true }));
        }
    }
}

#[test]
fn outside_the_table_there_is_nothing() {
    let mut table = MsixTable::new(2);
    assert_eq!(table.vectors(), 2);
    assert_eq!(table.entry(2), None);
    assert!(!table.set_entry(2, MsixEntry::default()));
    assert!(table.write(u64::MAX, &[0xff; 16]).is_empty());
    assert!(table.write(32, &[0xff; 16]).is_empty());
    let mut bytes = [0xee; 4];
    table.read(u64::MAX - 1, &mut bytes);
    assert_eq!(bytes, [0; 4]);
    assert_eq!(table, MsixTable::new(2));
}

#[test]
fn one_write_may_touch_many_entries() {
    let mut table = MsixTable::new(8);
    assert_eq!(table.write(3 * 16 + 12, &[0; 16 * 3]), 3..6);
    assert_eq!(table.write(3 * 16 + 12, &[0; 16 * 3]).len(), 0);
    assert_eq!(table.write(5 * 16 + 12, &[1]), 5..6);
}

//! What the `resource` file of a function says of BARs, and what probing VF BARs would have read.

use hdv::pci::spec::header::{BAR_PREFETCHABLE, BAR_SIZE_MIN, BAR_TYPE_64, BAR_TYPE_MASK};

/// BARs of a function.
const BARS: usize = 6;
/// The row of VF BAR0: behind six BARs and the expansion ROM.
const VF_ROW: usize = 7;
/// Memory, as opposed to I/O (Linux, `IORESOURCE_MEM`).
const MEMORY: u64 = 0x200;
/// Prefetchable memory (Linux, `IORESOURCE_PREFETCH`).
const PREFETCHABLE: u64 = 0x2000;
/// Memory with an address of 64 bits (Linux, `IORESOURCE_MEM_64`).
const MEMORY_64: u64 = 0x10_0000;
/// It has a size but no address (Linux, `IORESOURCE_UNSET`).
const UNSET: u64 = 0x2000_0000;

/// A row: a range of addresses, its end in it, and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    start: u64,
    end: u64,
    flags: u64,
}

impl Resource {
    /// It stands for a BAR.
    fn is_bar(self) -> bool {
        self.flags & MEMORY != 0
    }

    /// Bytes of the range.
    fn size(self) -> Option<u64> {
        self.end.checked_sub(self.start)?.checked_add(1)
    }

    /// What a BAR of `size` bytes reads after all ones were written: the low and the high register, if it has one.
    fn probed(self, size: u64) -> Option<(u32, Option<u32>)> {
        if !size.is_power_of_two() || size < BAR_SIZE_MIN {
            return None;
        }
        let mask = !(size - 1);
        let prefetchable = if self.flags & PREFETCHABLE != 0 {
            BAR_PREFETCHABLE
        } else {
            0
        };
        if self.flags & MEMORY_64 == 0 {
            let low = u32::try_from(mask & u64::from(u32::MAX)).ok()?;
            return (low != 0).then_some((low | prefetchable, None));
        }
        let low = u32::try_from(mask & u64::from(u32::MAX)).ok()?;
        let high = u32::try_from(mask >> 32).ok()?;
        Some((low | BAR_TYPE_64 | prefetchable, Some(high)))
    }
}

/// Reads a `resource` file: `None` if a row is none.
pub(super) fn parse(text: &str) -> Option<Vec<Resource>> {
    text.lines().map(row).collect()
}

fn row(line: &str) -> Option<Resource> {
    let mut numbers = line.split_ascii_whitespace().map(|number| {
        let digits = number.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    });
    let mut next = || numbers.next().flatten();
    let (start, end, flags) = (next()?, next()?, next()?);
    numbers
        .next()
        .is_none()
        .then_some(Resource { start, end, flags })
}

/// Why what VF BARs read is not known.
pub(super) type Unknown = String;

/// The VF BARs by the PF's rows, each of which is for all of `total_vfs`. `registers` are the VF BAR registers as they are:
/// the type bits of a BAR that Linux has given no addresses still stand there.
pub(super) fn of_pf(
    rows: &[Resource],
    registers: [u32; BARS],
    total_vfs: u16,
) -> Result<[u32; BARS], Unknown> {
    let each = |size: u64| {
        let total = u64::from(total_vfs);
        (total != 0 && size.is_multiple_of(total)).then(|| size / total)
    };
    let probed = probed(rows.get(VF_ROW..).unwrap_or_default(), each)?;
    let mut upper_half = false;
    for (index, (register, probed)) in registers.into_iter().zip(probed).enumerate() {
        let low = !std::mem::take(&mut upper_half);
        upper_half = low && register & BAR_TYPE_64 != 0;
        if low && register & BAR_TYPE_MASK != 0 && probed == 0 {
            return Err(format!(
                "VF BAR {index} is there but Linux gave it no addresses when it found the device, so that its size is not known"
            ));
        }
    }
    Ok(probed)
}

/// The VF BARs by the rows of a VF.
pub(super) fn of_vf(rows: &[Resource]) -> Result<[u32; BARS], Unknown> {
    probed(rows, Some)
}

fn probed(rows: &[Resource], each: impl Fn(u64) -> Option<u64>) -> Result<[u32; BARS], Unknown> {
    let mut probed = [0; BARS];
    for (index, row) in rows.iter().enumerate().take(BARS) {
        if !row.is_bar() {
            continue;
        }
        let values = row.size().and_then(&each).and_then(|size| row.probed(size));
        let Some((low, high)) = values else {
            return Err(format!("the size of VF BAR {index} cannot be: {row:x?}"));
        };
        probed[index] = low;
        if let Some(high) = high {
            let next = probed.get_mut(index + 1);
            *next.ok_or_else(|| format!("VF BAR {index} is the last, and has 64 bits"))? = high;
        }
    }
    Ok(probed)
}

/// Where the BARs of a function are; `None` for those it does not have and those without addresses.
pub(super) fn addresses(rows: &[Resource]) -> [Option<u64>; BARS] {
    let mut addresses = [None; BARS];
    for (address, row) in addresses.iter_mut().zip(rows) {
        *address = (row.is_bar() && row.flags & UNSET == 0).then_some(row.start);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    fn rows(text: &[&str]) -> Vec<Resource> {
        parse(&text.concat()).unwrap()
    }

    /// What QEMU's igb shows: two 64-bit VF BARs of 16 KiB for 8 VFs.
    fn igb() -> Vec<Resource> {
        let bar0 = "0x00000000fe800000 0x00000000fe81ffff 0x0000000000140204\n";
        let bar3 = "0x00000000fe820000 0x00000000fe83ffff 0x0000000000140204\n";
        let mut text = vec![NONE; VF_ROW];
        text.extend([bar0, NONE, NONE, bar3, NONE, NONE]);
        rows(&text)
    }

    #[test]
    fn the_rows_of_a_pf_are_divided_among_its_vfs() {
        let registers = [4, 0, 0, 4, 0, 0];
        let expected = [0xffff_c004, u32::MAX, 0, 0xffff_c004, u32::MAX, 0];
        assert_eq!(of_pf(&igb(), registers, 8), Ok(expected));
        assert!(
            of_pf(&igb(), registers, 7)
                .unwrap_err()
                .contains("VF BAR 0")
        );
        assert!(of_pf(&igb(), registers, 0).is_err());
    }

    #[test]
    fn a_bar_without_addresses_is_not_taken_for_none() {
        let none = rows(&[NONE; 13]);
        assert_eq!(of_pf(&none, [0; 6], 8), Ok([0; 6]));
        assert!(
            of_pf(&none, [0, 0, 0xc, 0, 0, 0], 8)
                .unwrap_err()
                .contains("VF BAR 2")
        );
        assert!(of_pf(&[], [4, 0, 0, 0, 0, 0], 8).is_err());
        // The upper half of an address has no type bits.
        assert!(of_pf(&igb(), [4, 0xf, 0, 4, 0xf, 0], 8).is_ok());
    }

    #[test]
    fn each_kind_of_bar_has_its_bits() {
        let rows = rows(&[
            "0x1000 0x1fff 0x200\n",
            "0x10000000 0x1fffffff 0x2208\n",
            "0x0 0x7fffffffff 0x14220c\n",
            NONE,
            "0x0 0xf 0x101\n",
            "0x0 0xf 0x20000200\n",
        ]);
        let expected = [0xffff_f000, 0xf000_0008, 0xc, 0xffff_ff80, 0, 0xffff_fff0];
        assert_eq!(of_vf(&rows), Ok(expected));
        let places = [Some(0x1000), Some(0x1000_0000), Some(0), None, None, None];
        assert_eq!(addresses(&rows), places);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for row in [
            "0x0 0x2fff 0x200",
            "0x0 0x7 0x200",
            "0x1 0x0 0x200",
            "0x2 0x0 0x200",
            "0x0 0xffffffffffffffff 0x100200",
            "0x0 0xffffffffffffffff 0x200",
            "0x0 0x1ffffffff 0x200",
        ] {
            assert!(of_vf(&rows(&[row])).is_err(), "{row}");
        }
        let last = [NONE, NONE, NONE, NONE, NONE, "0x0 0xfff 0x100200\n"];
        assert!(of_vf(&rows(&last)).unwrap_err().contains("VF BAR 5"));
    }

    #[test]
    fn rows_that_are_none_are_refused() {
        for text in [
            "x",
            "0x0 0x0",
            "0x0 0x0 0x0 0x0",
            "0 0 0",
            "0x0 0x0 0x1ffffffffffffffff",
            "\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(""), Some(Vec::new()));
    }
}

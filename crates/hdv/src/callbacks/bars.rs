//! The BARs that a device declares by what their registers read after all ones are written
//! (PCI Express Base Specification, 7.5.1.2.1).

use hdv_pci::{Bar, BarIndex, BarKind};

use super::invalid;
use crate::device::DeviceError;

/// Of a BAR register: it is an I/O BAR.
const IO: u32 = 1 << 0;
/// Of a memory BAR register: how wide the address is.
const WIDTH: u32 = 0b11 << 1;
/// The address has 64 bits, in this register and the next.
const WIDTH_64: u32 = 0b10 << 1;
/// Of a memory BAR register: reads have no side effects.
const PREFETCHABLE: u32 = 1 << 3;
/// The bits of a memory BAR register that are no address.
const TYPE: u32 = 0xf;

/// The BARs behind six probed registers.
///
/// # Errors
/// `E_INVALIDARG`, with the BAR and what was declared of it.
pub(super) fn declared(
    probed: [u32; BarIndex::ALL.len()],
) -> Result<Vec<(BarIndex, Bar)>, DeviceError> {
    let mut bars = Vec::new();
    let mut registers = BarIndex::ALL.into_iter().zip(probed);
    while let Some((index, low)) = registers.next() {
        if low == 0 {
            continue;
        }
        if low & IO != 0 {
            return Err(refused(index, low, "is an I/O BAR; use a memory BAR"));
        }
        let prefetchable = low & PREFETCHABLE != 0;
        let address = low & !TYPE;
        let (kind, size) = match low & WIDTH {
            0 => {
                // As wide as 64 bits, so that one rule serves both.
                let mask = u64::from(address) | u64::from(u32::MAX) << 32;
                (BarKind::Memory32, size_of(mask))
            }
            WIDTH_64 => {
                let Some((_, high)) = registers.next() else {
                    let why = "is a 64-bit BAR and needs the next register, which does not exist";
                    return Err(refused(index, low, why));
                };
                let mask = u64::from(high) << 32 | u64::from(address);
                if size_of(mask).is_none() {
                    let why = format!(
                        "is a 64-bit BAR and the next register is {high:#010x}: together they are \
                         no power of two of at least 16 bytes; below 4 GiB the next register is \
                         0xffffffff"
                    );
                    return Err(refused(index, low, &why));
                }
                (BarKind::Memory64, size_of(mask))
            }
            _ => {
                let why = "has a reserved type in bits 2:1; use 00 for 32 bits or 10 for 64";
                return Err(refused(index, low, why));
            }
        };
        let Some(size) = size.filter(|_| address != 0 || kind == BarKind::Memory64) else {
            let why = "is no power of two of at least 16 bytes: give what the register reads after \
                       all ones are written, as 0xfffff000 for 4096 bytes, or 0 for no BAR";
            return Err(refused(index, low, why));
        };
        bars.push((
            index,
            Bar {
                kind,
                prefetchable,
                size,
            },
        ));
    }
    Ok(bars)
}

/// The size of a BAR whose address bits that can be written are these: all from one on.
fn size_of(mask: u64) -> Option<u64> {
    let size = mask.wrapping_neg();
    size.is_power_of_two().then_some(size)
}

fn refused(index: BarIndex, value: u32, why: &str) -> DeviceError {
    invalid(format!("ProbedBars[{}] = {value:#010x} {why}", index.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(probed: [u32; 6]) -> Vec<(usize, Bar)> {
        declared(probed)
            .unwrap()
            .into_iter()
            .map(|(index, bar)| (index.get(), bar))
            .collect()
    }

    #[test]
    fn each_kind_of_memory_bar_is_understood() {
        assert_eq!(bars([0; 6]), []);
        assert_eq!(
            bars([
                0xffff_f000,
                0xffff_fff0,
                0xffff_000c,
                0xffff_ffff,
                0,
                0x8000_0008
            ]),
            [
                (0, Bar::memory32(4096)),
                (1, Bar::memory32(16)),
                (2, Bar::memory64(65536).prefetchable()),
                (5, Bar::memory32(1 << 31).prefetchable()),
            ]
        );
        assert_eq!(
            bars([4, 0xffff_fff0, 4, 0x8000_0000, 0xc000_0004, 0xffff_ffff]),
            [
                (0, Bar::memory64(16 << 32)),
                (2, Bar::memory64(1 << 63)),
                (4, Bar::memory64(1 << 30)),
            ]
        );
    }

    #[test]
    fn wrong_declarations_name_bar_and_value() {
        let wrong = |at: usize, value: u32, next: u32| {
            let mut probed = [0; 6];
            probed[at] = value;
            if let Some(register) = probed.get_mut(at + 1) {
                *register = next;
            }
            let error = declared(probed).unwrap_err();
            assert_eq!(error.code(), Some(super::super::E_INVALIDARG));
            let text = error.to_string();
            assert!(text.contains(&format!("ProbedBars[{at}]")), "{text}");
            assert!(text.contains(&format!("{value:#010x}")), "{text}");
        };
        wrong(0, 0xffff_ff01, 0);
        wrong(1, 0xffff_f002, 0);
        wrong(1, 0xffff_f006, 0);
        wrong(2, 0x0000_1000, 0);
        wrong(2, 0xffff_e800, 0);
        wrong(3, 8, 0);
        wrong(5, 0xffff_f004, 0);
        wrong(4, 0xffff_f004, 0);
        wrong(0, 4, 0);
        wrong(0, 4, 0xffff_0001);
        wrong(0, 0xffff_f00c, 0xffff_fffe);
    }
}

//! PCI Express root ports: the slots that devices are plugged into.

use serde_json::{Value, json};

use crate::{Error, Result};

/// The most root ports of a machine. Each takes a bus, of which there are 256, and a function of a slot of the root bus. Up to 32
/// cost a booting guest nothing that stands out; 64 make a boot in software emulation take a third longer.
pub const ROOT_PORTS_MAXIMUM: usize = 64;

/// The first slot of the root bus with root ports; other devices are put into those below, the chipset is above.
const FIRST_SLOT: usize = 0x10;
/// Functions of a slot.
const FUNCTIONS: usize = 8;

/// The most 32-bit address space behind a port that is kept free for what may be plugged in, and all of them together: a
/// q35 machine has about 1 GiB of it. Firmware does not align windows to their size, so what surely fits is half of one.
const WINDOW_32: u64 = 64 << 20;
const WINDOWS_32: u64 = 768 << 20;
/// 64-bit prefetchable address space behind a port, likewise. It is behind guest memory, where even small address buses
/// have room.
const WINDOW_64: u64 = 512 << 20;

/// The `-device` of root port `index` of `count`.
pub(super) fn root_port(id: &str, index: usize, count: usize) -> Result<Value> {
    if index >= ROOT_PORTS_MAXIMUM {
        return Err(Error::Machine {
            what: "number of root ports",
            value: count.to_string(),
            reason: "it can have 64",
        });
    }
    let (slot, function) = (FIRST_SLOT + index / FUNCTIONS, index % FUNCTIONS);
    Ok(json!({
        "driver": "pcie-root-port", "id": id, "bus": "pcie.0", "addr": format!("{slot:x}.{function:x}"),
        "multifunction": true, "chassis": index + 1, "slot": index + 1,
        "mem-reserve": window_32(count), "pref64-reserve": WINDOW_64, "io-reserve": 0,
    }))
}

/// 32-bit address space of each of `count` ports: a power of two, which firmware rounds to anyway.
fn window_32(count: usize) -> u64 {
    let share = WINDOWS_32 / u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    let power = 1_u64 << share.max(1).ilog2();
    power.clamp(1 << 20, WINDOW_32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_own_function_and_number() {
        let ports: Vec<_> = (0..ROOT_PORTS_MAXIMUM)
            .map(|index| root_port("p", index, ROOT_PORTS_MAXIMUM).unwrap())
            .collect();
        assert_eq!(ports[0]["addr"], "10.0");
        assert_eq!(ports[9]["addr"], "11.1");
        assert_eq!(ports[63]["addr"], "17.7");
        let numbers: std::collections::BTreeSet<_> =
            ports.iter().map(|port| port["slot"].to_string()).collect();
        assert_eq!(numbers.len(), ROOT_PORTS_MAXIMUM);
        assert!(root_port("p", ROOT_PORTS_MAXIMUM, 65).is_err());
    }

    #[test]
    fn all_windows_together_fit() {
        assert_eq!(window_32(0), WINDOW_32);
        assert_eq!(window_32(8), WINDOW_32);
        for count in 1..=ROOT_PORTS_MAXIMUM {
            let window = window_32(count);
            assert!(window.is_power_of_two());
            assert!(window * count as u64 <= WINDOWS_32, "{count}");
        }
    }
}

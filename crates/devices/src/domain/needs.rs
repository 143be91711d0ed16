//! How large a domain has to be for what is described: buses, windows, vectors.

use hdv::domain::TABLES_SIZE;

use super::error::Problem;
use super::file::BUSES_MAX;
use super::plan::{Below, Port};

/// What windows of ports consist of.
const GRANULE: u64 = 1 << 20;
/// Bus numbers that each slot gets for what may come into it, if there are enough: a switch of seven ports.
const SPARE_BUSES: u32 = 8;
/// Bytes of each window that Linux gives each slot at least.
const SPARE_WINDOW: u128 = 2 << 20;

/// How many buses are needed at least, and how many are good to have: with some for each slot.
pub(super) fn buses(ports: &[Port]) -> Result<(u32, u32), Problem> {
    let with = |spare| {
        let mut last = 0;
        for port in ports {
            number(port, spare, &mut last);
        }
        last + 1
    };
    let least = with(0);
    if least > BUSES_MAX {
        return Err(Problem::Buses {
            needed: least,
            given: BUSES_MAX,
        });
    }
    let spares = (1..=SPARE_BUSES).rev().map(with);
    let good = spares.into_iter().find(|buses| *buses <= BUSES_MAX);
    Ok((least, good.unwrap_or(least)))
}

/// As software numbers them: depth first.
fn number(port: &Port, spare: u32, last: &mut u32) {
    *last += 1;
    match &port.below {
        Below::Functions(functions) => {
            let captured = functions.iter().map(|one| one.footprint.captured_buses);
            *last += u32::from(captured.max().unwrap_or(0));
        }
        Below::Switch(ports) => {
            *last += 1;
            for port in ports {
                number(port, spare, last);
            }
        }
    }
    if port.slot.is_some() {
        *last += spare;
    }
}

/// Buses that are one below the other, without the root bus.
pub(super) fn levels(ports: &[Port]) -> u32 {
    let of = |port: &Port| match &port.below {
        Below::Functions(_) => 1,
        Below::Switch(ports) => 2 + levels(ports),
    };
    ports.iter().map(of).max().unwrap_or(0)
}

/// One of the two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Memory,
    Prefetchable,
}

impl Window {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Prefetchable => "prefetchable",
        }
    }

    /// Bytes that are needed at least, and bytes that are good to have: with some for each slot, and however software orders
    /// what it places.
    pub(super) fn bytes(self, ports: &[Port]) -> (u128, u128) {
        let with = |is_generous| {
            let ports = ports.iter().map(|port| self.of_port(port, is_generous));
            layout(ports.collect(), is_generous).0
        };
        let tables = match self {
            Self::Memory => 0,
            Self::Prefetchable => TABLES_SIZE.into(),
        };
        (with(false) + tables, with(true) + tables)
    }

    /// Bytes and alignment.
    fn of_port(self, port: &Port, is_generous: bool) -> (u128, u64) {
        let parts = match &port.below {
            Below::Functions(functions) => {
                let of = functions.iter().map(|one| match self {
                    Self::Memory => &one.footprint.memory,
                    Self::Prefetchable => &one.footprint.prefetchable,
                });
                of.flatten().copied().collect()
            }
            Below::Switch(ports) => ports
                .iter()
                .map(|port| self.of_port(port, is_generous))
                .collect(),
        };
        let (bytes, alignment) = layout(parts, is_generous);
        let has_spare = is_generous && port.slot.is_some();
        let spare = if has_spare { SPARE_WINDOW } else { 0 };
        let granule = if is_generous {
            alignment.max(GRANULE)
        } else {
            GRANULE
        };
        let bytes = bytes.max(spare).next_multiple_of(granule.into());
        (bytes, alignment.max(GRANULE))
    }
}

fn layout(mut parts: Vec<(u128, u64)>, is_generous: bool) -> (u128, u64) {
    parts.sort_by_key(|(_, alignment)| std::cmp::Reverse(*alignment));
    let alignment = parts.first().map_or(1, |(_, alignment)| *alignment);
    let mut end = 0_u128;
    for (bytes, alignment) in parts {
        let start = if is_generous {
            end.next_multiple_of(alignment.into())
        } else {
            end
        };
        end = start + bytes;
    }
    (end, alignment)
}

/// How many vectors are good to have: the endpoint's own one, one for each port and those of the functions.
pub(super) fn vectors(ports: &[Port]) -> u32 {
    let of = |port: &Port| match &port.below {
        Below::Functions(functions) => functions
            .iter()
            .fold(1_u32, |sum, one| sum.saturating_add(one.footprint.vectors)),
        Below::Switch(ports) => vectors(ports),
    };
    ports
        .iter()
        .fold(1, |sum: u32, port| sum.saturating_add(of(port)))
}

//! The capability lists of random selections are well-formed and complete.

use hdv_pci::spec::power::PowerCapabilities;
use hdv_pci::{
    Bar, BarIndex, BarOffset, ConfigError, ConfigSpace, DeviceSerialNumber, Msi, Msix, PciExpress,
    PowerManagement, ResizableBar, VendorSpecific,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::common::{IDENTITY, capabilities, dump, extended_capabilities, read_u8, read_u16};

#[derive(Clone, Debug)]
enum Kind {
    Power,
    Msi(u8, bool, bool),
    Msix(u16),
    Express,
    Vendor(Vec<u8>),
}

impl Kind {
    fn id(&self) -> u8 {
        match self {
            Self::Power => 0x01,
            Self::Msi(..) => 0x05,
            Self::Msix(_) => 0x11,
            Self::Express => 0x10,
            Self::Vendor(_) => 0x09,
        }
    }

    /// Bytes as the standard has them.
    fn length(&self) -> u16 {
        match self {
            Self::Power => 8,
            Self::Msi(_, false, false) => 10,
            Self::Msi(_, true, false) => 14,
            Self::Msi(_, false, true) => 20,
            Self::Msi(_, true, true) => 24,
            Self::Msix(_) => 12,
            Self::Express => 60,
            Self::Vendor(data) => 3 + u16::try_from(data.len()).unwrap(),
        }
    }
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let msi = (0_u32..6, any::<bool>(), any::<bool>())
        .prop_map(|(log, wide, mask)| Kind::Msi(1 << log, wide, mask));
    let vendor = || vec(any::<u8>(), 0..30).prop_map(Kind::Vendor);
    let all = (msi, (1_u16..=2048).prop_map(Kind::Msix), vendor(), vendor()).prop_map(
        |(msi, msix, vendor, other)| vec![Kind::Power, msi, msix, Kind::Express, vendor, other],
    );
    all.prop_flat_map(|all| subsequence(all, 0..=6).prop_shuffle())
}

/// Plain registers that do not overlap, as offset and bytes.
fn registers() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    vec((0_u16..24, 1_usize..9, any::<u8>()), 0..4).prop_map(|all| {
        let mut taken = [false; 24];
        let mut registers = Vec::new();
        for (slot, length, fill) in all {
            if !std::mem::replace(&mut taken[usize::from(slot)], true) {
                registers.push((0x40 + 8 * slot, vec![fill; length.min(8)]));
            }
        }
        registers
    })
}

proptest! {
    #[test]
    fn every_selection_is_chained(
        kinds in kinds(),
        registers in registers(),
        serial: bool,
        resizable: bool,
    ) {
        let bar = BarIndex::BAR2;
        let mut builder = ConfigSpace::builder(IDENTITY).bar(bar, Bar::memory64(1 << 20));
        for (offset, bytes) in &registers {
            builder = builder.registers(*offset, bytes.clone(), vec![0; bytes.len()]);
        }
        for kind in &kinds {
            builder = match kind {
                Kind::Power => builder.capability(PowerManagement::new()),
                Kind::Msi(vectors, wide, mask) => {
                    let msi = if *wide {
                        Msi::with_64_bit_address(*vectors)
                    } else {
                        Msi::with_32_bit_address(*vectors)
                    };
                    builder.capability(if *mask { msi.per_vector_mask() } else { msi })
                }
                Kind::Msix(vectors) => builder.capability(Msix::new(
                    *vectors,
                    BarOffset::new(bar, 0),
                    BarOffset::new(bar, 0x8000),
                )),
                Kind::Express => builder.capability(PciExpress::endpoint()),
                Kind::Vendor(data) => builder.capability(VendorSpecific::new(data.clone())),
            };
        }
        if serial {
            builder = builder.extended_capability(DeviceSerialNumber::new(7));
        }
        if resizable {
            let sizes = [1 << 20, 1 << 21];
            builder = builder.extended_capability(ResizableBar::new().bar(bar, &sizes));
        }
        let config = match builder.build() {
            // Registers can leave no gap for the longest ones.
            Err(ConfigError::NoRoom { .. }) if !registers.is_empty() => return Ok(()),
            config => config.unwrap(),
        };

        let list = capabilities(&config);
        let expected: Vec<u8> = kinds.iter().map(Kind::id).collect();
        let found: Vec<u8> = list.iter().map(|(_, id)| *id).collect();
        prop_assert_eq!(found, expected);
        let mut taken: Vec<(u16, u16)> = registers
            .iter()
            .map(|(offset, bytes)| (*offset, offset + u16::try_from(bytes.len()).unwrap()))
            .collect();
        taken.extend(list.iter().zip(&kinds).map(|((at, _), kind)| (*at, at + kind.length())));
        taken.sort_unstable();
        prop_assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "overlap: {:x?}", taken);
        prop_assert!(taken.iter().all(|(start, end)| *start >= 0x40 && *end <= 0x100));
        for ((at, _), kind) in list.iter().zip(&kinds) {
            if let Kind::Vendor(data) = kind {
                let mut bytes = vec![0; data.len()];
                config.read(at + 3, &mut bytes);
                prop_assert_eq!(&bytes, data);
            }
        }
        for (offset, bytes) in &registers {
            let mut found = vec![0; bytes.len()];
            config.read(*offset, &mut found);
            prop_assert_eq!(&found, bytes);
        }

        let mut expected = Vec::new();
        if serial {
            expected.push((3, 1));
        }
        if resizable {
            expected.push((0x15, 1));
        }
        let list = extended_capabilities(&config);
        let found: Vec<(u16, u8)> = list.iter().map(|(_, id, version)| (*id, *version)).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(list.first().is_none_or(|(at, ..)| *at == 0x100));
    }
}

#[test]
fn writes_never_reach_the_lists() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 20))
        .capability(PowerManagement::new().with(PowerCapabilities::D1))
        .capability(Msi::with_64_bit_address(32).per_vector_mask())
        .capability(PciExpress::endpoint())
        .extended_capability(DeviceSerialNumber::new(u64::MAX))
        .extended_capability(ResizableBar::new().bar(BarIndex::BAR0, &[1 << 20]))
        .build()
        .unwrap();
    let lists = (capabilities(&config), extended_capabilities(&config));
    for byte in [0xff, 0x00, 0x5a] {
        let _ = config.write(0, &[byte; 4096]);
        assert_eq!(
            (capabilities(&config), extended_capabilities(&config)),
            lists
        );
    }
    assert_eq!(lists.0.len(), 3);
    assert_eq!(lists.1.len(), 2);
}

#[test]
fn an_extended_capability_passes_over_registers() {
    let config = ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 20))
        .registers(0x10d, [1, 2, 3], [0; 3])
        .extended_capability(DeviceSerialNumber::new(1))
        .extended_capability(ResizableBar::new().bar(BarIndex::BAR0, &[1 << 20]))
        .build()
        .unwrap();
    assert_eq!(
        extended_capabilities(&config),
        [(0x100, 3, 1), (0x110, 0x15, 1)]
    );
}

#[test]
fn without_capabilities_there_is_no_list() {
    let config = ConfigSpace::builder(IDENTITY).build().unwrap();
    assert_eq!(read_u16(&config, 0x06), 0);
    assert_eq!(read_u8(&config, 0x34), 0);
    assert!(dump(&config)[0x40..].iter().all(|byte| *byte == 0));
}

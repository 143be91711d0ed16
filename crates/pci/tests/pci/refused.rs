//! Descriptions that are refused, and what the error says.

use hdv_pci::{
    Bar, BarIndex, BarOffset, ConfigError, ConfigSpace, ConfigSpaceBuilder, DeviceSerialNumber,
    Identity, Msi, Msix, PciExpress, PowerManagement, ResizableBar, VendorSpecific,
};

use crate::common::IDENTITY;

const BAR0: BarIndex = BarIndex::BAR0;
const BAR1: BarIndex = BarIndex::BAR1;
const BAR2: BarIndex = BarIndex::BAR2;
const BAR5: BarIndex = BarIndex::BAR5;

fn builder() -> ConfigSpaceBuilder {
    ConfigSpace::builder(IDENTITY)
}

fn refused(builder: ConfigSpaceBuilder) -> ConfigError {
    builder.build().expect_err("this description is wrong")
}

#[test]
fn identities() {
    let identity = Identity {
        vendor_id: 0xffff,
        ..IDENTITY
    };
    assert_eq!(
        refused(ConfigSpace::builder(identity)),
        ConfigError::VendorId(0xffff)
    );
}

#[test]
fn bars() {
    for size in [0, 1, 8, 24, 4097, u64::MAX] {
        let error = refused(builder().bar(BAR2, Bar::memory64(size)));
        assert_eq!(error, ConfigError::BarSize { index: BAR2, size });
    }
    let error = refused(builder().bar(BAR1, Bar::memory32(1 << 32)));
    assert_eq!(
        error,
        ConfigError::BarTooLarge {
            index: BAR1,
            size: 1 << 32
        }
    );
    let error = refused(builder().bar(BAR5, Bar::memory64(4096)));
    assert_eq!(error, ConfigError::BarLast { index: BAR5 });
    let small = Bar::memory32(4096);
    let error = refused(builder().bar(BAR1, small).bar(BAR1, small));
    assert_eq!(error, ConfigError::BarOverlap { index: BAR1 });
    // In whatever order they are declared.
    let error = refused(builder().bar(BAR1, small).bar(BAR0, Bar::memory64(4096)));
    assert_eq!(error, ConfigError::BarOverlap { index: BAR1 });
    assert_eq!(
        error.to_string(),
        "BAR 1 is declared twice or is the upper half of the 64-bit BAR before it"
    );
    assert!(BarIndex::try_from(6_u8).is_err());
    assert!(BarIndex::try_from(0x100_u32).is_err());
    assert!(BarIndex::try_from(usize::MAX).is_err());
}

#[test]
fn device_registers() {
    for (offset, length) in [
        (0x3f, 1),
        (0, 4),
        (0xfc, 5),
        (0x40, 0),
        (0x100, 4),
        (0x103, 2),
        (0xfff, 2),
        (0x1000, 1),
    ] {
        let error = refused(builder().registers(offset, vec![0; length], vec![0; length]));
        assert_eq!(error, ConfigError::RegistersRange { offset, length });
    }
    let error = refused(builder().registers(0x40, [0; 4], [0; 3]));
    assert_eq!(
        error,
        ConfigError::RegistersMask {
            offset: 0x40,
            initial: 4,
            mask: 3
        }
    );
    let error = refused(
        builder()
            .registers(0x40, [0; 4], [0; 4])
            .registers(0x43, [0; 2], [0; 2]),
    );
    assert_eq!(
        error,
        ConfigError::RegistersOverlap {
            offset: 0x43,
            length: 2
        }
    );
}

#[test]
fn capabilities_without_room() {
    let name = "PCI Express";
    let error = refused(
        builder()
            .registers(0x80, vec![0; 0x60], vec![0; 0x60])
            .capability(PowerManagement::new())
            .capability(PciExpress::endpoint()),
    );
    assert_eq!(error, ConfigError::NoRoom { name, length: 60 });
    let name = "device serial number";
    let error = refused(
        builder()
            .registers(0x108, [0], [0])
            .extended_capability(DeviceSerialNumber::new(1)),
    );
    assert_eq!(error, ConfigError::NoRoom { name, length: 12 });
    let error = refused(builder().capability(VendorSpecific::new(vec![0; 190])));
    let name = "vendor-specific";
    assert_eq!(
        error,
        ConfigError::CapabilityLength {
            name,
            length: 193,
            min: 3,
            max: 192
        }
    );
    let error = refused(builder().capability(VendorSpecific::new(vec![0; 0x1_0000])));
    assert!(matches!(
        error,
        ConfigError::CapabilityLength {
            length: 0x1_0003,
            ..
        }
    ));
    assert!(
        builder()
            .capability(VendorSpecific::new(vec![0; 189]))
            .build()
            .is_ok()
    );
}

#[test]
fn capabilities_declared_twice() {
    let error = refused(
        builder()
            .capability(PowerManagement::new())
            .capability(PowerManagement::new()),
    );
    assert_eq!(
        error,
        ConfigError::CapabilityTwice {
            name: "power management"
        }
    );
    let serial = DeviceSerialNumber::new(1);
    let error = refused(
        builder()
            .extended_capability(serial)
            .extended_capability(serial),
    );
    assert_eq!(
        error,
        ConfigError::CapabilityTwice {
            name: "device serial number"
        }
    );
}

#[test]
fn vectors() {
    for vectors in [0, 3, 31, 33, 64, 255] {
        let error = refused(builder().capability(Msi::with_32_bit_address(vectors)));
        assert!(matches!(error, ConfigError::Vectors { vectors: v, .. } if v == vectors.into()));
    }
    for vectors in [0, 2049, u16::MAX] {
        let msix = Msix::new(
            vectors,
            BarOffset::new(BAR0, 0),
            BarOffset::new(BAR0, 0x8000),
        );
        let error = refused(builder().bar(BAR0, Bar::memory32(1 << 20)).capability(msix));
        assert!(matches!(error, ConfigError::Vectors { vectors: v, .. } if v == vectors));
    }
}

/// MSI-X with 65 vectors (a table of 1040 bytes, a pending-bit array of 16) in a BAR of 4 KiB.
fn msix(table: BarOffset, pba: BarOffset) -> Result<ConfigSpace, ConfigError> {
    builder()
        .bar(BAR0, Bar::memory64(4096))
        .capability(Msix::new(65, table, pba))
        .build()
}

#[test]
fn msix_places() {
    let at = |offset| BarOffset::new(BAR0, offset);
    let (table, pba) = ("table", "pending-bit array");
    assert_eq!(
        msix(BarOffset::new(BAR2, 0), at(0)).unwrap_err(),
        ConfigError::MsixBar {
            part: table,
            bar: BAR2
        }
    );
    // The upper half of a BAR is no BAR.
    assert_eq!(
        msix(at(0), BarOffset::new(BAR1, 0)).unwrap_err(),
        ConfigError::MsixBar {
            part: pba,
            bar: BAR1
        }
    );
    assert_eq!(
        msix(at(4), at(0x800)).unwrap_err(),
        ConfigError::MsixAlignment {
            part: table,
            offset: 4
        }
    );
    assert_eq!(
        msix(at(0), at(0x804)).unwrap_err(),
        ConfigError::MsixAlignment {
            part: pba,
            offset: 0x804
        }
    );
    assert!(msix(at(4096 - 1040), at(0)).is_ok());
    let range = |part, offset, length| ConfigError::MsixRange {
        part,
        offset,
        length,
        bar: BAR0,
        size: 4096,
    };
    assert_eq!(
        msix(at(4096 - 1032), at(0)).unwrap_err(),
        range(table, 3064, 1040)
    );
    assert_eq!(msix(at(0), at(4088)).unwrap_err(), range(pba, 4088, 16));
    assert_eq!(
        msix(at(0), at(0xffff_fff8)).unwrap_err(),
        range(pba, 0xffff_fff8, 16)
    );
    let overlap = |table, pending| ConfigError::MsixOverlap {
        bar: BAR0,
        table,
        pending,
    };
    assert_eq!(msix(at(0), at(1032)).unwrap_err(), overlap(0, 1032));
    assert_eq!(msix(at(8), at(0)).unwrap_err(), overlap(8, 0));
    assert!(msix(at(0), at(1040)).is_ok());
    assert!(msix(at(16), at(0)).is_ok());
}

#[test]
fn msix_beyond_the_smallest_size_of_its_bar() {
    const MIB: u64 = 1 << 20;
    let at = |offset| BarOffset::new(BAR0, offset);
    let with = |sizes: &[u64]| {
        builder()
            .bar(BAR0, Bar::memory64(4 * MIB))
            .capability(Msix::new(3, at(0x20_0000), at(0)))
            .extended_capability(ResizableBar::new().bar(BAR0, sizes))
            .build()
    };
    assert!(with(&[4 * MIB, 8 * MIB]).is_ok());
    assert!(matches!(
        with(&[2 * MIB, 4 * MIB]),
        Err(ConfigError::MsixRange {
            size: 0x20_0000,
            ..
        })
    ));
}

#[test]
fn payloads() {
    for bytes in [0, 64, 129, 384, 8192, u16::MAX] {
        let error = refused(builder().capability(PciExpress::endpoint().max_payload(bytes)));
        assert_eq!(error, ConfigError::MaxPayload(bytes));
    }
    assert!(
        builder()
            .capability(PciExpress::endpoint().max_payload(128))
            .build()
            .is_ok()
    );
}

#[test]
fn resizable_bars() {
    const MIB: u64 = 1 << 20;
    let with = |bar: Bar, resizable: ResizableBar| {
        builder()
            .bar(BAR0, bar)
            .extended_capability(resizable)
            .build()
            .unwrap_err()
    };
    let bar = Bar::memory64(MIB);
    assert_eq!(
        with(bar, ResizableBar::new()),
        ConfigError::ResizableBarNone
    );
    assert_eq!(
        with(bar, ResizableBar::new().bar(BAR2, &[MIB])),
        ConfigError::ResizableBarMissing { bar: BAR2 }
    );
    assert_eq!(
        with(bar, ResizableBar::new().bar(BAR0, &[MIB]).bar(BAR0, &[MIB])),
        ConfigError::ResizableBarTwice { bar: BAR0 }
    );
    for size in [0, 4096, MIB / 2, 3 * MIB, u64::MAX] {
        assert_eq!(
            with(bar, ResizableBar::new().bar(BAR0, &[MIB, size])),
            ConfigError::ResizableBarSize { bar: BAR0, size }
        );
    }
    assert_eq!(
        with(
            Bar::memory32(MIB),
            ResizableBar::new().bar(BAR0, &[MIB, 1 << 32])
        ),
        ConfigError::ResizableBarSize {
            bar: BAR0,
            size: 1 << 32
        }
    );
    for declared in [4096, MIB, 1 << 63] {
        assert_eq!(
            with(
                Bar::memory64(declared),
                ResizableBar::new().bar(BAR0, &[2 * MIB])
            ),
            ConfigError::ResizableBarDeclared {
                bar: BAR0,
                size: declared
            }
        );
    }
}

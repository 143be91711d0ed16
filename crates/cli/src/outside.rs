//! The parsers of bytes that come from outside this process, as fuzz targets call them: config
//! space, which any vfio-user server sends, and `pci.ids`.
//!
//! Everything here answers for any bytes, in bounded time and with bounded text.

use crate::decode::ConfigSpace;
use crate::pci_names::PciNames;
use crate::probe::capability_table;
use crate::style::{Paint, printable};

/// Config space as `hdv probe --json` prints it, without what other messages tell.
///
/// # Errors
/// It cannot be written as JSON.
pub fn config_json(config: &[u8]) -> serde_json::Result<String> {
    serde_json::to_string(&ConfigSpace::decode(config))
}

/// The capabilities and faults of a config space as `hdv probe` prints them, without colours.
#[must_use]
pub fn config_text(config: &[u8]) -> String {
    let config = ConfigSpace::decode(config);
    let mut text = capability_table(&config, Paint::none());
    for fault in config.faults {
        text.push_str(&fault);
        text.push('\n');
    }
    text
}

/// Config space as `hdv probe --hexdump` prints it.
#[must_use]
pub fn hexdump(config: &[u8]) -> String {
    crate::hexdump::hexdump(crate::hexdump::NOWHERE, config)
}

/// The names that a `pci.ids` with this content has for a vendor, its device and a class code
/// (24 bits), as they are printed.
#[must_use]
pub fn names(content: &[u8], vendor: u16, device: u16, class: u32) -> [Option<String>; 3] {
    let names = PciNames::parse(content);
    [
        names.vendor(vendor).map(printable),
        names.device(vendor, device).map(printable),
        names.class(class).as_deref().map(printable),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every dword from 0x100 on begins a resizable BAR capability with all sizes, and all
    /// overlap.
    #[test]
    fn the_longest_list_ends() {
        let mut config = vec![0; 4096];
        for offset in (0x100..0x1000_u32).step_by(4) {
            let next = if offset + 4 < 0x1000 {
                offset + 4
            } else {
                0x100
            };
            let head = next << 20 | 0xf_0015;
            let at = usize::try_from(offset).unwrap();
            config[at..at + 4].copy_from_slice(&head.to_le_bytes());
        }
        let text = config_text(&config);
        assert!(text.len() < 4 << 20, "{} bytes", text.len());
        assert!(
            text.ends_with("the extended capability list comes back to 0x100\n"),
            "{}",
            text.lines().last().unwrap_or_default()
        );
        assert!(config_json(&config).unwrap().len() < 4 << 20);
    }

    /// Every dword from 0x100 on begins an SR-IOV capability, as long as there is room for one.
    #[test]
    fn overlapping_sriov_capabilities_end() {
        let mut config = vec![0xff; 4096];
        for offset in (0x100..0x1000_u32).step_by(4) {
            let head = ((offset + 4) % 0x1000) << 20 | 0x1_0010;
            let at = usize::try_from(offset).unwrap();
            config[at..at + 4].copy_from_slice(&head.to_le_bytes());
        }
        let text = config_text(&config);
        assert!(text.len() < 4 << 20, "{} bytes", text.len());
        let json = config_json(&config).unwrap();
        assert!(json.len() < 4 << 20, "{} bytes", json.len());
        let last: u32 = 0x1000 - 0x40;
        assert!(text.contains(&format!("  {last:x}")), "{last:x}");
    }

    #[test]
    fn names_move_no_cursor() {
        let content = b"8086  In\x1b[2Jtel\xff\n\t0001  A\tB\n";
        let [vendor, device, class] = names(content, 0x8086, 1, 0);
        assert_eq!(vendor.unwrap(), "In?[2Jtel\u{fffd}");
        assert_eq!(device.unwrap(), "A?B");
        assert_eq!(class, None);
    }
}

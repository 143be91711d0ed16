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
    crate::hexdump::hexdump(config)
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

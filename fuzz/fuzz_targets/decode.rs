//! What `hdv probe` prints, from any config space and any `pci.ids`: always something, never
//! without end, and nothing that moves a terminal's cursor.

#![no_main]

use hdv_cli::outside;
use libfuzzer_sys::fuzz_target;

/// Most text that 4096 bytes can lead to.
const TEXT_LIMIT: usize = 4 << 20;
/// Most lines of a capability: SR-IOV has one for each register.
const CAPABILITY_LINES: usize = 20;
/// Most capabilities, of both lists, and the fault that ends each, with a heading.
const LINES_LIMIT: usize = 1 + 48 + 960 * CAPABILITY_LINES + 4;

fuzz_target!(|bytes: &[u8]| {
    let json = outside::config_json(bytes).expect("JSON");
    assert!(json.len() <= TEXT_LIMIT, "{} bytes", json.len());
    let text = outside::config_text(bytes);
    assert!(text.len() <= TEXT_LIMIT, "{} bytes", text.len());
    assert!(text.lines().count() <= LINES_LIMIT);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    let dump = outside::hexdump(bytes);
    assert!(dump.lines().count() <= 2 + 256);

    // The first bytes ask, the rest is the file.
    let Some(([v1, v0, d1, d0, c2, c1, c0], content)) = bytes.split_first_chunk() else {
        return;
    };
    let class = u32::from_be_bytes([0, *c2, *c1, *c0]);
    let vendor = u16::from_be_bytes([*v1, *v0]);
    for name in outside::names(content, vendor, u16::from_be_bytes([*d1, *d0]), class) {
        let name = name.unwrap_or_default();
        // What is not UTF-8 grows to three bytes.
        assert!(name.len() <= 3 * content.len() && !name.contains(char::is_control));
    }
});

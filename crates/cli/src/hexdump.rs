//! Config space in the form that `lspci -F` reads.

use std::fmt::Write;

use hdv_pci::spec::{COMPATIBLE_SIZE, CONFIG_SPACE_SIZE};

/// Bytes of a line.
const LINE: usize = 16;

/// Where a device is said to be whose place nobody knows.
pub(crate) const NOWHERE: &str = "00:00.0";

/// A heading line with the address, then sixteen bytes a line, then an empty line. What is there beyond the
/// compatible or the whole config space is left out: `lspci` takes 256 bytes or 4096.
pub(crate) fn hexdump(address: &str, config: &[u8]) -> String {
    let size = [CONFIG_SPACE_SIZE, COMPATIBLE_SIZE]
        .into_iter()
        .map(usize::from)
        .find(|size| config.len() >= *size)
        .unwrap_or(config.len());
    let at = |offset: usize| config.get(offset).copied().unwrap_or(0xff);
    let mut text = format!(
        "{address} Class {:02x}{:02x}: {:02x}{:02x}:{:02x}{:02x}\n",
        at(0x0b),
        at(0x0a),
        at(0x01),
        at(0x00),
        at(0x03),
        at(0x02),
    );
    for (number, line) in config[..size].chunks(LINE).enumerate() {
        let _ = write!(text, "{:03x}:", number * LINE);
        for byte in line {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_lspci() {
        let mut config = vec![0_u8; 4096];
        config[..12].copy_from_slice(&[0x48, 0x4f, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x11]);
        config[4095] = 0xab;
        let text = hexdump("10000:01:00.1", &config);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "10000:01:00.1 Class 1180: 4f48:0001");
        assert_eq!(
            lines[1],
            "000: 48 4f 01 00 00 00 00 00 00 00 80 11 00 00 00 00"
        );
        assert_eq!(
            lines[256],
            "ff0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ab"
        );
        assert_eq!(&lines[257..], [""]);
    }

    #[test]
    fn a_size_between_is_cut() {
        assert_eq!(hexdump(NOWHERE, &[0; 256]).lines().count(), 18);
        assert_eq!(hexdump(NOWHERE, &[0; 300]).lines().count(), 18);
        assert_eq!(hexdump(NOWHERE, &[]).lines().count(), 2);
    }
}

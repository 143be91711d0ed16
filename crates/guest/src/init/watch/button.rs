//! The power button, as the kernel's input events tell of it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use crate::platform::{Error, Result};

/// Where input devices have their files; there is none when no module made it.
const INPUT: &str = "/dev/input";
/// What the files that tell events are called, with a number behind it.
const EVENT: &str = "event";
/// Bytes of an event (`struct input_event` of a machine with 64 bits): two of time, 16 bits of type, 16 of code,
/// 32 of value.
const EVENT_BYTES: usize = 24;
/// Type: a key (`EV_KEY` of `linux/input-event-codes.h`).
const KEY: u16 = 1;
/// Code: the power button (`KEY_POWER`).
const POWER: u16 = 116;
/// Value: pressed.
const PRESSED: i32 = 1;

/// Every input device.
#[derive(Debug)]
pub(super) struct Buttons {
    files: Vec<File>,
}

impl Buttons {
    /// Opens what there is.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub(super) fn open() -> Result<Self> {
        let mut files = Vec::new();
        let entries = match fs::read_dir(INPUT) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { files }),
            Err(error) => return Err(Error::file(INPUT, "list", error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::file(INPUT, "list", error))?;
            if !entry.file_name().to_string_lossy().starts_with(EVENT) {
                continue;
            }
            let path = entry.path();
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                .open(&path)
                .map_err(|error| Error::file(&path, "open", error))?;
            files.push(file);
        }
        Ok(Self { files })
    }

    /// The files to wait for.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// Whether the power button was pressed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn power(&mut self) -> Result<bool> {
        let mut pressed = false;
        for file in &mut self.files {
            let mut event = [0; EVENT_BYTES];
            loop {
                match file.read(&mut event) {
                    Ok(EVENT_BYTES) => pressed |= is_power(&event),
                    Ok(_) => break,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Error::file(INPUT, "read an event of", error)),
                }
            }
        }
        Ok(pressed)
    }
}

fn is_power(event: &[u8; EVENT_BYTES]) -> bool {
    let [.., type0, type1, code0, code1, v0, v1, v2, v3] = *event;
    u16::from_ne_bytes([type0, type1]) == KEY
        && u16::from_ne_bytes([code0, code1]) == POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_button_is_told_from_other_events() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = [0xff; EVENT_BYTES];
            bytes[16..18].copy_from_slice(&kind.to_ne_bytes());
            bytes[18..20].copy_from_slice(&code.to_ne_bytes());
            bytes[20..].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        assert!(is_power(&event(KEY, POWER, PRESSED)));
        assert!(!is_power(&event(KEY, POWER, 0)));
        assert!(!is_power(&event(KEY, 30, PRESSED)));
        assert!(!is_power(&event(0, 0, 0)));
    }
}

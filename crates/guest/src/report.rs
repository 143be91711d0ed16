//! What the program prints: one line of JSON per fact, the same in a guest and outside one.

use serde::{Deserialize, Serialize};

/// What every line begins with, so that it is found on a console with other text on it.
pub const PREFIX: &str = "OPENHDV ";

/// The outcome of one check of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which check.
    pub name: String,
    /// Whether the device kept its promise.
    pub ok: bool,
    /// What was seen; what was wrong.
    pub detail: String,
    /// The device: PCI address or socket. Several are separated by a space.
    #[serde(default)]
    pub device: String,
    /// How it was reached: `vfio-pci`, `sysfs` or `vfio-user`.
    #[serde(default)]
    pub transport: String,
    /// Which boot of the guest, from 1.
    #[serde(default)]
    pub round: u32,
}

/// What became of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is there since the kernel's first look through the buses.
    First,
    /// It came later.
    Later,
    /// It is gone.
    Gone,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line {
    /// The program has started.
    Start {
        /// The kernel's release, as `uname -r` has it.
        kernel: String,
        /// Which boot of the guest, from 1.
        round: u32,
        /// The devices found.
        devices: Vec<String>,
    },
    /// A check has ended.
    Check(Outcome),
    /// A sample was read (live mode).
    Sample {
        /// The device.
        device: String,
        /// The number of the sample since sampling was enabled.
        sequence: u32,
        /// Nanoseconds on the device's monotonic clock.
        timestamp_ns: u64,
        /// Thousandths.
        value: i32,
    },
    /// The program goes on when a line comes on the console.
    Waiting {
        /// Which boot of the guest, from 1.
        round: u32,
    },
    /// Whoever started the guest is asked to do something and to answer on the console (`ask`).
    Ask {
        /// What to do: a verb and what it is about, separated by spaces.
        words: String,
    },
    /// Text for people to look at, of several lines.
    Text {
        /// What it is.
        title: String,
        /// The text.
        text: String,
    },
    /// One of our functions came or went (watch mode).
    Device {
        /// Its PCI address.
        address: String,
        /// PCI vendor id.
        vendor: u16,
        /// PCI device id.
        device: u16,
        /// What became of it.
        change: Change,
        /// Microseconds on the kernel's clock when the kernel found it.
        enumerated_us: Option<u64>,
        /// Microseconds on that clock when the program saw it.
        clock_us: u64,
    },
    /// The console asked for the time (watch mode).
    Clock {
        /// Microseconds on the guest's monotonic clock.
        clock_us: u64,
    },
    /// Registers of the sensors are being read, without a pause (watch mode).
    Polling {
        /// How many sensors there are.
        devices: usize,
    },
    /// A sensor answers no more (watch mode).
    Polled {
        /// Its PCI address.
        address: String,
        /// What was read instead of what it is.
        value: u32,
        /// Reads of all sensors until then.
        reads: u64,
    },
    /// The power button was pressed; the guest powers off (watch mode).
    PowerButton {
        /// Microseconds on the guest's monotonic clock.
        clock_us: u64,
    },
    /// Functions that had been removed were found again by a look through all buses.
    Rescanned {
        /// How many.
        functions: usize,
        /// Nanoseconds of the look that found them.
        found_ns: u64,
        /// Nanoseconds of another one right after, which found nothing new.
        nothing_ns: u64,
    },
    /// A small file that a check has made for people to look at.
    File {
        /// The device it came from.
        device: String,
        /// A file name without directories, with its extension.
        name: String,
        /// The contents in base64 (RFC 4648, section 4).
        base64: String,
    },
    /// Nothing follows: the guest powers off, or boots once more.
    Done {
        /// Always true.
        done: bool,
        /// Whether every check of this boot was passed.
        ok: bool,
        /// Which boot of the guest, from 1.
        round: u32,
        /// The kernel's release.
        kernel: String,
        /// Number of checks passed.
        passed: usize,
        /// Number of checks failed.
        failed: usize,
        /// Whether the guest boots once more.
        rebooting: bool,
    },
}

impl Line {
    /// Finds a line in a line of console output.
    #[must_use]
    pub fn parse(console: &str) -> Option<Self> {
        let (_, json) = console.split_once(PREFIX)?;
        serde_json::from_str(json.trim()).ok()
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| std::fmt::Error)?;
        write!(formatter, "{PREFIX}{json}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_behind_other_text() {
        let line = Line::Check(Outcome {
            name: "identity".to_owned(),
            ok: false,
            detail: "a \"quoted\"\nline".to_owned(),
            device: "0000:00:03.0".to_owned(),
            transport: "sysfs".to_owned(),
            round: 2,
        });
        let text = line.to_string();
        assert!(!text.contains('\n'));
        assert!(text.contains(r#""name":"identity","ok":false"#));
        assert_eq!(
            Line::parse(&format!("\u{1b}[0m[ 1.2] x {text}\r\n")),
            Some(line)
        );
        assert_eq!(Line::parse("OPENHDV {"), None);
        assert_eq!(Line::parse("[ 1.2] booting"), None);
    }
}

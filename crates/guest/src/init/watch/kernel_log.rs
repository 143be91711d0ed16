//! When the kernel found a PCI function, by its log.
//!
//! The log has a clock of its own, some hundredths of a second off the monotonic one. A line that is written to it, and found in
//! it again, tells by how much.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::clock_us;
use crate::platform::{Error, Result};

/// The kernel's log, a record per read.
const LOG: &str = "/dev/kmsg";
/// The longest record, as the kernel bounds them.
const RECORD_BYTES: usize = 8192;
/// What the kernel says once it has looked through the buses for the first time.
const FIRST_LOOK_ENDS: &str = "PCI: Using ACPI for IRQ routing";

/// What is written to the log to find again.
const MARK: &str = "openhdv: the clock of the log";

/// When a function was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As many were found before it.
    pub(super) order: usize,
    /// The monotonic clock.
    pub(super) clock_us: u64,
    /// In the kernel's first look through the buses.
    pub(super) first: bool,
}

/// The kernel's log, as far as it has been read.
#[derive(Debug)]
pub(super) struct KernelLog {
    file: Option<File>,
    entries: HashMap<String, Entry>,
    found: usize,
    first_look_over: bool,
    /// The monotonic clock when the mark was written.
    marked_us: u64,
    /// What the log's clock lags behind the monotonic one.
    lag_us: u64,
}

impl KernelLog {
    /// The log from its beginning.
    ///
    /// # Errors
    /// When it cannot be opened or written.
    pub(super) fn open() -> Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(LOG)
            .map_err(|error| Error::file(LOG, "open", error))?;
        let marked_us = clock_us();
        file.write_all(MARK.as_bytes())
            .map_err(|error| Error::file(LOG, "write", error))?;
        Ok(Self::of(Some(file), marked_us))
    }

    fn of(file: Option<File>, marked_us: u64) -> Self {
        Self {
            marked_us,
            lag_us: 0,
            file,
            entries: HashMap::new(),
            found: 0,
            first_look_over: false,
        }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(&mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let mut record = [0; RECORD_BYTES];
        let result = loop {
            match file.read(&mut record) {
                Ok(0) => break Ok(()),
                Ok(count) => self.take(&String::from_utf8_lossy(&record[..count])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                // Records were overwritten before they were read; the next read goes on behind them.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => break Err(Error::file(LOG, "read", error)),
            }
        };
        self.file = Some(file);
        result
    }

    /// The latest entry of a function.
    pub(super) fn enumerated(&self, address: &str) -> Option<Entry> {
        let entry = self.entries.get(address)?;
        Some(Entry {
            clock_us: entry.clock_us + self.lag_us,
            ..*entry
        })
    }

    /// One record: `priority,number,microseconds,flags;text`.
    fn take(&mut self, record: &str) {
        let Some((head, text)) = record.split_once(';') else {
            return;
        };
        if text.starts_with(FIRST_LOOK_ENDS) {
            self.first_look_over = true;
        }
        let clock_us = head.split(',').nth(2).and_then(|time| time.parse().ok());
        if let Some(at) = clock_us
            && text.starts_with(MARK)
        {
            self.lag_us = self.marked_us.saturating_sub(at);
        }
        // `pci 0000:01:00.0: [4f48:0001] type 00 class 0x118000`
        let found = text
            .strip_prefix("pci ")
            .and_then(|rest| rest.split_once(": ["))
            .filter(|(_, rest)| rest.contains("] type"));
        if let (Some((address, _)), Some(clock_us)) = (found, clock_us) {
            let entry = Entry {
                order: self.found,
                clock_us,
                first: !self.first_look_over,
            };
            self.found += 1;
            self.entries.insert(address.to_owned(), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_first_or_later() {
        let mut log = KernelLog::of(None, 9000);
        for record in [
            "6,10,1000,-;pci 0000:00:1f.2: [8086:2922] type 00 class 0x010601\n",
            "6,11,1500,-;pci 0000:01:00.0: BAR 0 [mem 0xfe000000-0xfe000fff]\n",
            "6,12,2000,-;pci 0000:01:00.0: [4f48:0001] type 00 class 0x118000\n SUBSYSTEM=pci\n",
            "6,13,3000,-;PCI: Using ACPI for IRQ routing\n",
            "6,14,400000,-;pci 0000:02:00.0: [4f48:0001] type 00 class 0x118000\n",
            "nonsense",
        ] {
            log.take(record);
        }
        let entry = |order, clock_us, first| {
            Some(Entry {
                order,
                clock_us,
                first,
            })
        };
        assert_eq!(log.enumerated("0000:01:00.0"), entry(1, 2000, true));
        assert_eq!(log.enumerated("0000:02:00.0"), entry(2, 400_000, false));
        assert_eq!(log.enumerated("0000:03:00.0"), None);
        // The same place again, and the log's clock is seen to lag.
        log.take("12,16,7000,-;openhdv: the clock of the log\n");
        assert_eq!(log.enumerated("0000:01:00.0"), entry(1, 4000, true));
        log.take("6,15,500000,-;pci 0000:01:00.0: [4f48:0001] type 00 class 0x118000\n");
        assert_eq!(log.enumerated("0000:01:00.0"), entry(3, 502_000, false));
    }
}

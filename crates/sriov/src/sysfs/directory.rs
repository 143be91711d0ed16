//! The sysfs directory of a function: attributes and links, and what is wrong with them. Held open, so that another function
//! that comes to the same address is not taken for this one. What attributes mean is said elsewhere.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Mode, OFlags};

use crate::address::PciAddress;
use crate::error::VirtualizationError;

/// The most that an attribute has: sysfs gives a page.
const ATTRIBUTE_MAX: u64 = 4096;
/// Bytes of config space that Linux shows without permission; any function has them.
pub(super) const HEADER: usize = 64;

/// The directory of a function.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: PathBuf) -> Result<Self, VirtualizationError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Self { descriptor, path }),
            Err(error) => Err(failed(path, error.into())),
        }
    }

    /// The path of a file in it, for people.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file in it.
    pub(super) fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty())?;
        Ok(file.into())
    }

    /// The text of an attribute, without the end of its line; `None` if there is no such attribute.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, VirtualizationError> {
        let read = || {
            let mut text = String::new();
            self.file(name, OFlags::RDONLY)?
                .take(ATTRIBUTE_MAX)
                .read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(self.path(name), error)),
        }
    }

    /// The number in an attribute, decimal; `None` if there is no such attribute.
    pub(super) fn number(&self, name: &str) -> Result<Option<u16>, VirtualizationError> {
        self.parsed(name, "a decimal number of 16 bits", |text| {
            text.parse().ok()
        })
    }

    /// The number in an attribute, hexadecimal; `None` if there is no such attribute.
    pub(super) fn hexadecimal(&self, name: &str) -> Result<Option<u16>, VirtualizationError> {
        self.parsed(name, "a hexadecimal number of 16 bits", |text| {
            u16::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
        })
    }

    /// What an attribute says; `None` if there is no such attribute.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, VirtualizationError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let parsed = parse(&text).ok_or_else(|| malformed(self.path(name), &text, expected))?;
        Ok(Some(parsed))
    }

    /// Writes an attribute, in one call as sysfs wants it.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), WriteError> {
        let mut file = self
            .file(name, OFlags::WRONLY | OFlags::TRUNC)
            .map_err(WriteError::Open)?;
        file.write_all(text.as_bytes()).map_err(WriteError::Write)
    }

    /// The last name in what a link points to; `None` if there is no such link.
    pub(super) fn link(&self, name: &str) -> Result<Option<String>, VirtualizationError> {
        match rustix::fs::readlinkat(&self.descriptor, name, Vec::new()) {
            Ok(target) => {
                let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
                let last = target.file_name().unwrap_or(target.as_os_str());
                Ok(Some(last.to_string_lossy().into_owned()))
            }
            Err(error) if is_absent(&error.into()) => Ok(None),
            Err(error) => Err(failed(self.path(name), error.into())),
        }
    }

    /// The address that a link to a function points to; `None` if there is no such link.
    pub(super) fn address(&self, name: &str) -> Result<Option<PciAddress>, VirtualizationError> {
        let Some(target) = self.link(name)? else {
            return Ok(None);
        };
        match PciAddress::from_str(&target) {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(malformed(self.path(name), &target, "a PCI address")),
        }
    }

    /// Bytes of a file from `offset` on, as many as there are and fit. `None` if there is no such file.
    pub(super) fn bytes(
        &self,
        name: &str,
        offset: u64,
        data: &mut [u8],
    ) -> Result<Option<usize>, VirtualizationError> {
        let mut read = || {
            let file = self.file(name, OFlags::RDONLY)?;
            let mut filled = 0;
            while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, offset + filled as u64) {
                    Ok(0) => break,
                    Ok(length) => filled += length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(filled)
        };
        match read() {
            Ok(filled) => Ok(Some(filled)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(self.path(name), error)),
        }
    }
}

/// An attribute that could not be written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// It could not be opened: what the file system says.
    Open(io::Error),
    /// It did not take the text: what the kernel or the driver behind it says.
    Write(io::Error),
}

/// There is no such file, or not any more.
pub(super) fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::NOENT, Errno::NODEV, Errno::NXIO];
    Errno::from_io_error(error).is_some_and(|error| absent.contains(&error))
}

/// A file that could not be used.
pub(super) fn failed(path: PathBuf, source: io::Error) -> VirtualizationError {
    if source.kind() == io::ErrorKind::PermissionDenied {
        return VirtualizationError::AccessDenied { path, source };
    }
    let reason = (source.kind() == io::ErrorKind::ReadOnlyFilesystem)
        .then(|| "sysfs is mounted read-only here, as containers have it".to_owned());
    VirtualizationError::Refused {
        path,
        source,
        reason,
    }
}

/// Config space beyond its first 64 bytes, without permission.
pub(super) fn hidden(path: PathBuf) -> VirtualizationError {
    VirtualizationError::AccessDenied {
        path,
        source: io::Error::new(
            io::ErrorKind::PermissionDenied,
            "Linux shows the first 64 bytes only",
        ),
    }
}

/// A file that says what it cannot say.
pub(super) fn malformed(path: PathBuf, text: &str, expected: &str) -> VirtualizationError {
    VirtualizationError::Refused {
        path,
        source: io::ErrorKind::InvalidData.into(),
        reason: Some(format!("{text:?} is not {expected}")),
    }
}

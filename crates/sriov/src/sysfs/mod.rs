//! A PF of this machine, through Linux: its sysfs directory and its config space there. What it lets be done is in
//! `interface`, files are in `directory`, what BARs are in `resources` and `probed`, why the kernel refuses in `refusal`,
//! the rules for a VF's config space in `vf_rules`, a view of all in `status`.

mod directory;
mod interface;
mod probed;
mod refusal;
mod resources;
mod status;
mod vf_rules;

use std::fs;
use std::io;
use std::path::Path;

use hdv::pci::spec::extended::extended_capability_id;
use hdv::pci::spec::sriov::LENGTH;
use hdv::pci::spec::{COMPATIBLE_SIZE, CONFIG_SPACE_SIZE};

use crate::address::PciAddress;
use crate::error::VirtualizationError;
use crate::registers::{MRIOV, SriovRegisters, extended_capability};
use directory::{Directory, HEADER, failed, malformed};
use probed::ProbedBars;
use resources::Resource;

pub use status::{SysfsPfStatus, SysfsVfStatus};

/// Where Linux lists the functions of a machine, in sysfs.
const DEVICES: &str = "bus/pci/devices";

/// A PCI function of this machine, with SR-IOV or without.
///
/// It stands for the function that was found when it was opened: once that is gone, another one at the same address is to
/// be opened anew. Config space beyond its first 64 bytes takes root (`CAP_SYS_ADMIN`), enabling takes the right to write
/// `sriov_numvfs`. Without permission what sysfs says to everybody is used, and the rest is
/// [`VirtualizationError::AccessDenied`].
#[derive(Debug)]
pub struct SysfsPf {
    address: PciAddress,
    directory: Directory,
    capability: Capability,
    probed_bars: ProbedBars,
}

/// How much is known of a function's SR-IOV capability.
#[derive(Clone, Copy, Debug)]
enum Capability {
    /// There is none.
    None,
    /// Where it is, and whether there is one of multi-root I/O virtualization, too.
    At { offset: u16, multi_root: bool },
    /// There is one, and no permission to see it.
    Hidden,
}

impl SysfsPf {
    /// Opens a function of this machine, with SR-IOV or without.
    ///
    /// # Errors
    /// There is none, or it does not answer, or sysfs says what cannot be.
    pub fn open(address: PciAddress) -> Result<Self, VirtualizationError> {
        Self::open_in(Path::new("/sys"), address)
    }

    /// As [`open`](Self::open), with sysfs mounted elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(sysfs: &Path, address: PciAddress) -> Result<Self, VirtualizationError> {
        let path = sysfs.join(DEVICES).join(address.to_string());
        let directory = Directory::open(path.clone()).map_err(|error| match error {
            VirtualizationError::Refused { source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                VirtualizationError::Refused {
                    path,
                    source,
                    reason: Some("this machine has no such PCI function".to_owned()),
                }
            }
            other => other,
        })?;
        let mut pf = Self {
            address,
            directory,
            capability: Capability::None,
            probed_bars: ProbedBars::Hidden,
        };
        pf.check_alive()?;
        pf.capability = pf.find_capability()?;
        pf.probed_bars = pf.find_probed_bars()?;
        Ok(pf)
    }

    /// The PFs of this machine: the functions with SR-IOV that Linux knows of, in the order of their addresses.
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn list() -> Result<Vec<PciAddress>, VirtualizationError> {
        Self::list_in(Path::new("/sys"))
    }

    /// As [`list`](Self::list), with sysfs mounted elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn list_in(sysfs: &Path) -> Result<Vec<PciAddress>, VirtualizationError> {
        let path = sysfs.join(DEVICES);
        let functions = match fs::read_dir(&path) {
            Ok(functions) => functions,
            // A machine without PCI.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(path, error)),
        };
        let mut found = Vec::new();
        for function in functions {
            let function = function.map_err(|error| failed(path.clone(), error))?;
            let name = function.file_name();
            let address = name.to_str().and_then(|name| name.parse().ok());
            if let Some(address) = address
                && function.path().join("sriov_totalvfs").exists()
            {
                found.push(address);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// The name of its driver; `None` if no driver is bound.
    ///
    /// # Errors
    /// sysfs says what cannot be.
    pub fn driver(&self) -> Result<Option<String>, VirtualizationError> {
        self.directory.link("driver")
    }

    /// Reads its own config space from `offset` on. Returns how many bytes of `data` were filled: those up to the end of what
    /// Linux shows, which is byte 64 without permission, 256 for a function without extended config space, 4096 otherwise.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    pub fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<usize, VirtualizationError> {
        self.check_alive()?;
        self.config(offset, data)
    }

    fn config(&self, offset: u16, data: &mut [u8]) -> Result<usize, VirtualizationError> {
        let left = usize::from(CONFIG_SPACE_SIZE.saturating_sub(offset));
        let length = data.len().min(left);
        let read = self
            .directory
            .bytes("config", offset.into(), &mut data[..length])?;
        read.ok_or(VirtualizationError::Gone)
    }

    /// It is there and answers.
    fn check_alive(&self) -> Result<(), VirtualizationError> {
        let mut header = [0; HEADER];
        let length = self.config(0, &mut header)?;
        if length < HEADER {
            let path = self.directory.path("config");
            let text = format!("{length} bytes");
            return Err(malformed(path, &text, "a config space"));
        }
        // Ids alone do not tell: those of a VF read so, too.
        if header == [0xff; HEADER] {
            return Err(VirtualizationError::Gone);
        }
        Ok(())
    }

    fn check_capable(&self) -> Result<(), VirtualizationError> {
        match self.capability {
            Capability::None => Err(VirtualizationError::NotCapable),
            Capability::At { .. } | Capability::Hidden => Ok(()),
        }
    }

    fn find_capability(&self) -> Result<Capability, VirtualizationError> {
        let mut config = vec![0; CONFIG_SPACE_SIZE.into()];
        let length = self.config(0, &mut config)?;
        config.truncate(length);
        if length < COMPATIBLE_SIZE.into() {
            let offered = self.directory.number("sriov_totalvfs")?;
            return Ok(offered.map_or(Capability::None, |_| Capability::Hidden));
        }
        let found = extended_capability(&config, extended_capability_id::SRIOV)
            .filter(|_| SriovRegisters::find(&config).is_some());
        Ok(found.map_or(Capability::None, |offset| Capability::At {
            offset,
            multi_root: extended_capability(&config, MRIOV).is_some(),
        }))
    }

    /// The SR-IOV registers as they are now; `None` if there are none, or no permission to see them.
    fn registers(&self) -> Result<Option<SriovRegisters>, VirtualizationError> {
        let Capability::At { offset, .. } = self.capability else {
            return Ok(None);
        };
        let mut capability = [0; LENGTH as usize];
        let length = self.config(offset, &mut capability)?;
        if length == 0 {
            // Whoever opened it has given up permission.
            return Ok(None);
        }
        let registers = SriovRegisters::read(offset, &capability[..length]);
        registers.map(Some).ok_or(VirtualizationError::Gone)
    }

    /// How many VFs are enabled.
    fn enabled_vfs(&self) -> Result<u16, VirtualizationError> {
        Ok(self.directory.number("sriov_numvfs")?.unwrap_or_default())
    }

    /// The rows of a `resource` file; `None` if there is no such file.
    fn rows(&self, name: &str) -> Result<Option<Vec<Resource>>, VirtualizationError> {
        self.directory
            .parsed(name, "a list of resources", resources::parse)
    }
}

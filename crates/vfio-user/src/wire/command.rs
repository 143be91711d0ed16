//! The commands of the protocol.

use std::fmt;

/// A command of the vfio-user protocol ("Commands").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Command {
    /// `VFIO_USER_VERSION`
    Version = 1,
    /// `VFIO_USER_DMA_MAP`
    DmaMap = 2,
    /// `VFIO_USER_DMA_UNMAP`
    DmaUnmap = 3,
    /// `VFIO_USER_DEVICE_GET_INFO`
    DeviceGetInfo = 4,
    /// `VFIO_USER_DEVICE_GET_REGION_INFO`
    DeviceGetRegionInfo = 5,
    /// `VFIO_USER_DEVICE_GET_REGION_IO_FDS`
    DeviceGetRegionIoFds = 6,
    /// `VFIO_USER_DEVICE_GET_IRQ_INFO`
    DeviceGetIrqInfo = 7,
    /// `VFIO_USER_DEVICE_SET_IRQS`
    DeviceSetIrqs = 8,
    /// `VFIO_USER_REGION_READ`
    RegionRead = 9,
    /// `VFIO_USER_REGION_WRITE`
    RegionWrite = 10,
    /// `VFIO_USER_DMA_READ`, from the server
    DmaRead = 11,
    /// `VFIO_USER_DMA_WRITE`, from the server
    DmaWrite = 12,
    /// `VFIO_USER_DEVICE_RESET`
    DeviceReset = 13,
    /// `VFIO_USER_REGION_WRITE_MULTI`
    RegionWriteMulti = 15,
    /// `VFIO_USER_DEVICE_FEATURE`
    DeviceFeature = 16,
    /// `VFIO_USER_MIG_DATA_READ`
    MigDataRead = 17,
    /// `VFIO_USER_MIG_DATA_WRITE`
    MigDataWrite = 18,
}

impl Command {
    /// Every command, in the order of its number.
    pub const ALL: [Self; 17] = [
        Self::Version,
        Self::DmaMap,
        Self::DmaUnmap,
        Self::DeviceGetInfo,
        Self::DeviceGetRegionInfo,
        Self::DeviceGetRegionIoFds,
        Self::DeviceGetIrqInfo,
        Self::DeviceSetIrqs,
        Self::RegionRead,
        Self::RegionWrite,
        Self::DmaRead,
        Self::DmaWrite,
        Self::DeviceReset,
        Self::RegionWriteMulti,
        Self::DeviceFeature,
        Self::MigDataRead,
        Self::MigDataWrite,
    ];

    /// The command with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Version,
            2 => Self::DmaMap,
            3 => Self::DmaUnmap,
            4 => Self::DeviceGetInfo,
            5 => Self::DeviceGetRegionInfo,
            6 => Self::DeviceGetRegionIoFds,
            7 => Self::DeviceGetIrqInfo,
            8 => Self::DeviceSetIrqs,
            9 => Self::RegionRead,
            10 => Self::RegionWrite,
            11 => Self::DmaRead,
            12 => Self::DmaWrite,
            13 => Self::DeviceReset,
            15 => Self::RegionWriteMulti,
            16 => Self::DeviceFeature,
            17 => Self::MigDataRead,
            18 => Self::MigDataWrite,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The name in the specification, without `VFIO_USER_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "VERSION",
            Self::DmaMap => "DMA_MAP",
            Self::DmaUnmap => "DMA_UNMAP",
            Self::DeviceGetInfo => "DEVICE_GET_INFO",
            Self::DeviceGetRegionInfo => "DEVICE_GET_REGION_INFO",
            Self::DeviceGetRegionIoFds => "DEVICE_GET_REGION_IO_FDS",
            Self::DeviceGetIrqInfo => "DEVICE_GET_IRQ_INFO",
            Self::DeviceSetIrqs => "DEVICE_SET_IRQS",
            Self::RegionRead => "REGION_READ",
            Self::RegionWrite => "REGION_WRITE",
            Self::DmaRead => "DMA_READ",
            Self::DmaWrite => "DMA_WRITE",
            Self::DeviceReset => "DEVICE_RESET",
            Self::RegionWriteMulti => "REGION_WRITE_MULTI",
            Self::DeviceFeature => "DEVICE_FEATURE",
            Self::MigDataRead => "MIG_DATA_READ",
            Self::MigDataWrite => "MIG_DATA_WRITE",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn every_number_leads_back_to_its_command() {
        let known: Vec<_> = (0..=u16::MAX).filter_map(Command::from_number).collect();
        assert_eq!(known, Command::ALL);
        for command in Command::ALL {
            assert_eq!(Command::from_number(command.number()), Some(command));
        }
    }
}

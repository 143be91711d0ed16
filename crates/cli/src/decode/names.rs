//! Names that the standard gives to capabilities and bits (PCI Code and ID Assignment
//! Specification 1.16, sections 2 and 3; PCI Express Base Specification 5.0, 7.5.1).

use hdv_pci::spec::header::{Command, Status};

/// A capability's name.
pub(super) fn capability(id: u8) -> Option<&'static str> {
    const NAMES: [&str; 0x16] = [
        "Null",
        "Power Management",
        "Accelerated Graphics Port",
        "Vital Product Data",
        "Slot Identification",
        "MSI",
        "CompactPCI Hot Swap",
        "PCI-X",
        "HyperTransport",
        "Vendor-Specific",
        "Debug Port",
        "CompactPCI Central Resource Control",
        "PCI Hot-Plug",
        "Bridge Subsystem Vendor ID",
        "AGP 8x",
        "Secure Device",
        "PCI Express",
        "MSI-X",
        "Serial ATA Data/Index Configuration",
        "Advanced Features",
        "Enhanced Allocation",
        "Flattening Portal Bridge",
    ];
    NAMES.get(usize::from(id)).copied()
}

/// An extended capability's name.
pub(super) fn extended_capability(id: u16) -> Option<&'static str> {
    const NAMES: [&str; 0x30] = [
        "Null",
        "Advanced Error Reporting",
        "Virtual Channel",
        "Device Serial Number",
        "Power Budgeting",
        "Root Complex Link Declaration",
        "Root Complex Internal Link Control",
        "Root Complex Event Collector Endpoint Association",
        "Multi-Function Virtual Channel",
        "Virtual Channel (with MFVC)",
        "Root Complex Register Block Header",
        "Vendor-Specific Extended",
        "Configuration Access Correlation",
        "Access Control Services",
        "Alternative Routing-ID Interpretation",
        "Address Translation Services",
        "Single Root I/O Virtualization",
        "Multi-Root I/O Virtualization",
        "Multicast",
        "Page Request Interface",
        "Reserved for AMD",
        "Resizable BAR",
        "Dynamic Power Allocation",
        "TPH Requester",
        "Latency Tolerance Reporting",
        "Secondary PCI Express",
        "Protocol Multiplexing",
        "Process Address Space ID",
        "LN Requester",
        "Downstream Port Containment",
        "L1 PM Substates",
        "Precision Time Measurement",
        "PCI Express over M-PHY",
        "FRS Queueing",
        "Readiness Time Reporting",
        "Designated Vendor-Specific Extended",
        "VF Resizable BAR",
        "Data Link Feature",
        "Physical Layer 16.0 GT/s",
        "Lane Margining at the Receiver",
        "Hierarchy ID",
        "Native PCIe Enclosure Management",
        "Physical Layer 32.0 GT/s",
        "Alternate Protocol",
        "System Firmware Intermediary",
        "Shadow Functions",
        "Data Object Exchange",
        "Device 3",
    ];
    NAMES.get(usize::from(id)).copied()
}

/// The bits set in the command register.
pub(super) fn command(command: Command) -> Vec<&'static str> {
    [
        (Command::IO_SPACE, "I/O space"),
        (Command::MEMORY_SPACE, "memory space"),
        (Command::BUS_MASTER, "bus master"),
        (Command::PARITY_ERROR_RESPONSE, "parity error response"),
        (Command::SERR_ENABLE, "SERR#"),
        (Command::INTERRUPT_DISABLE, "INTx disabled"),
    ]
    .into_iter()
    .filter_map(|(bit, name)| command.contains(bit).then_some(name))
    .collect()
}

/// The bits set in the status register.
pub(super) fn status(status: Status) -> Vec<&'static str> {
    [
        (Status::INTERRUPT_STATUS, "INTx pending"),
        (Status::CAPABILITIES_LIST, "capabilities"),
        (Status::MASTER_DATA_PARITY_ERROR, "master data parity error"),
        (Status::SIGNALED_TARGET_ABORT, "signaled target abort"),
        (Status::RECEIVED_TARGET_ABORT, "received target abort"),
        (Status::RECEIVED_MASTER_ABORT, "received master abort"),
        (Status::SIGNALED_SYSTEM_ERROR, "signaled system error"),
        (Status::DETECTED_PARITY_ERROR, "detected parity error"),
    ]
    .into_iter()
    .filter_map(|(bit, name)| status.contains(bit).then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_their_ids() {
        assert_eq!(capability(0x01), Some("Power Management"));
        assert_eq!(capability(0x05), Some("MSI"));
        assert_eq!(capability(0x09), Some("Vendor-Specific"));
        assert_eq!(capability(0x10), Some("PCI Express"));
        assert_eq!(capability(0x11), Some("MSI-X"));
        assert_eq!(capability(0x15), Some("Flattening Portal Bridge"));
        assert_eq!(capability(0x16), None);
        for (id, name) in [
            (0x03, "Device Serial Number"),
            (0x0b, "Vendor-Specific Extended"),
            (0x0e, "Alternative Routing-ID Interpretation"),
            (0x10, "Single Root I/O Virtualization"),
            (0x15, "Resizable BAR"),
            (0x1d, "Downstream Port Containment"),
            (0x23, "Designated Vendor-Specific Extended"),
            (0x2e, "Data Object Exchange"),
        ] {
            assert_eq!(extended_capability(id), Some(name));
        }
        assert_eq!(extended_capability(0x30), None);
    }
}

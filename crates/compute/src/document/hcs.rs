//! The properties of HCS's schema 2.4, type by type: which are honoured, and which are not.
//!
//! Beyond that schema are only two things, both of newer ones: the hosting model `ExternalRestricted`, and
//! `ComputeTopology/Memory/Backing`.

use super::shape::{Kind, Shape};

/// `ComputeSystem`.
pub(super) const COMPUTE_SYSTEM: Shape = Shape {
    known: &[
        ("Owner", Kind::Value),
        ("SchemaVersion", Kind::Object(&VERSION)),
        ("ShouldTerminateOnLastHandleClosed", Kind::Value),
        ("VirtualMachine", Kind::Object(&VIRTUAL_MACHINE)),
    ],
    unsupported: &["Container", "HostedSystem", "HostingSystemId"],
    remedies: &[(
        "Container",
        "describe a virtual machine under VirtualMachine",
    )],
};

/// `ModifySettingRequest`, of a device of a device host.
pub(super) const MODIFY_REQUEST: Shape = Shape {
    known: &[
        ("ResourcePath", Kind::Value),
        (
            "RequestType",
            Kind::Word {
                known: &["Add", "Remove"],
                unsupported: &["Update"],
            },
        ),
        ("Settings", Kind::Object(&FLEXIBLE_IO_DEVICE)),
    ],
    unsupported: &["GuestRequest"],
    remedies: &[],
};

const VERSION: Shape = Shape {
    known: &[("Major", Kind::Value), ("Minor", Kind::Value)],
    unsupported: &[],
    remedies: &[],
};

const VIRTUAL_MACHINE: Shape = Shape {
    known: &[
        ("StopOnReset", Kind::Value),
        ("Chipset", Kind::Object(&CHIPSET)),
        ("ComputeTopology", Kind::Object(&TOPOLOGY)),
        ("Devices", Kind::Object(&DEVICES)),
    ],
    unsupported: &[
        "GuestConnection",
        "GuestState",
        "RegistryChanges",
        "RestoreState",
        "Services",
        "StorageQoS",
        "Version",
    ],
    remedies: &[(
        "GuestState",
        "leave it out: UEFI variables live as long as the VM",
    )],
};

const CHIPSET: Shape = Shape {
    known: &[
        ("Uefi", Kind::Object(&UEFI)),
        ("LinuxKernelDirect", Kind::Object(&LINUX_KERNEL_DIRECT)),
    ],
    unsupported: &[
        "BaseBoardSerialNumber",
        "ChassisAssetTag",
        "ChassisSerialNumber",
        "EnableHibernation",
        "IsNumLockDisabled",
        "UseUtc",
    ],
    remedies: &[("UseUtc", "leave it out: the guest's clock is in UTC")],
};

const UEFI: Shape = Shape {
    known: &[],
    unsupported: &[
        "ApplySecureBootTemplate",
        "BootThis",
        "Console",
        "EnableDebugger",
        "SecureBootTemplateId",
        "StopOnBootFailure",
    ],
    remedies: &[(
        "BootThis",
        "leave it out: disks are booted in the order of their controllers' names and their numbers",
    )],
};

const LINUX_KERNEL_DIRECT: Shape = Shape {
    known: &[
        ("KernelFilePath", Kind::Value),
        ("InitRdPath", Kind::Value),
        ("KernelCmdLine", Kind::Value),
    ],
    unsupported: &[],
    remedies: &[],
};

const TOPOLOGY: Shape = Shape {
    known: &[
        ("Memory", Kind::Object(&MEMORY)),
        ("Processor", Kind::Object(&PROCESSOR)),
    ],
    unsupported: &[],
    remedies: &[],
};

const MEMORY: Shape = Shape {
    known: &[
        ("SizeInMB", Kind::Value),
        (
            "Backing",
            Kind::Word {
                known: &["Virtual", "Physical"],
                unsupported: &[],
            },
        ),
        ("AllowOvercommit", Kind::Value),
        // When Windows charges memory to its commit limit.
        ("EnableDeferredCommit", Kind::Hint),
    ],
    unsupported: &[
        "BackingPageSize",
        "DirectMapFaultClusterSizeShift",
        "EnableColdDiscardHint",
        "EnableColdHint",
        "EnableHotHint",
        "FaultClusterSizeShift",
        "ForbidSmallBackingPages",
        "HighMmioBaseInMB",
        "HighMmioGapInMB",
        "LowMmioGapInMB",
        "PinBackingPages",
    ],
    remedies: &[],
};

const PROCESSOR: Shape = Shape {
    known: &[("Count", Kind::Value)],
    unsupported: &[
        "CpuGroup",
        "EnablePerfmonIpt",
        "EnablePerfmonLbr",
        "EnablePerfmonPebs",
        "EnablePerfmonPmu",
        "ExposeVirtualizationExtensions",
        "Limit",
        "MaximumFrequencyMHz",
        "Reservation",
        "Weight",
    ],
    remedies: &[],
};

const DEVICES: Shape = Shape {
    known: &[
        ("ComPorts", Kind::Map(&COM_PORT)),
        ("Scsi", Kind::Map(&SCSI)),
        ("NetworkAdapters", Kind::Map(&NETWORK_ADAPTER)),
        ("FlexibleIov", Kind::Map(&FLEXIBLE_IO_DEVICE)),
    ],
    unsupported: &[
        "Battery",
        "EnhancedModeVideo",
        "GuestCrashReporting",
        "HvSocket",
        "Keyboard",
        "Mouse",
        "Plan9",
        "SharedMemory",
        "VideoMonitor",
        "VirtioSerial",
        "VirtualPMem",
        "VirtualPci",
        "VirtualSmb",
    ],
    remedies: &[("VirtioSerial", "use ComPorts, of which there are four")],
};

const COM_PORT: Shape = Shape {
    known: &[
        ("NamedPipe", Kind::Value),
        // How Windows schedules the port's interrupts.
        ("OptimizeForDebugger", Kind::Hint),
    ],
    unsupported: &[],
    remedies: &[],
};

const SCSI: Shape = Shape {
    known: &[
        ("Attachments", Kind::Map(&ATTACHMENT)),
        // How Hyper-V's own controller signals.
        ("DisableInterruptBatching", Kind::Hint),
    ],
    unsupported: &[],
    remedies: &[],
};

const ATTACHMENT: Shape = Shape {
    known: &[
        (
            "Type",
            Kind::Word {
                known: &["VirtualDisk", "Iso"],
                unsupported: &["PassThru"],
            },
        ),
        ("Path", Kind::Value),
        ("ReadOnly", Kind::Value),
        // Files that Windows refuses without these; no file is refused here for such a reason.
        ("SupportCompressedVolumes", Kind::Hint),
        ("AlwaysAllowSparseFiles", Kind::Hint),
        ("SupportEncryptedFiles", Kind::Hint),
    ],
    unsupported: &["CachingMode"],
    remedies: &[],
};

const NETWORK_ADAPTER: Shape = Shape {
    known: &[
        ("MacAddress", Kind::Value),
        // How Hyper-V's own adapter signals.
        ("DisableInterruptBatching", Kind::Hint),
    ],
    unsupported: &["ConnectionState", "EndpointId", "InstanceId", "IovSettings"],
    remedies: &[(
        "EndpointId",
        "leave it out: every adapter is on a user-mode network of its own",
    )],
};

const FLEXIBLE_IO_DEVICE: Shape = Shape {
    known: &[
        ("EmulatorId", Kind::Value),
        (
            "HostingModel",
            Kind::Word {
                known: &["Internal", "External", "ExternalRestricted"],
                unsupported: &[],
            },
        ),
        ("Configuration", Kind::Value),
    ],
    unsupported: &[],
    remedies: &[],
};

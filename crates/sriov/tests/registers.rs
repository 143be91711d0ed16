//! The capabilities that a PF gets on top of its device's own: where they are, who may write them, and what resets
//! do to them.

mod support;

use hdv::pci::{Port, VfRouting};
use hdv::{
    BarIndex, ConfigWrite, DeviceError, DeviceSerialNumber, Function, GuestMemory, Identity,
    Interrupts, Mmio, PowerManagement, ResetScope,
};
use hdv_sriov::{
    EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, Placement,
    VirtualFunctionSource, VirtualizationError as Error,
};
use hdv_vfio_user::client::Client;
use support::*;

const ARI: u16 = 0x0e;
const SRIOV: u16 = 0x10;

fn function(device: u8, function: u8, ari: bool) -> PfOptions {
    let port = Port::new(5, 6).unwrap().ari_forwarding(ari);
    PfOptions {
        routing: Some(VfRouting {
            first_vf_offset: 256,
            vf_stride: 1,
        }),
        ..PfOptions::new(Placement::new(0, port, device, function).unwrap())
    }
}

#[test]
fn a_device_without_extended_capabilities_gets_them_at_0x100() {
    let served = served();
    let bytes = dump(&served.pf);
    assert_eq!(extended_list(&bytes), [(SRIOV, 0x100), (ARI, 0x140)]);
    assert_eq!(dword(&bytes, 0x100), 0x1401_0010);
    assert_eq!(dword(&bytes, 0x140), 0x0001_000e);
    assert_eq!(dword(&bytes, 0x104), 2, "ARI Capable Hierarchy Preserved");
    assert_eq!(dword(&bytes, 0x108), 0x10, "ARI Capable Hierarchy");
    assert_eq!(dword(&bytes, 0x10c), 8 << 16 | 8);
    assert_eq!(dword(&bytes, 0x110), 0);
    assert_eq!(dword(&bytes, 0x114), 1 << 16 | 1);
    assert_eq!(dword(&bytes, 0x118), u32::from(VF_DEVICE) << 16);
    assert_eq!(dword(&bytes, 0x11c), 0x553);
    assert_eq!(dword(&bytes, 0x120), 1);
    assert_eq!(dword(&bytes, 0x124), 0xc);
    assert!(bytes[0x148..].iter().all(|byte| *byte == 0));
    // The VM that has the PF sees the same.
    let mut client = connect(&served.pf_socket());
    let mut seen = vec![0; 4096];
    client.region_read(CONFIG, 0, &mut seen).unwrap();
    assert_eq!(seen, bytes);
}

#[test]
fn ari_is_the_ports_and_the_function_number_the_pfs() {
    // Whether the port forwards ARI, device and function, the link, ARI Capable Hierarchy and its preservation.
    let cases = [
        (false, 0, 0, 0, 0, 2),
        (false, 3, 0, 0, 0, 2),
        (false, 3, 2, 2, 0, 0),
        (true, 0, 0, 0, 0x10, 2),
        (true, 0, 5, 5, 0, 0),
        (true, 2, 1, 17, 0, 0),
    ];
    for (ari, device, number, link, control, preserved) in cases {
        let author = Author::new(&Lab::default());
        let served = serve(author, function(device, number, ari));
        let bytes = dump(&served.pf);
        let ids: Vec<u16> = extended_list(&bytes).iter().map(|one| one.0).collect();
        assert_eq!(ids.contains(&ARI), ari);
        assert_eq!(dword(&bytes, 0x110), link << 16);
        assert_eq!(dword(&bytes, 0x108), control);
        assert_eq!(dword(&bytes, 0x104), preserved);
    }
}

/// A device with capabilities of its own at 0x100 and behind it.
fn with_own(lab: &Lab) -> Author {
    let mut author = Author::new(lab);
    author.config = Some(|builder| {
        builder
            .extended_capability(DeviceSerialNumber::new(0x1122_3344_5566_7788))
            .registers(0x180, [1, 2, 3, 4], [0xff; 4])
            .registers(0xfb0, [0xaa; 0x50], [0xff; 0x50])
    });
    author
}

#[test]
fn a_device_with_its_own_list_leads_to_them() {
    for started in [false, true] {
        let served = serve(with_own(&Lab::default()), options());
        if started {
            let mut client = connect(&served.pf_socket());
            let _: [u8; 4] = read(&mut client, CONFIG, 0);
        }
        let bytes = dump(&served.pf);
        let list = extended_list(&bytes);
        // Below what the device has at the top.
        assert_eq!(list, [(3, 0x100), (SRIOV, 0xf60), (ARI, 0xfa0)]);
        assert_eq!(dword(&bytes, 0x104), 0x5566_7788);
        assert_eq!(bytes[0x180..0x184], [1, 2, 3, 4]);
        assert_eq!(bytes[0xfb0..], [0xaa; 0x50]);
        // Every way to read gives the same.
        for length in [1, 2, 4, 7, 16, 200] {
            for offset in (0..4096 - length).step_by(if length < 8 { 1 } else { length - 5 }) {
                let mut part = vec![0x5a; length];
                served
                    .pf
                    .config_read(u16::try_from(offset).unwrap(), &mut part)
                    .unwrap();
                assert_eq!(
                    part,
                    bytes[offset..offset + length],
                    "{length} at {offset:#x}"
                );
            }
        }
    }
}

#[test]
fn registers_of_the_device_behind_0x100_stay() {
    let mut author = Author::new(&Lab::default());
    author.config = Some(|builder| builder.registers(0x120, [1, 2, 3, 4], [0xff; 4]));
    let served = serve(author, options());
    let bytes = dump(&served.pf);
    let list = [(0, 0x100), (SRIOV, 0xfb0), (ARI, 0xff0)];
    assert_eq!(extended_list(&bytes), list);
    assert_eq!(bytes[0x120..0x124], [1, 2, 3, 4]);
    served.pf.config_write(0x11c, &[9; 8]).unwrap();
    assert_eq!(dump(&served.pf)[0x11c..0x124], [0, 0, 0, 0, 9, 9, 9, 9]);
}

#[test]
fn writes_that_straddle_their_edges_reach_both_sides() {
    let served = serve(with_own(&Lab::default()), options());
    let pf = &served.pf;
    // From the last VF BAR registers over ARI into the device's own.
    let mut data = [0; 0x94 - 0x30];
    data[..].fill(0x55);
    pf.config_write(0xf60 + 0x30, &data).unwrap();
    let bytes = dump(pf);
    assert_eq!(bytes[0xfb0..0xff4], [0x55; 0x44]);
    assert_eq!(bytes[0xff4..], [0xaa; 12]);
    assert_eq!(extended_list(&bytes).len(), 3);
    // System page size and VF BAR0 in one write, NumVFs and VF Enable in two.
    let mut data = [0; 8];
    data[0] = 0x10;
    data[4..].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
    pf.config_write(0xf80, &data).unwrap();
    let registers = pf.registers();
    assert_eq!(registers.system_page_size, 0x1_0000);
    let bar = registers.vf_bars[0].unwrap();
    assert_eq!((bar.address, bar.bar.size), (0xdead_0000, 0x1_0000));
    pf.config_write(0xf70, &[3]).unwrap();
    pf.config_write(0xf68, &[0x11, 0]).unwrap();
    assert_eq!(agree(pf).active_vfs(), 3);
    // One write that clears VF Enable, then changes NumVFs, as dwords in order do.
    let mut data = [0; 12];
    data[8] = 5;
    pf.config_write(0xf68, &data).unwrap();
    let registers = agree(pf);
    assert_eq!((registers.active_vfs(), registers.num_vfs), (0, 5));
    assert!(!registers.ari_capable_hierarchy || registers.num_vfs == 5);
}

/// A function that shows an extended capability only from its first start on, as one behind callbacks does.
struct Late {
    inner: Box<dyn Function>,
    started: bool,
}

impl Function for Late {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }
    fn bar_size(&self, bar: BarIndex) -> u64 {
        self.inner.bar_size(bar)
    }
    fn memory(&self) -> &GuestMemory {
        self.inner.memory()
    }
    fn interrupts(&self) -> &Interrupts {
        self.inner.interrupts()
    }
    fn mmio(&self) -> &Mmio {
        self.inner.mmio()
    }
    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError> {
        self.inner.power_on(configuration)
    }
    fn start(&mut self) -> Result<(), DeviceError> {
        self.started = true;
        self.inner.start()
    }
    fn stop(&mut self) {
        self.inner.stop();
    }
    fn teardown(&mut self) {
        self.inner.teardown();
    }
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.inner.config_read(offset, data);
        if self.started {
            // A circle of two, which must not be followed for ever.
            for (header, next) in [(0x100_u16, 0x200_u32), (0x200, 0x100)] {
                let bytes = (0x1_000b | next << 20).to_le_bytes();
                for (at, byte) in (offset..).zip(&mut *data) {
                    if let Some(lane) = at.checked_sub(header).filter(|lane| *lane < 4) {
                        *byte = bytes[usize::from(lane)];
                    }
                }
            }
        }
    }
    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.inner.config_write(offset, data)
    }
    fn config_read_as_vf(&mut self, offset: u16, data: &mut [u8]) {
        self.inner.config_read_as_vf(offset, data);
    }
    fn config_write_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.inner.config_write_as_vf(offset, data)
    }
    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        self.inner.bar_read(bar, offset, data);
    }
    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        self.inner.bar_write(bar, offset, data);
    }
    fn reset(&mut self, scope: ResetScope) {
        self.inner.reset(scope);
    }
}

struct NoVfs;

impl VirtualFunctionSource for NoVfs {
    fn create(&mut self, _: u16) -> Result<Box<dyn Function>, DeviceError> {
        Err(DeviceError::new("none here"))
    }
}

#[test]
fn a_device_that_shows_its_list_late_is_followed() {
    let served = served();
    let lab = Lab::default();
    let inner = hdv::pci_function(Box::new(Device::new(Pf, &lab))).unwrap();
    let ids = hdv::DeviceIds {
        class_id: hdv::Uuid::from_u128(1),
        instance_id: hdv::Uuid::from_u128(3),
    };
    let pf = EmulatedPf::create(
        &served.host,
        ids,
        Box::new(Late {
            inner,
            started: false,
        }),
        &hdv_sriov::VirtualFunctionLayout::new(2, VF_DEVICE),
        Box::new(NoVfs),
        guest_controls(),
    )
    .unwrap();
    let system = hdv::SocketDirectory::open(served.directory.path()).unwrap();
    let socket = system.socket(ids.instance_id);
    served.host.attach(std::sync::Arc::new(system)).unwrap();
    served.host.announce(pf.instance().id()).unwrap();
    assert_eq!(extended_list(&dump(&pf)), [(SRIOV, 0x100), (ARI, 0x140)]);
    pf.config_write(0x110, &[1]).unwrap();
    let mut client = connect(&socket);
    let mut bytes = vec![0; 4096];
    client.region_read(CONFIG, 0, &mut bytes).unwrap();
    let list = extended_list(&bytes);
    assert!(
        list.contains(&(SRIOV, 0xfb0)) && list.contains(&(ARI, 0xff0)),
        "{list:x?}"
    );
    assert_eq!(dword(&bytes, 0xfb0 + 0x10), 1, "the same registers");
    // VFs that cannot be made: VF Enable stays clear, and the VM goes on.
    client.region_write(CONFIG, 0xfb8, &[0x11]).unwrap();
    assert_eq!(read(&mut client, CONFIG, 0xfb8), [0x10]);
    assert_eq!(pf.registers().active_vfs(), 0);
}

fn flr(client: &mut Client) {
    let [mut at] = read::<1>(client, CONFIG, 0x34);
    loop {
        let [id, next] = read(client, CONFIG, at.into());
        if id == 0x10 {
            break;
        }
        at = next;
    }
    let control = u64::from(at) + 8;
    let [low, high] = read(client, CONFIG, control);
    client
        .region_write(CONFIG, control, &[low, high | 0x80])
        .unwrap();
}

/// What a VM can do to reset the PF that it has.
fn resets() -> [fn(Client); 3] {
    [
        |mut client| flr(&mut client),
        |mut client| client.reset().unwrap(),
        drop,
    ]
}

#[test]
fn a_vm_that_may_not_changes_nothing() {
    let served = served();
    let pf = &served.pf;
    let mut client = connect(&served.pf_socket());
    pf.enable_virtualization(EnableVirtualization::enable(3))
        .unwrap();
    let before = dump(pf);
    // Everything in the capabilities, in every width.
    for width in [1, 2, 4, 8, 64] {
        for offset in (0x100..0x148).step_by(width) {
            for byte in [0xff, 0, 0x11] {
                client
                    .region_write(CONFIG, offset, &vec![byte; width])
                    .unwrap();
            }
        }
    }
    assert_eq!(dump(pf), before);
    drop(client);
    for reset in resets() {
        wait_for("a leaving", || !pf.instance().has_client());
        served.lab.take();
        let mut client = connect(&served.pf_socket());
        client.region_write(CONFIG, 4, &[6]).unwrap();
        reset(client);
        wait_for("a reset and a leaving", || {
            served.lab.count((Pf, Reset)) > 0 && !pf.instance().has_client()
        });
        assert_eq!(agree(pf).active_vfs(), 3);
        assert!(served.lab.log().iter().all(|one| one.0 == Pf));
    }
    let mut vf = served.connect_vf(2);
    write64(&mut vf, PLAIN, 3);
    assert_eq!(read64(&mut vf, PLAIN), 3);
}

#[test]
fn a_vm_that_may_controls_its_vfs() {
    let served = serve(Author::new(&Lab::default()), guest_controls());
    let pf = &served.pf;
    for reset in resets() {
        let mut client = connect(&served.pf_socket());
        client.region_write(CONFIG, 4, &[6]).unwrap();
        client.region_write(CONFIG, 0x110, &[4, 0]).unwrap();
        client.region_write(CONFIG, 0x120, &[0x10]).unwrap();
        client.region_write(CONFIG, 0x108, &[0x19, 0]).unwrap();
        assert_eq!(agree(pf).active_vfs(), 4);
        let error = pf
            .enable_virtualization(EnableVirtualization::enable(2))
            .unwrap_err();
        assert!(matches!(error, Error::AlreadyEnabled { num_vfs: 4 }));
        let mut vf = served.connect_vf(3);
        write64(&mut vf, PLAIN, 3);
        // NumVFs is fixed now.
        client.region_write(CONFIG, 0x110, &[8, 0]).unwrap();
        assert_eq!(agree(pf).num_vfs, 4);
        // Another width that clears VF Enable.
        client.region_write(CONFIG, 0x108, &[0x18]).unwrap();
        assert_eq!(agree(pf).active_vfs(), 0);
        assert_eq!(read64(&mut vf, PLAIN), u64::MAX);
        client.region_write(CONFIG, 0x108, &[0x19]).unwrap();
        assert_eq!(served.sockets().len(), 5);
        served.lab.take();
        reset(client);
        wait_for("a leaving", || !pf.instance().has_client());
        let registers = agree(pf);
        assert_eq!((registers.active_vfs(), registers.num_vfs), (0, 0));
        assert_eq!(registers.system_page_size, 4096);
        assert!(!registers.vf_mse && registers.ari_capable_hierarchy);
        let ends: Vec<_> = served.lab.take();
        let ends: Vec<_> = ends.into_iter().filter(|one| one.1 == Teardown).collect();
        assert_eq!(ends, [0, 1, 2, 3].map(|vf| (Vf(vf), Teardown)));
        assert_eq!(served.sockets(), ["pf.sock"]);
    }
}

#[test]
fn a_reset_before_use_is_a_reset_too() {
    let served = serve(Author::new(&Lab::default()), guest_controls());
    served
        .pf
        .enable_virtualization(EnableVirtualization::enable(2))
        .unwrap();
    let mut client = connect(&served.pf_socket());
    client.reset().unwrap();
    assert_eq!(agree(&served.pf).active_vfs(), 0);
    assert_eq!(served.lab.count((Pf, Reset)), 0, "of the registers only");
}

#[test]
fn resets_treat_ari_capable_hierarchy_as_software_finds_it() {
    for controls in [false, true] {
        let options = if controls {
            guest_controls()
        } else {
            options()
        };
        let served = serve(Author::new(&Lab::default()), options);
        let pf = &served.pf;
        let ari = || agree(pf).ari_capable_hierarchy;
        assert!(ari());
        pf.config_write(0x108, &[0]).unwrap();
        assert!(!ari());
        // It survives a function level reset, by the owner here.
        let express = usize::from(dump(pf)[0x34]);
        assert_eq!(dump(pf)[express], 0x10);
        let control = u16::try_from(express + 9).unwrap();
        pf.config_write(control, &[0x80]).unwrap();
        assert_eq!(served.lab.count((Pf, Reset)), 1);
        assert!(!ari());
        // After a conventional one software finds a port that forwards ARI.
        pf.enable_virtualization(EnableVirtualization::enable(2))
            .unwrap();
        pf.reset().unwrap();
        assert_eq!(served.lab.count((Pf, Reset)), 2);
        assert_eq!(agree(pf).active_vfs(), 0);
        assert!(ari());
        // The owner's function level reset disables, whoever controls.
        pf.enable_virtualization(EnableVirtualization::enable(2))
            .unwrap();
        pf.config_write(control, &[0x80]).unwrap();
        assert_eq!(agree(pf).active_vfs(), 0);
        assert!(ari());
    }
}

#[test]
fn waking_from_d3hot_is_a_reset() {
    for controls in [false, true] {
        let mut author = Author::new(&Lab::default());
        author.config =
            Some(|builder| builder.capability(PowerManagement::new().with_soft_reset()));
        let options = if controls {
            guest_controls()
        } else {
            options()
        };
        let served = serve(author, options);
        let pf = &served.pf;
        pf.enable_virtualization(EnableVirtualization::enable(2))
            .unwrap();
        let bytes = dump(pf);
        let mut at = bytes[0x34];
        while bytes[usize::from(at)] != 1 {
            at = bytes[usize::from(at) + 1];
        }
        let mut client = connect(&served.pf_socket());
        let control = u64::from(at) + 4;
        client.region_write(CONFIG, control, &[3, 0]).unwrap();
        assert_eq!(agree(pf).active_vfs(), 2);
        client.region_write(CONFIG, control, &[0, 0]).unwrap();
        assert_eq!(served.lab.count((Pf, Reset)), 1);
        assert_eq!(agree(pf).active_vfs(), if controls { 0 } else { 2 });
    }
}

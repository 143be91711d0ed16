//! What the tests share: a PF with VFs that record their lives, hosts that serve it, waits.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdv::pci::{Port, SriovView};
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, DeviceHost, GuestAddress, HostOptions, Identity, Msix, PciDevice, PciExpress,
};
use hdv_sriov::{
    EmulatedPf, PfOptions, PhysicalFunction, Placement, VirtualFunctionLayout, VirtualFunctions,
};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;

/// Longer than anything takes; a wait that lasts this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const BAR0: u32 = vfio::region::BAR0;
pub const CONFIG: u32 = vfio::region::CONFIG;
pub const VENDOR: u16 = 0x4f48;
pub const PF_DEVICE: u16 = 0x7001;
pub const VF_DEVICE: u16 = 0x7002;
pub const TOTAL: u16 = 8;
/// BAR0 of a VF.
pub const VF_BAR: Bar = Bar::memory64(0x4000).prefetchable();
/// Registers in BAR0 of both: plain, what was read from guest memory at the address written, the vector written is
/// signalled.
pub const PLAIN: u64 = 0;
pub const FETCH: u64 = 8;
pub const SIGNAL: u64 = 0x10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    Pf,
    Vf(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Create,
    Initialize,
    Start,
    Stop,
    Read,
    Write,
    Reset,
    Teardown,
    Drop,
}

pub use Event::{Create, Drop as Dropped, Initialize, Read, Reset, Start, Stop, Teardown, Write};
pub use Who::{Pf, Vf};

type Hook = Arc<dyn Fn(Who, Event) -> Result<(), DeviceError> + Send + Sync>;

/// What a test sees of PF and VFs from outside, and how it meddles.
#[derive(Clone, Default)]
pub struct Lab(Arc<Inside>);

#[derive(Default)]
struct Inside {
    log: Mutex<Vec<(Who, Event)>>,
    hook: Mutex<Option<Hook>>,
    contexts: Mutex<BTreeMap<Who, DeviceContext>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lab {
    /// What happened since the last look.
    pub fn take(&self) -> Vec<(Who, Event)> {
        std::mem::take(&mut lock(&self.0.log))
    }

    pub fn log(&self) -> Vec<(Who, Event)> {
        lock(&self.0.log).clone()
    }

    pub fn count(&self, what: (Who, Event)) -> usize {
        self.log().into_iter().filter(|one| *one == what).count()
    }

    /// Calls `hook` in each call into a device, which fails with its error where it can.
    pub fn hook(
        &self,
        hook: impl Fn(Who, Event) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) {
        *lock(&self.0.hook) = Some(Arc::new(hook));
    }

    /// What the last one of that kind got at power-on.
    pub fn context(&self, who: Who) -> DeviceContext {
        lock(&self.0.contexts)
            .get(&who)
            .expect("powered on")
            .clone()
    }

    pub fn unhook(&self) {
        *lock(&self.0.hook) = None;
    }

    fn note(&self, who: Who, event: Event) -> Result<(), DeviceError> {
        lock(&self.0.log).push((who, event));
        let hook = lock(&self.0.hook).clone();
        hook.map_or(Ok(()), |hook| hook(who, event))
    }
}

pub fn identity(device_id: u16) -> Identity {
    Identity {
        vendor_id: VENDOR,
        device_id,
        revision_id: 3,
        class: ClassCode::from_u24(0x11_8000),
        subsystem_vendor_id: VENDOR,
        subsystem_id: 9,
    }
}

/// A PF or a VF.
pub struct Device {
    pub who: Who,
    pub lab: Lab,
    pub identity: Identity,
    pub bar: Bar,
    pub more_bars: Vec<(BarIndex, Bar)>,
    context: Option<DeviceContext>,
    plain: u64,
}

impl Device {
    pub fn new(who: Who, lab: &Lab) -> Self {
        let device_id = if who == Pf { PF_DEVICE } else { VF_DEVICE };
        Self {
            who,
            lab: lab.clone(),
            identity: identity(device_id),
            bar: VF_BAR,
            more_bars: Vec::new(),
            context: None,
            plain: 0,
        }
    }

    fn builder(&self) -> hdv::ConfigSpaceBuilder {
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        let builder = ConfigSpace::builder(self.identity).bar(BarIndex::BAR0, self.bar);
        let more = self.more_bars.iter();
        more.fold(builder, |builder, (index, bar)| builder.bar(*index, *bar))
            .capability(PciExpress::endpoint())
            .capability(Msix::new(2, place(0x800), place(0xc00)))
    }

    fn note(&self, event: Event) {
        let _ = self.lab.note(self.who, event);
    }
}

impl PciDevice for Device {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.builder().build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        lock(&self.lab.0.contexts).insert(self.who, context.clone());
        self.context = Some(context);
        self.lab.note(self.who, Initialize)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.lab.note(self.who, Start)
    }

    fn stop(&mut self) {
        self.note(Stop);
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.note(Read);
        if access.offset == PLAIN {
            self.plain
        } else {
            0
        }
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.note(Write);
        let Some(context) = &self.context else {
            return;
        };
        match access.offset {
            PLAIN => self.plain = value,
            FETCH => {
                let mut bytes = [0xff; 8];
                let _ = context.memory.read(GuestAddress(value), &mut bytes);
                self.plain = u64::from_le_bytes(bytes);
            }
            SIGNAL => {
                let _ = context.interrupts.signal(u16::try_from(value).unwrap_or(0));
            }
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.note(Reset);
        self.plain = 0;
    }

    fn teardown(&mut self) {
        self.note(Teardown);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        lock(&self.lab.0.log).push((self.who, Dropped));
    }
}

type Change<T> = Box<dyn FnMut(u16, &mut T) + Send>;

/// The PF.
pub struct Author {
    pub device: Device,
    pub layout: VirtualFunctionLayout,
    /// Builds its config space where that is not the usual one.
    pub config: Option<fn(hdv::ConfigSpaceBuilder) -> hdv::ConfigSpaceBuilder>,
    /// Changes a VF before it is handed out.
    pub change: Option<Change<Device>>,
    /// What it was given.
    pub seen: Arc<Mutex<Option<VirtualFunctions>>>,
}

impl Author {
    pub fn new(lab: &Lab) -> Self {
        Self {
            device: Device::new(Pf, lab),
            layout: VirtualFunctionLayout::new(TOTAL, VF_DEVICE).bar(BarIndex::BAR0, VF_BAR),
            config: None,
            change: None,
            seen: Arc::default(),
        }
    }

    pub fn total(lab: &Lab, total_vfs: u16) -> Self {
        let mut author = Self::new(lab);
        author.layout.total_vfs = total_vfs;
        author
    }
}

impl PciDevice for Author {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let builder = self.device.builder();
        match self.config {
            Some(change) => change(builder).build(),
            None => builder.build(),
        }
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        assert!(lock(&self.seen).is_some(), "attached before");
        self.device.initialize(context)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.device.start()
    }

    fn stop(&mut self) {
        self.device.stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.device.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.device.write(access, value);
    }

    fn reset(&mut self) {
        self.device.reset();
    }

    fn teardown(&mut self) {
        self.device.teardown();
    }
}

impl PhysicalFunction for Author {
    fn virtual_functions(&self) -> VirtualFunctionLayout {
        self.layout.clone()
    }

    fn attach_virtual_functions(&mut self, virtual_functions: VirtualFunctions) {
        *lock(&self.seen) = Some(virtual_functions);
    }

    fn create_virtual_function(&mut self, vf: u16) -> Result<Box<dyn PciDevice>, DeviceError> {
        self.device.lab.note(Vf(vf), Create)?;
        let mut device = Device::new(Vf(vf), &self.device.lab);
        if let Some(change) = &mut self.change {
            change(vf, &mut device);
        }
        Ok(Box::new(device))
    }
}

/// 05:00.0 below a port that forwards ARI and captures one more bus.
pub fn placement() -> Placement {
    place(Port::new(5, 6).unwrap().ari_forwarding(true))
}

pub fn place(port: Port) -> Placement {
    Placement::new(0x2, port, 0, 0).unwrap()
}

pub fn options() -> PfOptions {
    PfOptions::new(placement())
}

pub fn guest_controls() -> PfOptions {
    PfOptions {
        guest_controls_sriov: true,
        ..options()
    }
}

/// A host with one PF.
pub struct Served {
    pub pf: EmulatedPf,
    pub lab: Lab,
    pub host: DeviceHost,
    pub directory: tempfile::TempDir,
}

/// Without a control socket: that is in a directory that all tests share.
pub fn host() -> DeviceHost {
    DeviceHost::new(HostOptions::new().control(false)).expect("a host")
}

pub fn serve(author: Author, options: PfOptions) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let lab = author.device.lab.clone();
    let host = host();
    let socket = directory.path().join("pf.sock");
    let pf = EmulatedPf::serve(&host, socket, "pf", Box::new(author), options).expect("served");
    Served {
        pf,
        lab,
        host,
        directory,
    }
}

pub fn served() -> Served {
    serve(Author::new(&Lab::default()), options())
}

impl Served {
    pub fn pf_socket(&self) -> PathBuf {
        self.directory.path().join("pf.sock")
    }

    pub fn vf_socket(&self, vf: u16) -> PathBuf {
        self.directory.path().join(format!("pf-vf{vf}.sock"))
    }

    pub fn connect_vf(&self, vf: u16) -> Client {
        connect(&self.vf_socket(vf))
    }

    /// The sockets that there are.
    pub fn sockets(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sock"))
            .collect();
        names.sort();
        names
    }
}

pub fn connect(socket: &Path) -> Client {
    let options = ClientOptions::default().with_reply_timeout(Some(PATIENCE));
    Client::connect(socket, options).expect("a connection")
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn read<const N: usize>(client: &mut Client, region: u32, offset: u64) -> [u8; N] {
    let mut data = [0x5a; N];
    client.region_read(region, offset, &mut data).expect("read");
    data
}

pub fn read64(client: &mut Client, offset: u64) -> u64 {
    u64::from_le_bytes(read(client, BAR0, offset))
}

pub fn write64(client: &mut Client, offset: u64, value: u64) {
    client
        .region_write(BAR0, offset, &value.to_le_bytes())
        .expect("written");
}

/// Config space as the owner sees it.
pub fn dump(pf: &EmulatedPf) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    pf.config_read(0, &mut bytes).expect("read");
    bytes
}

pub fn dword(bytes: &[u8], offset: u16) -> u32 {
    let at = usize::from(offset);
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The extended capabilities that a dump shows: id and offset.
pub fn extended_list(bytes: &[u8]) -> Vec<(u16, u16)> {
    let mut list = Vec::new();
    let mut at = 0x100;
    while at != 0 {
        let header = dword(bytes, at);
        if header == 0 {
            break;
        }
        assert!(list.len() < 100, "a circle");
        list.push(((header & 0xffff) as u16, at));
        at = (header >> 20) as u16;
    }
    list
}

/// Where the SR-IOV capability is.
pub fn sriov_at(bytes: &[u8]) -> u16 {
    let list = extended_list(bytes);
    list.iter().find(|one| one.0 == 0x10).expect("SR-IOV").1
}

/// Registers, interface, VFs and sockets say the same of what is enabled.
pub fn agree(pf: &EmulatedPf) -> SriovView {
    let registers = pf.registers();
    let active = usize::from(registers.active_vfs());
    assert_eq!(pf.virtual_functions().count(), active);
    let bytes = dump(pf);
    let base = sriov_at(&bytes);
    let control = dword(&bytes, base + 8);
    let num_vfs = dword(&bytes, base + 0x10) & 0xffff;
    assert_eq!(control & 1 != 0, registers.vf_enable);
    assert_eq!(num_vfs, u32::from(registers.num_vfs));
    registers
}

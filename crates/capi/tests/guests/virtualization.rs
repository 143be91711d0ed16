//! Virtual functions of a physical function that is made of C callbacks, each with a guest of its own.

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use computecore::types::{
    Guid, HdvDevice, HdvHost, Hresult, PciVirtualizationInterface, PhysicalFunction,
};
use computecore::{
    HdvCreateSectionBackedMmioRange, HdvDeliverGuestInterrupt, HdvDestroyGuestMemoryAperture,
    HdvDestroySectionBackedMmioRange, HdvRegisterDoorbell, HdvTeardownDeviceHost,
    HdvUnregisterDoorbell, OpenHdvCreatePhysicalFunction, OpenHdvQueryPciVirtualizationInterface,
    codes,
};
use hdv::Uuid;
use hdv_vfio_user::client::Client;

use crate::device::{Call, State, TABLE, host_on, lock};
use crate::guest::{
    BAR0, BAR2, CONFIG, connect, enable, event, give_memory, memfd, read, taken, wait_for, write,
};
use crate::interrupts::enable_msix;
use crate::memory::{aperture, read_memory, write_memory};

const SUCCESS: i32 = 0;
const INVALID_DEVICE_STATE: i32 = 0xc000_0184_u32.cast_signed();
const POSSIBLE_DEADLOCK: i32 = 0xc000_0194_u32.cast_signed();
/// `GUID_PCI_VIRTUALIZATION_INTERFACE`.
const INTERFACE: u128 = 0x6489_7b47_3a4a_4d75_bc74_89dd_6c07_8293;

/// Ids of PF and VFs, as the table's device has them.
const IDS: [u8; 4] = [0x48, 0x4f, 0x02, 0x7f];
const PROBED_BARS: [u32; 6] = [0xffff_c000, 0, 0xffff_8000, 0, 0, 0];
const TOTAL_VFS: u16 = 7;
const AT: u64 = 0x10_0000;
const SIZE: u64 = 0x4000;

/// Offsets in the SR-IOV capability, and its id (9.3.3).
const SRIOV_ID: u16 = 0x10;
const CONTROL: u64 = 0x08;
const NUM_VFS: u64 = 0x10;
const FIRST_EXTENDED: u16 = 0x100;
const VF_ENABLE_AND_MSE: u16 = 0x9;

/// A PF and the VFs that it supplied. Its callbacks' context is the first member.
#[repr(C)]
struct Pf {
    state: State,
    vfs: Mutex<Vec<Arc<State>>>,
}

unsafe extern "C-unwind" fn supply(
    context: *mut c_void,
    vf: u16,
    device: HdvDevice,
    interface: *mut *const c_void,
    vf_context: *mut *mut c_void,
) -> Hresult {
    // SAFETY: the context is a PF that outlives its calls.
    let pf = unsafe { &*context.cast::<Pf>() };
    let state = Arc::new(State::new());
    state.handle.store(device, Ordering::SeqCst);
    let mut vfs = lock(&pf.vfs);
    vfs.truncate(vf.into());
    // SAFETY: the library's places; the state lives as long as the PF does not supply it anew, which is after
    // its Teardown.
    unsafe {
        interface.write((&raw const TABLE).cast());
        vf_context.write(Arc::as_ptr(&state).cast_mut().cast());
    }
    vfs.push(state);
    codes::S_OK
}

/// A host with a PF, and the interface to its VFs.
struct Served {
    host: HdvHost,
    pf: Arc<Pf>,
    table: PciVirtualizationInterface,
    instance: Uuid,
    directory: tempfile::TempDir,
}

fn serve(guest_controls_sriov: bool) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let host = host_on(directory.path());
    let instance = Uuid::from_u128(0x5eed);
    let ids = Guid::from_uuid(instance);
    let pf = Arc::new(Pf {
        state: State::new(),
        vfs: Mutex::default(),
    });
    let description = PhysicalFunction {
        version: 1,
        supported_page_sizes: 0,
        probed_bars: PROBED_BARS,
        segment: 0,
        total_vfs: TOTAL_VFS,
        virtual_function_device_id: 0x7f02,
        device: 0,
        function: 0,
        secondary_bus: 1,
        subordinate_bus: 1,
        ari_forwarding: 0,
        guest_controls_sriov: guest_controls_sriov.into(),
        reserved: 0,
        supply_virtual_function: Some(supply),
    };
    let mut device = null_mut();
    // SAFETY: everything is valid; the PF outlives its device, see `Served::drop`.
    let created = unsafe {
        OpenHdvCreatePhysicalFunction(
            host,
            &raw const ids,
            &raw const ids,
            (&raw const TABLE).cast(),
            Arc::as_ptr(&pf).cast_mut().cast(),
            &raw const description,
            &raw mut device,
        )
    };
    assert_eq!(created, codes::S_OK);
    pf.state.handle.store(device, Ordering::SeqCst);
    Served {
        host,
        pf,
        table: query(device),
        instance,
        directory,
    }
}

fn query(device: HdvDevice) -> PciVirtualizationInterface {
    let interface = Guid::from_uuid(Uuid::from_u128(INTERFACE));
    let mut table = std::mem::MaybeUninit::<PciVirtualizationInterface>::zeroed();
    // SAFETY: everything is valid.
    let status = unsafe {
        OpenHdvQueryPciVirtualizationInterface(
            device,
            &raw const interface,
            80,
            1,
            table.as_mut_ptr(),
        )
    };
    assert_eq!(status, SUCCESS);
    // SAFETY: filled in.
    unsafe { table.assume_init() }
}

impl Served {
    fn set_vfs(&self, count: u16) -> i32 {
        let routine = self.table.enable_virtualization.expect("a routine");
        // SAFETY: its own context.
        unsafe { routine(self.table.context, count, 0, 0, (count != 0).into()) }
    }

    fn vf_data<const N: usize>(&self, vf: u16, offset: u32) -> Option<[u8; N]> {
        let routine = self.table.get_virtual_function_data.expect("a routine");
        let mut data = [0x5a; N];
        let length = u32::try_from(N).expect("small");
        // SAFETY: the buffer has that length.
        let bytes = unsafe {
            routine(
                self.table.context,
                vf,
                data.as_mut_ptr().cast(),
                offset,
                length,
            )
        };
        (bytes == length).then_some(data)
    }

    fn vf(&self, vf: usize) -> Arc<State> {
        Arc::clone(&lock(&self.pf.vfs)[vf])
    }

    fn handle(&self, vf: usize) -> HdvDevice {
        self.vf(vf).handle.load(Ordering::SeqCst)
    }

    fn socket(&self, vf: u16) -> PathBuf {
        let name = format!("{}-vf{vf}.sock", self.instance);
        self.directory.path().join(name)
    }

    fn connect_pf(&self) -> Client {
        connect(
            &self
                .directory
                .path()
                .join(format!("{}.sock", self.instance)),
        )
    }

    /// A guest that has started a VF.
    fn guest(&self, vf: u16) -> Client {
        let mut client = connect(&self.socket(vf));
        enable(&mut client);
        client
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // SAFETY: its own context.
        unsafe { self.table.interface_dereference.expect("a routine")(self.table.context) };
        let result = HdvTeardownDeviceHost(self.host);
        if !std::thread::panicking() {
            // Torn down here, or by the test.
            assert!([codes::S_OK, codes::E_HANDLE].contains(&result));
        }
    }
}

#[test]
fn a_guest_sees_a_complete_function_and_the_interface_what_sriov_leaves() {
    let served = serve(false);
    assert_eq!(served.set_vfs(2), SUCCESS);
    let mut client = connect(&served.socket(1));
    assert_eq!(read(&mut client, CONFIG, 0), IDS);
    write(&mut client, CONFIG, 0x10, &[0xff; 4]);
    write(&mut client, CONFIG, 0x18, &[0xff; 4]);
    assert_eq!(
        read(&mut client, CONFIG, 0x10),
        PROBED_BARS[0].to_le_bytes()
    );
    assert_eq!(
        read(&mut client, CONFIG, 0x18),
        PROBED_BARS[2].to_le_bytes()
    );
    // One function: what the guest enabled is enabled there too, but for what a VF does not have.
    enable(&mut client);
    assert_eq!(served.vf_data(1, 0), Some([0xff; 4]));
    assert_eq!(served.vf_data(1, 0x10), Some([0; 24]));
    assert_eq!(served.vf_data(1, 4), Some([4, 0]));
    assert_eq!(read(&mut client, CONFIG, 4), [6, 0]);
    // Its MSI-X capability is the device's own.
    assert_eq!(served.vf_data(1, 0x34), Some([0x40]));
    assert_eq!(served.vf_data::<2>(1, 0x40).map(|data| data[0]), Some(0x11));
    // Nobody used the other one.
    assert_eq!(served.vf(0).calls(), []);
}

#[test]
fn a_vf_is_powered_on_for_its_first_client() {
    let served = serve(false);
    assert_eq!(served.set_vfs(1), SUCCESS);
    let state = served.vf(0);
    assert_eq!(state.calls(), []);
    let mut client = connect(&served.socket(0));
    let power_on = [Call::Initialize, Call::SetConfiguration, Call::GetDetails];
    assert_eq!(state.calls(), power_on);
    enable(&mut client);
    assert_eq!(state.calls().last(), Some(&Call::Start));
    drop(client);
    wait_for("Stop", || state.calls().last() == Some(&Call::Stop));
    assert_eq!(served.set_vfs(0), SUCCESS);
    let life = [
        power_on.as_slice(),
        &[Call::Start, Call::Stop, Call::Teardown],
    ]
    .concat();
    assert_eq!(state.calls(), life);
}

#[test]
fn each_vf_has_the_memory_interrupts_and_doorbells_of_its_guest() {
    let served = serve(false);
    assert_eq!(served.set_vfs(2), SUCCESS);
    let mut clients = [0, 1].map(|vf| served.guest(vf));
    let handles = [0, 1].map(|vf| served.handle(vf));
    assert_ne!(handles[0], handles[1]);
    let memory: Vec<_> = clients
        .iter_mut()
        .map(|client| give_memory(client, AT, SIZE))
        .collect();
    for (handle, text) in handles.iter().zip([b"first ", b"second"]) {
        assert_eq!(write_memory(*handle, AT, text), codes::S_OK);
    }
    for (file, text) in memory.iter().zip([b"first ", b"second"]) {
        let mut found = [0; 6];
        assert_eq!(rustix::io::pread(file, &mut found, 0), Ok(6));
        assert_eq!(&found, text);
    }
    let mut found = [0; 6];
    assert_eq!(read_memory(handles[1], AT, &mut found), codes::S_OK);
    assert_eq!(&found, b"second");
    let (result, mapped) = aperture(handles[0], AT, 6, true);
    assert_eq!(result, codes::S_OK);
    // SAFETY: six bytes are mapped.
    assert_eq!(unsafe { std::slice::from_raw_parts(mapped, 6) }, b"first ");

    let events: Vec<_> = clients.iter_mut().map(enable_msix).collect();
    let (address, data) = served.vf(1).message(0);
    let delivered = HdvDeliverGuestInterrupt(handles[1], address, data);
    assert_eq!(delivered, codes::S_OK);
    let fired: Vec<u64> = events.iter().flatten().map(taken).collect();
    assert_eq!(fired, [0, 0, 1, 0]);

    let rung = event();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&rung.as_fd());
    let event_handle = std::ptr::without_provenance_mut(usize::try_from(descriptor).expect("open"));
    let registered = HdvRegisterDoorbell(handles[0], 0, 0x20, 7, 0, event_handle);
    assert_eq!(registered, codes::S_OK);
    for client in &mut clients {
        write(client, BAR0, 0x20, &7u32.to_le_bytes());
    }
    assert_eq!(taken(&rung), 1);
    assert!(served.vf(1).calls().contains(&Call::Write(0, 0x20, 4)));
    assert!(!served.vf(0).calls().contains(&Call::Write(0, 0x20, 4)));

    let section = memfd(0x1000);
    assert_eq!(rustix::io::pwrite(&section, b"shared", 0), Ok(6));
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&section.as_fd());
    let section_handle =
        std::ptr::without_provenance_mut(usize::try_from(descriptor).expect("open"));
    let created = HdvCreateSectionBackedMmioRange(handles[1], 2, 1, 1, 1, section_handle, 0);
    assert_eq!(created, codes::S_OK);
    assert_eq!(&read::<4>(&mut clients[1], BAR2, 0x1000), b"shar");
    assert_eq!(read(&mut clients[0], BAR2, 0x1000), [0; 4]);
}

#[test]
fn guests_of_vfs_that_are_disabled_keep_stubs() {
    let served = serve(false);
    assert_eq!(served.set_vfs(3), SUCCESS);
    let states = [0, 1, 2].map(|vf| served.vf(vf));
    let handles = [0, 1].map(|vf| served.handle(vf));
    let mut clients = [0, 1].map(|vf| served.guest(vf));
    let _memory = give_memory(&mut clients[0], AT, SIZE);
    assert_eq!(aperture(handles[0], AT, 16, false).0, codes::S_OK);
    assert_eq!(served.set_vfs(0), SUCCESS);
    for state in &states[..2] {
        assert!(state.calls().ends_with(&[Call::Stop, Call::Teardown]));
        let ends = state.calls();
        let ends = ends.iter().filter(|call| **call == Call::Teardown);
        assert_eq!(ends.count(), 1);
    }
    assert_eq!(states[2].calls(), [Call::Teardown]);
    for (client, handle) in clients.iter_mut().zip(handles) {
        assert_eq!(read(client, BAR0, 8), [0xff; 4]);
        write(client, BAR0, 8, &[1; 4]);
        assert_eq!(read(client, CONFIG, 0), [0xff; 4]);
        give_memory(client, AT + SIZE, SIZE);
        assert_eq!(HdvDeliverGuestInterrupt(handle, 0, 0), codes::E_HANDLE);
        assert_eq!(read_memory(handle, AT, &mut [0; 4]), codes::E_HANDLE);
    }
    assert!(!served.socket(0).exists());
    // The next ones are others; the guests that are left keep what they have.
    assert_eq!(served.set_vfs(2), SUCCESS);
    let mut next = served.guest(0);
    assert_eq!(read(&mut next, BAR0, 8), [0; 4]);
    assert_eq!(read(&mut clients[0], BAR0, 8), [0xff; 4]);
}

#[test]
fn a_callback_of_a_vf_cannot_disable_it() {
    let served = serve(false);
    assert_eq!(served.set_vfs(1), SUCCESS);
    let mut client = served.guest(0);
    let result = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&result);
    let routine = served.table.enable_virtualization.expect("a routine");
    let context = served.table.context.addr();
    served.vf(0).hook(Call::Read(0, 8, 4), move |_| {
        let context = std::ptr::without_provenance_mut(context);
        // SAFETY: a context, or what was one.
        *lock(&noted) = Some(unsafe { routine(context, 0, 0, 0, 0) });
    });
    assert_eq!(read(&mut client, BAR0, 8), [0; 4]);
    assert_eq!(*lock(&result), Some(POSSIBLE_DEADLOCK));
    assert_eq!(served.set_vfs(0), SUCCESS);
}

/// Where the SR-IOV capability is.
fn sriov(client: &mut Client) -> u64 {
    let mut at = FIRST_EXTENDED;
    loop {
        let id = u16::from_le_bytes(read(client, CONFIG, at.into()));
        if id == SRIOV_ID {
            return at.into();
        }
        at = u16::from_le_bytes(read(client, CONFIG, u64::from(at) + 2)) >> 4;
        assert!(at >= FIRST_EXTENDED, "there is no SR-IOV capability");
    }
}

#[test]
fn a_guest_that_may_enables_vfs_by_registers() {
    let served = serve(true);
    let mut client = served.connect_pf();
    enable(&mut client);
    let at = sriov(&mut client);
    write(&mut client, CONFIG, at + NUM_VFS, &3u16.to_le_bytes());
    write(
        &mut client,
        CONFIG,
        at + CONTROL,
        &VF_ENABLE_AND_MSE.to_le_bytes(),
    );
    assert_eq!(served.set_vfs(2), INVALID_DEVICE_STATE);
    assert_eq!(served.vf_data(2, 0), Some([0xff; 4]));
    assert_eq!(served.vf_data::<4>(3, 0), None);
    write(&mut client, CONFIG, at + CONTROL, &[0; 2]);
    assert_eq!(served.vf_data::<4>(0, 0), None);
    assert_eq!(served.set_vfs(1), SUCCESS);
    assert_eq!(read(&mut client, CONFIG, at + NUM_VFS), 1u16.to_le_bytes());
    // Its reset disables them.
    client.reset().expect("reset");
    assert_eq!(served.set_vfs(0), INVALID_DEVICE_STATE);
}

#[test]
fn a_guest_that_may_not_changes_no_vf() {
    let served = serve(false);
    let mut client = served.connect_pf();
    enable(&mut client);
    let at = sriov(&mut client);
    write(&mut client, CONFIG, at + NUM_VFS, &3u16.to_le_bytes());
    write(
        &mut client,
        CONFIG,
        at + CONTROL,
        &VF_ENABLE_AND_MSE.to_le_bytes(),
    );
    assert_eq!(served.vf_data::<4>(0, 0), None);
    assert_eq!(served.set_vfs(2), SUCCESS);
    assert_eq!(read(&mut client, CONFIG, at + NUM_VFS), 2u16.to_le_bytes());
    write(&mut client, CONFIG, at + CONTROL, &[0; 2]);
    client.reset().expect("reset");
    drop(client);
    assert_eq!(served.vf_data(1, 0), Some([0xff; 4]));
}

/// Whatever a thread does with the handle of a VF that another one disables: a result that there can be.
fn use_handle(handle: HdvDevice) {
    let section = memfd(0x1000);
    let descriptor = |file: &dyn AsFd| {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
        std::ptr::without_provenance_mut(usize::try_from(descriptor).expect("open"))
    };
    let one_of = |result: Hresult, more: &[Hresult]| {
        assert!(
            result == codes::S_OK || result == codes::E_HANDLE || more.contains(&result),
            "{result:#x}"
        );
    };
    // Between its guest's arrival and the memory that it gives.
    let without_guest = [codes::NOT_READY, codes::INVALID_ADDRESS];
    one_of(write_memory(handle, AT, b"storm"), &without_guest);
    let (result, mapped) = aperture(handle, AT, 0x1000, false);
    one_of(result, &without_guest);
    if result == codes::S_OK {
        // Taken back already, if the VF was disabled.
        let destroyed = HdvDestroyGuestMemoryAperture(handle, mapped.cast());
        one_of(destroyed, &[codes::NOT_FOUND]);
    }
    let sent = HdvDeliverGuestInterrupt(handle, 0xfee0_0000, 1);
    one_of(sent, &[codes::NOT_READY, codes::NOT_FOUND]);
    let rung = event();
    one_of(
        HdvRegisterDoorbell(handle, 0, 0x20, 7, 0, descriptor(&rung)),
        &[],
    );
    let gone = [codes::NOT_FOUND];
    one_of(HdvUnregisterDoorbell(handle, 0, 0x20, 7, 0), &gone);
    let created = HdvCreateSectionBackedMmioRange(handle, 2, 1, 1, 1, descriptor(&section), 0);
    one_of(created, &[]);
    one_of(HdvDestroySectionBackedMmioRange(handle, 2, 1), &gone);
}

#[test]
fn vfs_are_disabled_while_their_guests_and_other_threads_use_them() {
    const ROUNDS: usize = 40;
    let served = serve(false);
    let handle = AtomicPtr::new(null_mut());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                use_handle(handle.load(Ordering::SeqCst));
            }
        });
        for _ in 0..ROUNDS {
            assert_eq!(served.set_vfs(3), SUCCESS);
            let clients = [0, 1].map(|vf| served.guest(vf));
            handle.store(served.handle(0), Ordering::SeqCst);
            let disabled = &AtomicBool::new(false);
            std::thread::scope(|guests| {
                for mut client in clients {
                    guests.spawn(move || {
                        let _memory = give_memory(&mut client, AT, SIZE);
                        while !disabled.load(Ordering::SeqCst) {
                            write(&mut client, BAR0, 0x20, &7_u32.to_le_bytes());
                            read::<4>(&mut client, BAR0, 8);
                        }
                        assert_eq!(read(&mut client, BAR0, 8), [0xff; 4]);
                    });
                }
                assert_eq!(served.set_vfs(0), SUCCESS);
                disabled.store(true, Ordering::SeqCst);
            });
        }
        ended.store(true, Ordering::SeqCst);
        user.join().expect("no result that there cannot be");
    });
}

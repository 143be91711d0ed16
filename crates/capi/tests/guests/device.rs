//! A device whose callbacks are C functions: two BARs of plain bytes, an MSI-X capability, a record of its
//! calls, failures and hooks as a test wants them.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use computecore::types::{
    Guid, HdvDevice, HdvHost, HdvPciDeviceInterface, HdvPciPnpId, Hresult, Pcwstr,
};
use computecore::{
    HcsCloseComputeSystem, HdvCreateDeviceInstance, HdvInitializeDeviceHost, HdvTeardownDeviceHost,
    OpenHdvOpenSocketSystem, codes,
};
use hdv::Uuid;
use hdv_vfio_user::client::Client;

use crate::guest::{connect, enable};

/// BAR 0: registers, with the interrupt tables in its last page.
pub(crate) const BAR0_SIZE: usize = 0x4000;
pub(crate) const MSIX_TABLE: usize = 0x3000;
const MSIX_PENDING: u32 = 0x3800;
/// BAR 2: registers.
pub(crate) const BAR2_SIZE: usize = 0x8000;
pub(crate) const VECTORS: u16 = 2;
pub(crate) const MSIX_CAPABILITY: u64 = 0x40;

/// Which callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Initialize,
    Teardown,
    SetConfiguration,
    GetDetails,
    Start,
    Stop,
    ReadConfig,
    WriteConfig,
    /// BAR, offset, length.
    Read(i32, u64, u64),
    Write(i32, u64, u64),
}

type Hook = Box<dyn FnMut(HdvDevice) + Send>;

pub(crate) struct State {
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) bars: [Mutex<Vec<u8>>; 2],
    config: Mutex<Vec<u32>>,
    /// What a callback returns.
    results: Mutex<HashMap<Call, Hresult>>,
    hooks: Mutex<HashMap<Call, Hook>>,
    pub(crate) handle: AtomicPtr<c_void>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn new() -> Self {
        let mut config = vec![0; 1024];
        config[1] = 0x0010_0000;
        config[0x34 / 4] = 0x40;
        config[0x40 / 4] = 0x11 | (u32::from(VECTORS) - 1) << 16;
        config[0x44 / 4] = 0x3000;
        config[0x48 / 4] = MSIX_PENDING;
        Self {
            calls: Mutex::default(),
            bars: [
                Mutex::new(vec![0; BAR0_SIZE]),
                Mutex::new(vec![0; BAR2_SIZE]),
            ],
            config: Mutex::new(config),
            results: Mutex::default(),
            hooks: Mutex::default(),
            handle: AtomicPtr::new(null_mut()),
        }
    }

    pub(crate) fn fail(&self, call: Call, result: Hresult) {
        lock(&self.results).insert(call, result);
    }

    pub(crate) fn hook(&self, call: Call, hook: impl FnMut(HdvDevice) + Send + 'static) {
        lock(&self.hooks).insert(call, Box::new(hook));
    }

    /// The calls but for config space.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut calls = lock(&self.calls).clone();
        calls.retain(|call| !matches!(call, Call::ReadConfig | Call::WriteConfig));
        calls
    }

    pub(crate) fn forget(&self) {
        lock(&self.calls).clear();
    }

    /// The message that the device's own table has for a vector.
    pub(crate) fn message(&self, vector: usize) -> (u64, u32) {
        let table = lock(&self.bars[0]);
        let entry = &table[MSIX_TABLE + 16 * vector..][..16];
        (
            u64::from_le_bytes(entry[..8].try_into().expect("8 bytes")),
            u32::from_le_bytes(entry[8..12].try_into().expect("4 bytes")),
        )
    }

    fn called(&self, call: Call) -> Hresult {
        lock(&self.calls).push(call);
        // Not under the lock: a hook may bring further calls about.
        let hook = lock(&self.hooks).remove(&call);
        if let Some(mut hook) = hook {
            hook(self.handle.load(Ordering::SeqCst));
            lock(&self.hooks).insert(call, hook);
        }
        lock(&self.results)
            .get(&call)
            .copied()
            .unwrap_or(codes::S_OK)
    }

    fn bar(&self, bar: i32) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.bars[usize::from(bar != 0)])
    }
}

fn state<'a>(context: *mut c_void) -> &'a State {
    // SAFETY: the context is the state of a device that outlives its calls.
    unsafe { &*context.cast() }
}

unsafe extern "C-unwind" fn initialize(context: *mut c_void) -> Hresult {
    state(context).called(Call::Initialize)
}

unsafe extern "C-unwind" fn teardown(context: *mut c_void) {
    state(context).called(Call::Teardown);
}

unsafe extern "C-unwind" fn set_configuration(
    context: *mut c_void,
    _count: u32,
    _values: *const Pcwstr,
) -> Hresult {
    state(context).called(Call::SetConfiguration)
}

unsafe extern "C-unwind" fn get_details(
    context: *mut c_void,
    pnp_id: *mut HdvPciPnpId,
    count: u32,
    bars: *mut u32,
) -> Hresult {
    assert_eq!(count, 6);
    let id = HdvPciPnpId {
        vendor_id: 0x4f48,
        device_id: 0x7f02,
        base_class: 0xff,
        ..HdvPciPnpId::default()
    };
    // SAFETY: the library's places.
    unsafe {
        pnp_id.write(id);
        bars.write(0xffff_c000);
        bars.add(2).write(0xffff_8000);
    }
    state(context).called(Call::GetDetails)
}

unsafe extern "C-unwind" fn start(context: *mut c_void) -> Hresult {
    state(context).called(Call::Start)
}

unsafe extern "C-unwind" fn stop(context: *mut c_void) {
    state(context).called(Call::Stop);
}

unsafe extern "C-unwind" fn read_config(
    context: *mut c_void,
    offset: u32,
    value: *mut u32,
) -> Hresult {
    let state = state(context);
    // SAFETY: the library's place.
    unsafe { value.write(lock(&state.config)[offset as usize / 4]) };
    state.called(Call::ReadConfig)
}

unsafe extern "C-unwind" fn write_config(context: *mut c_void, offset: u32, value: u32) -> Hresult {
    let state = state(context);
    if offset == 0x40 {
        let mut config = lock(&state.config);
        let enables = 0xc000_0000;
        config[0x10] = config[0x10] & !enables | value & enables;
    }
    state.called(Call::WriteConfig)
}

unsafe extern "C-unwind" fn read_memory(
    context: *mut c_void,
    bar: i32,
    offset: u64,
    length: u64,
    value: *mut u8,
) -> Hresult {
    let state = state(context);
    let at = usize::try_from(offset).expect("small");
    let length = usize::try_from(length).expect("small");
    // SAFETY: the library's place.
    let value = unsafe { std::slice::from_raw_parts_mut(value, length) };
    value.copy_from_slice(&state.bar(bar)[at..at + length]);
    state.called(Call::Read(bar, offset, length as u64))
}

unsafe extern "C-unwind" fn write_memory(
    context: *mut c_void,
    bar: i32,
    offset: u64,
    length: u64,
    value: *const u8,
) -> Hresult {
    let state = state(context);
    let at = usize::try_from(offset).expect("small");
    let length = usize::try_from(length).expect("small");
    // SAFETY: the library's place.
    let value = unsafe { std::slice::from_raw_parts(value, length) };
    state.bar(bar)[at..at + length].copy_from_slice(value);
    state.called(Call::Write(bar, offset, length as u64))
}

pub(crate) static TABLE: HdvPciDeviceInterface = HdvPciDeviceInterface {
    version: 1,
    initialize: Some(initialize),
    teardown: Some(teardown),
    set_configuration: Some(set_configuration),
    get_details: Some(get_details),
    start: Some(start),
    stop: Some(stop),
    read_config_space: Some(read_config),
    write_config_space: Some(write_config),
    read_intercepted_memory: Some(read_memory),
    write_intercepted_memory: Some(write_memory),
};

/// A host with a device, on a system of its own.
pub(crate) struct Served {
    pub(crate) host: HdvHost,
    pub(crate) state: Arc<State>,
    instance: Uuid,
    directory: tempfile::TempDir,
}

/// Creates another device on a host.
pub(crate) fn create(host: HdvHost, instance: Uuid) -> Arc<State> {
    let state = Arc::new(State::new());
    let class = Guid::from_uuid(Uuid::from_u128(1));
    let instance = Guid::from_uuid(instance);
    let mut handle = null_mut();
    // SAFETY: everything is valid; the state outlives the device, see `Served::drop`.
    let result = unsafe {
        HdvCreateDeviceInstance(
            host,
            1,
            &raw const class,
            &raw const instance,
            (&raw const TABLE).cast(),
            Arc::as_ptr(&state).cast_mut().cast(),
            &raw mut handle,
        )
    };
    assert_eq!(result, codes::S_OK);
    state.handle.store(handle, Ordering::SeqCst);
    state
}

/// A host without devices on the system that is `directory`.
pub(crate) fn host_on(directory: &Path) -> HdvHost {
    let path = CString::new(directory.as_os_str().as_bytes()).expect("a path");
    let (mut system, mut host) = (null_mut(), null_mut());
    // SAFETY: everything is valid.
    unsafe {
        assert_eq!(
            OpenHdvOpenSocketSystem(path.as_ptr(), &raw mut system),
            codes::S_OK
        );
        assert_eq!(HdvInitializeDeviceHost(system, &raw mut host), codes::S_OK);
    }
    HcsCloseComputeSystem(system);
    host
}

pub(crate) fn serve() -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let host = host_on(directory.path());
    let instance = Uuid::from_u128(0x5eed);
    Served {
        host,
        state: create(host, instance),
        instance,
        directory,
    }
}

impl Served {
    pub(crate) fn device(&self) -> HdvDevice {
        self.state.handle.load(Ordering::SeqCst)
    }

    pub(crate) fn socket_of(&self, instance: Uuid) -> PathBuf {
        self.directory.path().join(format!("{instance}.sock"))
    }

    pub(crate) fn connect(&self) -> Client {
        connect(&self.socket_of(self.instance))
    }

    /// A guest that has started the device.
    pub(crate) fn guest(&self) -> Client {
        let mut client = self.connect();
        enable(&mut client);
        self.state.forget();
        client
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let result = HdvTeardownDeviceHost(self.host);
        if !std::thread::panicking() {
            // Torn down here, or by the test.
            assert!([codes::S_OK, codes::E_HANDLE].contains(&result));
        }
    }
}

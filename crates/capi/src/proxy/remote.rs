//! A device host of another process, as its proxy in this one sees it; and the brokers that speak for such hosts.

use std::ffi::c_void;
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv_compute::{Broker, BrokerLimits};
use rustix::event::{PollFd, PollFlags, poll};

use super::{DeviceHostTable, IID_DEVICE_HOST, IID_OURSELVES, IID_SUPPORT, call_register, refusal};
use crate::com::{Class, Object, Reference};
use crate::descriptor;
use crate::error::{Failure, codes, system_code};
use crate::guard;
use crate::pointers::out;
use crate::system::compute;
use crate::types::{Guid, Handle, HcsSystem, Hresult};

/// The brokers of this process; one whose device host or worker is gone has nothing to do any more.
static BROKERS: Mutex<Vec<Arc<Broker>>> = Mutex::new(Vec::new());

fn brokers() -> MutexGuard<'static, Vec<Arc<Broker>>> {
    let mut brokers = BROKERS.lock().unwrap_or_else(PoisonError::into_inner);
    brokers.retain(|broker| !broker.is_over());
    brokers
}

pub(super) struct RemoteHost {
    process_id: u32,
    state: Mutex<State>,
}

enum State {
    /// It has said hello, and nobody has answered.
    Waiting(UnixStream),
    Registered(Arc<Broker>),
    Refused,
}

impl RemoteHost {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speaks for it to the worker of a compute system from now on.
    pub(super) fn broker(&self, of: HcsSystem, process_id: u32) -> Result<(), Failure> {
        if process_id != self.process_id {
            return Err(Failure::argument(format!(
                "the device host is in process {}, not in {process_id}",
                self.process_id
            )));
        }
        let system = compute(of)?.system()?;
        let mut state = self.state();
        let State::Waiting(socket) = &*state else {
            return Err(Failure::new(
                codes::ALREADY_EXISTS,
                "the device host is registered already, or was refused",
            ));
        };
        // If that fails, the host can still be told.
        let socket = socket.try_clone().map_err(|error| {
            Failure::new(
                system_code(&error),
                format!("duplicating the host's socket: {error}"),
            )
        })?;
        let broker = Broker::start(socket, process_id, &system, BrokerLimits::default())?;
        let broker = Arc::new(broker);
        brokers().push(Arc::clone(&broker));
        *state = State::Registered(broker);
        Ok(())
    }

    /// Its proxy did not want it, whatever has been done by then.
    fn refuse(&self, failure: Failure) {
        match std::mem::replace(&mut *self.state(), State::Refused) {
            State::Waiting(socket) => refusal::refuse(socket, failure),
            State::Registered(broker) => {
                brokers().retain(|other| !Arc::ptr_eq(other, &broker));
            }
            State::Refused => {}
        }
    }
}

impl Class for RemoteHost {
    type Table = DeviceHostTable;
    const TABLE: &'static DeviceHostTable = &TABLE;
    const INTERFACES: &'static [Guid] = &[IID_DEVICE_HOST, IID_OURSELVES];
}

static TABLE: DeviceHostTable = DeviceHostTable {
    unknown: Object::<RemoteHost>::UNKNOWN,
    get_device_instance,
};

/// `IVmDeviceHost::GetDeviceInstance`: what there is stays in the other process.
unsafe extern "C-unwind" fn get_device_instance(
    _: *mut c_void,
    _: *const Guid,
    _: *const Guid,
    place: *mut *mut c_void,
) -> Hresult {
    guard::result(|| {
        // SAFETY: the caller's place, by the contract of COM.
        unsafe { out(place, "DeviceInstance", std::ptr::null_mut()) }?;
        Err(Failure::new(
            codes::E_NOTIMPL,
            "the devices of a device host in another process cannot be had here",
        ))
    })
}

/// What serves a host until it is registered.
struct Door {
    socket: UnixStream,
    process_id: u32,
    support: Reference,
}

// SAFETY: COM objects that are proxies take calls from any thread, by the contract of `OpenHdvServeProxy`.
unsafe impl Send for Door {}

impl Door {
    /// Waits until the host says something, and has the proxy register it.
    fn serve(self) {
        if let Err(error) = self.wait() {
            tracing::warn!("a device host that would register cannot be waited for: {error}");
            return;
        }
        let object = Object::create(RemoteHost {
            process_id: self.process_id,
            state: Mutex::new(State::Waiting(self.socket)),
        });
        let registered = call_register(&self.support, &object, self.process_id);
        if let Err(failure) = registered
            && let Some(object) = NonNull::new(object.as_ptr())
            // SAFETY: made above.
            && let Some(ours) = unsafe { Object::<RemoteHost>::behind(object, &IID_OURSELVES) }
        {
            ours.content().refuse(failure);
        }
    }

    fn wait(&self) -> rustix::io::Result<()> {
        loop {
            let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut sockets, None) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }
}

/// Serves a device host of another process: when it registers, so does the proxy here.
///
/// # Safety
/// `proxy` is null or a COM object that takes calls from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvServeProxy(
    host_socket: Handle,
    process_id: u32,
    proxy: *mut c_void,
) -> Hresult {
    guard::result(|| {
        let proxy = NonNull::new(proxy).ok_or_else(|| Failure::null("ProxyInterface"))?;
        let socket = descriptor::socket(host_socket, "HostSocket")?;
        if process_id == 0 {
            return Err(Failure::argument("ProcessId is 0, which is no process"));
        }
        // SAFETY: a COM object, by the contract.
        let support = unsafe { Reference::query(proxy, &IID_SUPPORT, "IVmDeviceHostSupport") }?;
        let door = Door {
            socket,
            process_id,
            support,
        };
        std::thread::Builder::new()
            .name("hdv-proxy".to_owned())
            .spawn(move || door.serve())
            .map(drop)
            .map_err(|error| {
                Failure::new(
                    codes::E_OUTOFMEMORY,
                    format!("there is no thread to wait for the device host: {error}"),
                )
            })
    })
}

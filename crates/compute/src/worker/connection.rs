//! One connection to the worker: who it is, and what it may ask. What is done then is elsewhere.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv_control::{ControlError, Link, LinkHandler, PeerCredentials};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::claim::check_announced;
use super::events::in_background_or_here;
use super::handles::tell_exited;
use super::hosts::{Host, HostId};
use super::power::model_name;
use super::refusal::{Result, refused};
use super::state::Request;
use super::worker::Worker;
use crate::document::{HostingModel, ModifyRequest, RequestType};
use crate::error::codes;
use crate::protocol::{self, Device, Hello, Instance, Welcome, handle, host};
use crate::{Error, ExitStatus};

/// A connection.
pub(super) struct Connection {
    worker: Arc<Worker>,
    number: u64,
    peer: PeerCredentials,
    role: Mutex<Role>,
    /// It has said who it is.
    is_greeted: AtomicBool,
}

#[derive(Clone)]
enum Role {
    /// It has said nothing yet.
    New,
    /// The creator, whose handle is open before it says so.
    Creator,
    Handle,
    Observer,
    Host(Arc<Host>),
    /// The connection has ended.
    Closed,
}

impl Connection {
    /// Of a process that has connected.
    pub(super) fn new(worker: &Arc<Worker>, peer: PeerCredentials) -> Self {
        let number = worker.lock().number();
        Self {
            worker: Arc::clone(worker),
            number,
            peer,
            role: Mutex::new(Role::New),
            is_greeted: AtomicBool::new(false),
        }
    }

    /// Of the process that has created the system. It has a handle at once.
    pub(super) fn of_creator(worker: &Arc<Worker>, peer: PeerCredentials) -> Self {
        let connection = Self::new(worker, peer);
        worker.lock().handles.open(connection.number, None);
        *connection.role() = Role::Creator;
        connection
    }

    /// Keeps the creator's link open.
    pub(super) fn keep(&self, link: &Link) {
        self.worker.lock().handles.keep(self.number, link);
    }

    fn role(&self) -> MutexGuard<'_, Role> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self, link: &Link, hello: &Hello) -> Result<(Welcome, Option<ExitStatus>)> {
        let mut role = self.role();
        match (&*role, hello) {
            (Role::New, _) | (Role::Creator, Hello::Handle) => {}
            (Role::Closed, _) => return Err(ControlError::internal("the connection has ended")),
            _ => {
                return Err(ControlError::bad_arguments(
                    "hello was said before, or says something else",
                ));
            }
        }
        let internal = match hello {
            Hello::DeviceHost {
                hosting_model: HostingModel::Internal,
                ..
            } => self.worker.internal_pid(),
            _ => None,
        };
        let mut inner = self.worker.lock();
        let mut exit = None;
        match hello {
            Hello::Handle => {
                inner.handles.open(self.number, Some(link));
                *role = Role::Handle;
                exit = inner.exit.clone();
                // Who waits for the first one.
                self.worker.notify();
            }
            Hello::Observer => *role = Role::Observer,
            Hello::DeviceHost { pid, hosting_model } => {
                let pid = self.host_pid(*pid, *hosting_model, internal)?;
                self.worker
                    .allows(&inner, Request::Announce, "take a device host")?;
                let host = Host::new(HostId(self.number), pid, *hosting_model, link.clone());
                let host = Arc::new(host);
                inner.hosts.add(&host);
                tracing::info!(
                    pid,
                    model = model_name(*hosting_model),
                    "a device host attached"
                );
                *role = Role::Host(host);
                // Who waits for our own.
                self.worker.notify();
            }
        }
        self.is_greeted.store(true, Ordering::SeqCst);
        let welcome = Welcome {
            id: self.worker.id.clone(),
            runtime_id: self.worker.runtime_id,
        };
        Ok((welcome, exit))
    }

    /// Which process a device host is: the one that connected, or the one that a broker speaks for.
    fn host_pid(
        &self,
        said: u32,
        hosting_model: HostingModel,
        internal: Option<u32>,
    ) -> Result<u32> {
        match hosting_model {
            HostingModel::ExternalRestricted => Ok(said),
            HostingModel::External => Ok(self.peer.pid.unwrap_or(said)),
            HostingModel::Internal if self.peer.pid.is_some() && self.peer.pid == internal => {
                Ok(said)
            }
            HostingModel::Internal => Err(refused(
                codes::E_ACCESSDENIED,
                format!(
                    "process {said} is not the device host that the worker of compute system {:?} started: use the hosting model External",
                    self.worker.id
                ),
            )),
        }
    }

    fn announce(&self, host: &Arc<Host>, device: &Device) -> Result<()> {
        let mut inner = self.worker.lock();
        self.worker
            .allows(&inner, Request::Announce, "take a device")?;
        if let Some(configured) = inner.devices.get(device.instance_id) {
            check_announced(
                &configured.key,
                &configured.settings,
                device.class_id,
                host.hosting_model,
                host.pid,
            )?;
        }
        if host.is_closed() {
            return Err(ControlError::internal("the connection has ended"));
        }
        inner
            .hosts
            .announce(device.instance_id, device.class_id, host)?;
        drop(inner);
        tracing::info!(pid = host.pid, instance = %device.instance_id, class = %device.class_id, "announced");
        self.worker.notify();
        Ok(())
    }

    fn handle_call(&self, command: &str, arguments: Value) -> Result<Value> {
        let worker = &self.worker;
        match command {
            handle::START => done(worker.start()),
            handle::PAUSE => done(worker.pause()),
            handle::RESUME => done(worker.resume()),
            handle::SHUT_DOWN => done(worker.shut_down()),
            handle::TERMINATE => done(worker.terminate()),
            handle::MODIFY => done(self.modify(&argument::<String>(command, arguments)?)),
            handle::PROPERTIES => answer(&worker.properties()),
            _ => Err(unknown(command, "a handle")),
        }
    }

    fn modify(&self, request: &str) -> Result<()> {
        let request =
            ModifyRequest::parse(request).map_err(|error| Error::from(error).to_control())?;
        match (request.request_type, request.device) {
            (RequestType::Add, Some(device)) => self.worker.add(&request.key, device),
            (RequestType::Add, None) => Err(refused(
                codes::HCS_E_INVALID_JSON,
                "the request adds a device and has no Settings",
            )),
            (RequestType::Remove, _) => self.worker.remove(&request.key, request.instance_id),
        }
    }

    fn host_call(&self, from: &Arc<Host>, command: &str, arguments: Value) -> Result<Value> {
        match command {
            host::ANNOUNCE => done(self.announce(from, &argument(command, arguments)?)),
            host::WITHDRAW => {
                let Instance { instance_id } = argument(command, arguments)?;
                done(self.worker.withdraw(instance_id, from.id))
            }
            _ => Err(unknown(command, "a device host")),
        }
    }
}

fn done(result: Result<()>) -> Result<Value> {
    result.map(|()| Value::Null)
}

fn answer(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| ControlError::internal(error.to_string()))
}

fn argument<T: DeserializeOwned>(command: &str, arguments: Value) -> Result<T> {
    serde_json::from_value(arguments).map_err(|error| {
        ControlError::bad_arguments(format!("the arguments of {command}: {error}"))
            .with_code(codes::E_INVALIDARG)
    })
}

fn unknown(command: &str, who: &str) -> ControlError {
    let kind = hdv_control::ErrorKind::UnknownCommand;
    ControlError::new(kind, format!("there is no command {command:?} for {who}"))
        .with_code(codes::E_INVALIDARG)
}

impl LinkHandler for Connection {
    fn call(
        &self,
        link: &Link,
        command: &str,
        arguments: Value,
        _descriptors: Vec<OwnedFd>,
    ) -> Result<Value> {
        if command == protocol::HELLO {
            let hello: Hello = argument(command, arguments)?;
            let (welcome, exit) = self.hello(link, &hello)?;
            if let Some(exit) = exit {
                let link = link.clone();
                // The answer does not wait for a handle that takes nothing in.
                in_background_or_here("tell", move || {
                    tell_exited(std::slice::from_ref(&link), &exit);
                });
            }
            return answer(&welcome);
        }
        let role = self.role().clone();
        match role {
            Role::Handle => self.handle_call(command, arguments),
            Role::Observer if command == handle::PROPERTIES => self.handle_call(command, arguments),
            Role::Observer => Err(unknown(command, "an observer")),
            Role::Host(host) => self.host_call(&host, command, arguments),
            Role::New | Role::Creator => Err(ControlError::bad_arguments(format!(
                "{command:?} came before hello"
            ))
            .with_code(codes::E_INVALIDARG)),
            Role::Closed => Err(ControlError::internal("the connection has ended")),
        }
    }

    fn notice(&self, _link: &Link, name: &str, _arguments: Value) {
        tracing::debug!(name, "a notice that nobody expects");
    }

    fn closed(&self, _link: &Link) {
        let role = std::mem::replace(&mut *self.role(), Role::Closed);
        match role {
            Role::Handle | Role::Creator => self.worker.handle_closed(self.number),
            Role::Host(host) => self.worker.host_gone(host.id),
            Role::New | Role::Observer | Role::Closed => {}
        }
    }

    fn is_greeted(&self) -> bool {
        self.is_greeted.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use hdv_control::ErrorKind;
    use uuid::Uuid;

    use super::super::worker::tests::created;
    use super::*;

    /// A connection of this process, and the other end.
    fn connection(worker: &Arc<Worker>) -> (Arc<Connection>, Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = PeerCredentials::of(&ours).unwrap();
        let connection = Arc::new(Connection::new(worker, peer));
        let link = Link::over(ours, "test", Arc::clone(&connection) as _).unwrap();
        (connection, link, theirs)
    }

    fn hello(connection: &Connection, link: &Link, hello: &Hello) -> Result<Value> {
        let hello = serde_json::to_value(hello).unwrap();
        connection.call(link, protocol::HELLO, hello, Vec::new())
    }

    fn device_host(hosting_model: HostingModel) -> Hello {
        Hello::DeviceHost {
            pid: std::process::id(),
            hosting_model,
        }
    }

    #[test]
    fn who_has_not_said_hello_can_ask_nothing_and_says_it_once() {
        let worker = created();
        let (connection, link, _other) = connection(&worker);
        let ask = || connection.call(&link, handle::PROPERTIES, Value::Null, Vec::new());
        assert_eq!(ask().unwrap_err().kind, ErrorKind::BadArguments);
        assert!(!connection.is_greeted());
        hello(&connection, &link, &Hello::Observer).unwrap();
        assert!(connection.is_greeted());
        ask().unwrap();
        for again in [Hello::Handle, device_host(HostingModel::External)] {
            assert!(hello(&connection, &link, &again).is_err());
        }
        // It only looks.
        assert!(worker.lock().handles.is_empty());
        let start = connection.call(&link, handle::START, Value::Null, Vec::new());
        assert_eq!(start.unwrap_err().kind, ErrorKind::UnknownCommand);
    }

    #[test]
    fn a_hello_that_comes_after_the_end_opens_nothing() {
        let worker = created();
        for late in [Hello::Handle, device_host(HostingModel::External)] {
            let (connection, link, _other) = connection(&worker);
            connection.closed(&link);
            assert!(hello(&connection, &link, &late).is_err());
            assert!(worker.lock().handles.is_empty());
            assert_eq!(worker.lock().hosts.iter().count(), 0);
        }
    }

    #[test]
    fn nobody_passes_for_the_process_of_our_own_devices() {
        let worker = created();
        let (connection, link, _other) = connection(&worker);
        let internal = device_host(HostingModel::Internal);
        let error = hello(&connection, &link, &internal).unwrap_err();
        assert_eq!(error.code, Some(codes::E_ACCESSDENIED), "{error:?}");
        assert_eq!(worker.lock().hosts.iter().count(), 0);
        assert!(!connection.is_greeted());
        // It can still be what it is.
        hello(&connection, &link, &device_host(HostingModel::External)).unwrap();
    }

    #[test]
    fn a_host_that_has_gone_announces_nothing_any_more() {
        let worker = created();
        let (connection, link, _other) = connection(&worker);
        hello(&connection, &link, &device_host(HostingModel::External)).unwrap();
        let Role::Host(host) = connection.role().clone() else {
            panic!("it is a host");
        };
        let device = |number| Device {
            class_id: Uuid::from_u128(1),
            instance_id: Uuid::from_u128(number),
        };
        connection.announce(&host, &device(2)).unwrap();
        connection.closed(&link);
        assert!(connection.announce(&host, &device(3)).is_err());
        assert_eq!(worker.lock().hosts.all_announced().count(), 0);
    }
}

//! What a worker, or a broker, asks of a device host, done to the host; and the host's errors as they cross sockets, in both
//! directions. Who may ask, and over what, is in `attach` and `restricted`.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hdv::{BindError, DeviceIds, HandedClient, HostError, HostHandle, Listen, Place};
use hdv_control::{CallError, ControlError, ErrorKind};
use rustix::fs::{FileType, fstat};
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::codes;
use crate::protocol::{Device, DeviceFailure, Instance, PowerOn, device};

/// Carries a command about one device out; [`device::CREATE`] and [`device::CONNECT`] are not here. `listen` says how the
/// clients of a device that is powered on come, given what the command says of the place of what it brings.
///
/// # Errors
/// The command or its arguments are wrong, or what the host says.
pub(crate) fn carry_out(
    host: &HostHandle,
    command: &str,
    args: Value,
    listen: impl FnOnce(Option<PathBuf>) -> Result<Listen, ControlError>,
) -> Result<Value, ControlError> {
    let done = match command {
        device::POWER_ON => {
            let PowerOn {
                instance_id,
                beside,
                configuration,
            } = arguments(args)?;
            let place = Place {
                listen: listen(beside)?,
                configuration,
            };
            host.power_on(instance_id, &place)
        }
        device::START => host.start(instance(args)?.instance_id),
        device::STOP => host.stop(instance(args)?.instance_id),
        device::REMOVE => host.remove(instance(args)?.instance_id),
        device::FAILURE => {
            let failure = host
                .start_failure(instance(args)?.instance_id)
                .map_err(|error| refusal(&error))?;
            return value(&failure.map(|error| DeviceFailure {
                message: error.to_string(),
                code: error.code(),
            }));
        }
        other => {
            return Err(ControlError::new(
                ErrorKind::UnknownCommand,
                format!("a device host does not know the command {other:?}"),
            ));
        }
    };
    done.map_err(|error| refusal(&error))?;
    Ok(Value::Null)
}

/// Gives a client to a device, as [`device::CONNECT`] says.
///
/// # Errors
/// What comes with it is something else, or what the host says.
pub(crate) fn connect(
    host: &HostHandle,
    args: Value,
    descriptors: Vec<OwnedFd>,
) -> Result<Value, ControlError> {
    let instance = instance(args)?.instance_id;
    let [socket, lease, ledger] = <[OwnedFd; 3]>::try_from(descriptors).map_err(|descriptors| {
        ControlError::bad_arguments(format!(
            "a client comes as three descriptors: its socket, a lease and a ledger; {} came",
            descriptors.len()
        ))
    })?;
    let is_connection = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
    if !is_connection {
        return Err(ControlError::bad_arguments(
            "a client is a connected Unix stream socket, and this descriptor is something else",
        ));
    }
    let is_pipe = fstat(&lease).is_ok_and(|of| FileType::from_raw_mode(of.st_mode).is_fifo());
    if !is_pipe {
        return Err(ControlError::bad_arguments(
            "a lease is a pipe, and this descriptor is something else",
        ));
    }
    let client = HandedClient {
        socket: UnixStream::from(socket),
        lease: Some(lease),
        ledger: Some(ledger),
    };
    let connected = host.connect(instance, client);
    connected.map_err(|error| refusal(&error))?;
    Ok(Value::Null)
}

/// The arguments of a command, as what it takes.
///
/// # Errors
/// They are something else.
pub(crate) fn arguments<T: DeserializeOwned>(args: Value) -> Result<T, ControlError> {
    serde_json::from_value(args).map_err(|error| {
        ControlError::bad_arguments(format!("the arguments make no sense: {error}"))
            .with_code(codes::E_INVALIDARG)
    })
}

/// The arguments of a command about a device.
///
/// # Errors
/// They are something else.
pub(crate) fn instance(args: Value) -> Result<Instance, ControlError> {
    arguments(args)
}

/// Arguments, or an answer.
///
/// # Errors
/// They cannot be written as JSON, which does not happen to ours.
pub(crate) fn value(of: &impl Serialize) -> Result<Value, ControlError> {
    serde_json::to_value(of).map_err(|error| ControlError::internal(error.to_string()))
}

/// The argument of [`ANNOUNCE`](crate::protocol::host::ANNOUNCE).
pub(crate) fn device(ids: &DeviceIds) -> Device {
    Device {
        class_id: ids.class_id,
        instance_id: ids.instance_id,
    }
}

/// A host's error as it crosses a socket. A device's own keeps its code.
pub(crate) fn refusal(error: &HostError) -> ControlError {
    let (kind, code) = match error {
        HostError::Device(device) => (ErrorKind::Internal, device.code().unwrap_or(codes::E_FAIL)),
        HostError::Refused { code, .. } => (ErrorKind::Internal, code.unwrap_or(codes::E_FAIL)),
        HostError::NoSuchInstance(_) | HostError::NoSuchDevice(_) => {
            (ErrorKind::NotFound, codes::NOT_FOUND)
        }
        HostError::PoweredOn(_) | HostError::NotHanded(_) => {
            (ErrorKind::Busy, codes::HCS_E_INVALID_STATE)
        }
        HostError::TooManyClients { .. } => (ErrorKind::Busy, codes::E_FAIL),
        HostError::InstanceExists(_) | HostError::Socket(BindError::InUse { .. }) => {
            (ErrorKind::Busy, codes::ALREADY_EXISTS)
        }
        HostError::TooManyDevices { .. } | HostError::Socket(BindError::NotPermitted { .. }) => {
            (ErrorKind::Internal, codes::E_ACCESSDENIED)
        }
        HostError::Config(_) => (ErrorKind::BadArguments, codes::E_INVALIDARG),
        HostError::InsideCall => (ErrorKind::Busy, codes::POSSIBLE_DEADLOCK),
        HostError::Closed => (ErrorKind::Internal, codes::HCS_E_SERVICE_DISCONNECT),
        _ => (ErrorKind::Internal, codes::E_FAIL),
    };
    ControlError::new(kind, error.to_string()).with_code(code)
}

/// What a call of a host to its system failed with. `system` is what the other end is called: "the worker of ...".
pub(crate) fn host_error(system: &str, error: CallError) -> HostError {
    let (message, code) = match error {
        CallError::Command(error) => (error.message, error.code),
        CallError::TimedOut { patience, .. } => (
            format!("{system} did not answer within {} s", patience.as_secs()),
            Some(codes::HCS_E_OPERATION_TIMEOUT),
        ),
        error => (
            format!("{system} is gone: {error}"),
            Some(codes::HCS_E_SERVICE_DISCONNECT),
        ),
    };
    HostError::Refused { message, code }
}

#[cfg(test)]
mod tests {
    use hdv::DeviceError;

    use super::*;

    #[test]
    fn a_devices_own_code_crosses_unchanged() {
        let error = HostError::Device(DeviceError::new("no").with_code(-5));
        let crossed = refusal(&error);
        assert_eq!(crossed.code, Some(-5));
        let HostError::Refused { message, code } =
            host_error("the worker", CallError::Command(crossed))
        else {
            panic!("an error of the system");
        };
        assert_eq!(
            (message.as_str(), code),
            ("the device failed: no", Some(-5))
        );
    }
}

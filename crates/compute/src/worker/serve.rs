//! The worker's process from its order to its end: what it needs is made, it answers on its socket, and it goes when nobody
//! needs it any more.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use hdv_control::{Link, LinkServer, RuntimeDirectory};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::connection::Connection;
use super::console::Hub;
use super::events::in_background_or_here;
use super::startup::Startup;
use super::worker::{Parts, Worker};
use super::{log, machine};
use crate::document::{ComPort, ComputeSystemDocument, DocumentError, PIPES};
use crate::places::{self, Claimed};
use crate::{Error, Result};

/// The name of the worker's log.
const LOG: &str = "worker.log";
/// The most connections at a time: handles, device hosts, lists.
const CONNECTIONS_LIMIT: usize = 256;

/// A worker's process, up to its end.
pub(super) fn run() -> ExitCode {
    let startup = match Startup::begin() {
        Ok(startup) => startup,
        Err(error) => {
            eprintln!("openhdv-worker: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (place, worker, server, creator) = match prepare(&startup) {
        Ok(prepared) => prepared,
        Err(error) => {
            startup.refuse(&error);
            return ExitCode::FAILURE;
        }
    };
    let code = match greet(startup, &creator) {
        Ok(()) => {
            let ended = worker.wait_until(None, |inner| {
                inner.is_told && (inner.is_quitting || inner.handles.is_empty())
            });
            drop(ended);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("the creator is gone: {error}");
            ExitCode::FAILURE
        }
    };
    tracing::info!("the worker ends");
    drop(server);
    // Threads that wait for what never comes keep the worker's state.
    for console in worker.consoles.values() {
        console.end();
    }
    drop(worker);
    drop(place);
    code
}

fn prepare(startup: &Startup) -> Result<(Claimed, Arc<Worker>, LinkServer, Arc<Connection>)> {
    let io = |doing: &str, source| Error::Io {
        doing: doing.to_owned(),
        source,
    };
    let mut document = ComputeSystemDocument::parse(&startup.document)?;
    let current =
        std::env::current_dir().map_err(|source| io("asking for the current directory", source))?;
    document.resolve(&current);
    // What the creator's directory is on can be unmounted, whatever becomes of the system.
    std::env::set_current_dir("/")
        .map_err(|source| io("leaving the creator's directory", source))?;
    let runtime = RuntimeDirectory::locate()?;
    document.check_sockets(runtime.path())?;
    let mut ports = document.virtual_machine.devices.com_ports.values();
    if ports.any(ComPort::is_pipe) {
        runtime.subdirectory(PIPES)?;
    }
    let (listener, mut place) = places::claim(&runtime, &startup.id)?;
    log::start(place.directory(), LOG).map_err(|source| io("making the worker's log", source))?;
    let ports = document.virtual_machine.devices.com_ports.values();
    // Before they are there: whoever kills this process leaves them to be found.
    place.note_sockets(ports.map(|port| port.socket(runtime.path())).collect())?;
    // Each device has several here, for as long as the VM runs.
    hdv_control::raise_descriptor_limit();
    let consoles = consoles(&document, &runtime, &place)?;
    let ports = machine::ports(&document);
    let worker = Worker::new(Parts {
        id: startup.id.clone(),
        document,
        runtime_directory: runtime.path().to_owned(),
        socket: place.socket().to_owned(),
        directory: place.directory().to_owned(),
        consoles,
        ports,
    });
    let worker = worker.map_err(|error| Error::Refused {
        code: error.code.unwrap_or(crate::codes::E_FAIL),
        message: error.message,
    })?;
    end_on_signals(&worker).map_err(|source| io("waiting for signals", source))?;
    // Before anybody else can open a handle: the first one that is closed would be the last.
    let peer = startup.peer();
    let peer = peer.map_err(|source| io("asking who the creator is", source))?;
    let creator = Arc::new(Connection::of_creator(&worker, peer));
    let accepted = Arc::clone(&worker);
    let name = place.socket().display().to_string();
    let server = LinkServer::start(listener, &name, CONNECTIONS_LIMIT, move |peer| {
        Arc::new(Connection::new(&accepted, peer))
    })
    .map_err(|source| io("listening for handles and device hosts", source))?;
    tracing::info!(id = startup.id, socket = name, "created");
    Ok((place, worker, server, creator))
}

fn consoles(
    document: &ComputeSystemDocument,
    runtime: &RuntimeDirectory,
    place: &Claimed,
) -> Result<BTreeMap<u8, Hub>> {
    let ports = &document.virtual_machine.devices.com_ports;
    ports
        .iter()
        .map(|(key, port)| {
            let number: u8 = key.parse().map_err(|_| {
                DocumentError::new(
                    format!("VirtualMachine/Devices/ComPorts/{key}"),
                    "a serial port's key is its number, from 0",
                )
            })?;
            let pipe = port.socket(runtime.path());
            Ok((number, Hub::start(place.directory(), number, Some(&pipe))?))
        })
        .collect()
}

/// Says that the worker is there. From here on the creator can use its handle.
fn greet(startup: Startup, creator: &Arc<Connection>) -> Result<()> {
    let broken = |source| Error::Io {
        doing: "answering the creator".to_owned(),
        source,
    };
    let stream = startup.ready()?;
    let link = Link::over(stream, "the creator's connection", Arc::clone(creator) as _);
    creator.keep(&link.map_err(broken)?);
    Ok(())
}

/// Ends the system, and then this process, at the first signal that asks for it.
fn end_on_signals(worker: &Arc<Worker>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let worker = Arc::clone(worker);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in &mut signals {
                tracing::info!(signal, "asked to end");
                worker.lock().is_quitting = true;
                worker.notify();
                let worker = Arc::clone(&worker);
                // It has ended already, or ends now.
                in_background_or_here("terminate", move || drop(worker.terminate()));
            }
        })?;
    Ok(())
}

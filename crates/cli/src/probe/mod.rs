//! `hdv probe`: a look at the device behind a vfio-user socket, over the client end.

mod busy;
mod failure;
mod render;
mod view;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hdv_vfio_user::Errno;
use hdv_vfio_user::client::{Client, ClientError, ClientOptions};

pub(crate) use render::capability_table;

use crate::Failure;
use crate::args::ProbeArgs;
use crate::hexdump::{NOWHERE, hexdump};
use crate::pci_names::PciNames;
use crate::style::{self, Paint};

/// How long a device may still be in use by a client that has just ended.
const LEAVING_PATIENCE: Duration = Duration::from_millis(500);
/// How long to pause between two attempts.
const LEAVING_PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let mut client = connect(&args.socket)?;
    let told = |error| format!("{}: {error}", args.socket.display());
    let text = if args.hexdump {
        hexdump(NOWHERE, &view::read_config(&mut client).map_err(told)?)
    } else {
        let names = PciNames::find();
        let view = view::View::read(&mut client, &args.socket, &names).map_err(told)?;
        if args.output.json {
            format!("{}\n", serde_json::to_string_pretty(&view)?)
        } else {
            render::render(&view, Paint::stdout())
        }
    };
    // The device is free again before anybody reads about it.
    drop(client);
    style::print(&text)?;
    Ok(())
}

/// Connects; a device that is in use is an error that says who has it.
fn connect(socket: &Path) -> Result<Client, Failure> {
    let deadline = Instant::now() + LEAVING_PATIENCE;
    loop {
        match Client::connect(socket, ClientOptions::default()) {
            Err(ClientError::Refused {
                errno: Errno::BUSY, ..
            }) => {
                let client = busy::client_of(socket);
                if client.is_some() || Instant::now() >= deadline {
                    return Err(busy::explain(socket, client).into());
                }
                thread::sleep(LEAVING_PAUSE);
            }
            result => return Ok(result.map_err(|error| failure::of_connecting(socket, &error))?),
        }
    }
}

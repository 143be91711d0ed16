//! `hdv probe`: a look at the device behind a vfio-user socket, over the client end.

mod busy;
mod render;
mod view;

use hdv_vfio_user::Errno;
use hdv_vfio_user::client::{Client, ClientError, ClientOptions};

use crate::Failure;
use crate::args::ProbeArgs;
use crate::hexdump::hexdump;
use crate::pci_names::PciNames;
use crate::style::{self, Paint};

pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let mut client = match Client::connect(&args.socket, ClientOptions::default()) {
        Ok(client) => client,
        Err(ClientError::Refused {
            errno: Errno::BUSY, ..
        }) => return Err(busy::explain(&args.socket).into()),
        Err(error) => return Err(error.into()),
    };
    let text = if args.hexdump {
        hexdump(&view::read_config(&mut client)?)
    } else {
        let view = view::View::read(&mut client, &args.socket, &PciNames::of_system())?;
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

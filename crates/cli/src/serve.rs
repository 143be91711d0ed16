//! `hdv serve`: devices on sockets until a signal says to end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdv::{DeviceHost, HostOptions};
use hdv_devices::Created;
use hdv_sriov::{EmulatedPf, EnableVirtualization, PciVirtualization, Placement};

use crate::Failure;
use crate::args::ServeArgs;
use crate::domain::Served;
use crate::group::{self, DeviceRequest, Request};
use crate::signals::EndingSignals;
use crate::status::{self, Device};
use crate::style::{self, Paint};

/// What has been made, and is not served yet.
enum Made<'a> {
    Device(&'a DeviceRequest, Created),
    Domain(Served<'a>),
}

pub(crate) fn run(args: &ServeArgs, mut requests: Vec<Request>) -> Result<(), Failure> {
    let mut poll = args.poll;
    if let Some(path) = &args.config {
        let config = group::from_file(path)?;
        requests.extend(config.requests);
        // The command line is nearer to the person.
        poll = poll.or(config.poll);
    }
    group::check(&requests)?;

    // All devices before the first socket: a wrong setting leaves nothing behind.
    let mut made = Vec::new();
    for request in &requests {
        made.push(match request {
            Request::Device(device) => Made::Device(device, create(device)?),
            Request::Domain(domain) => Made::Domain(Served::make(domain)?),
        });
    }
    check_places(&made)?;
    check_names(&made)?;

    hdv_control::raise_descriptor_limit();
    // Before there is a socket that one of them would leave behind.
    let signals = EndingSignals::catch()?;
    let host = DeviceHost::new(HostOptions::new().poll(poll.map(Duration::from_micros)))?;
    for one in made {
        match one {
            Made::Device(request, device) => serve(&host, request, device)?,
            Made::Domain(domain) => domain.serve(&host)?,
        }
    }

    let text = if args.output.json {
        let document = serde_json::json!({ "serving": served(&host) });
        format!("{document}\n")
    } else {
        announce(&host, Paint::stdout())
    };
    style::print(&text)?;
    let signal = signals.wait();
    tracing::info!("ending after {signal}");
    drop(host);
    Ok(())
}

fn serve(host: &DeviceHost, request: &DeviceRequest, device: Created) -> Result<(), Failure> {
    let (socket, name) = (&request.socket, &request.device);
    match device {
        Created::Device(device) => {
            host.serve_boxed(socket, name, device)?;
        }
        Created::PhysicalFunction {
            pf,
            options,
            enable,
        } => {
            let pf = EmulatedPf::serve(host, socket, name, pf, options)?;
            if enable > 0 {
                pf.enable_virtualization(EnableVirtualization::enable(enable))?;
            }
        }
    }
    Ok(())
}

/// No two PFs are at one place: `hdv sriov` names them by it. The buses below a port are one device's.
fn check_places(made: &[Made<'_>]) -> Result<(), Failure> {
    let mut placed: Vec<(&DeviceRequest, Placement)> = Vec::new();
    for one in made {
        let Made::Device(request, Created::PhysicalFunction { options, .. }) = one else {
            continue;
        };
        let place = options.placement;
        let (secondary, subordinate) = (place.port().secondary(), place.port().subordinate());
        let overlaps = |other: &Placement| {
            other.segment() == place.segment()
                && other.port().secondary() <= subordinate
                && secondary <= other.port().subordinate()
        };
        if let Some((first, other)) = placed.iter().find(|(_, other)| overlaps(other)) {
            let message = format!(
                "the devices for {} and {} both take bus {:02x} of segment {:04x}; give one of them another, \
                 with --set place=SEGMENT:BUS:00.0 (`hdv devices` says more)",
                first.socket.display(),
                request.socket.display(),
                secondary.max(other.port().secondary()),
                place.segment(),
            );
            return Err(message.into());
        }
        placed.push((request, place));
    }
    Ok(())
}

/// No two domains have one name: `hdv tree` names them by it.
fn check_names(made: &[Made<'_>]) -> Result<(), Failure> {
    let mut names = BTreeMap::new();
    for one in made {
        let Made::Domain(domain) = one else { continue };
        if let Some(first) = names.insert(&domain.name, domain) {
            let message = format!(
                "the domains for {} and {} are both called {:?}; give one of the files another name = \"...\" at its \
                 beginning",
                first.request.socket.display(),
                domain.request.socket.display(),
                domain.name
            );
            return Err(message.into());
        }
    }
    Ok(())
}

fn announce(host: &DeviceHost, paint: Paint) -> String {
    let mut text = String::new();
    for device in served(host) {
        let _ = writeln!(
            text,
            "{} ({}:{}) is served on {}",
            paint.paint(style::NAME, &device.name),
            device.vendor,
            device.device,
            device.socket.display()
        );
    }
    text.push_str("Ctrl-C ends it; `hdv serve --help` says how a VM gets a device.\n");
    text
}

fn served(host: &DeviceHost) -> Vec<Device> {
    status::devices(host.devices())
}

/// Makes the device of a request. Everything that can be wrong with it is told here.
fn create(request: &DeviceRequest) -> Result<Created, Failure> {
    let refuse = |error: &dyn std::fmt::Display| {
        format!("the device for {}: {error}", request.socket.display())
    };
    let kind = hdv_devices::by_name(&request.device).map_err(|error| refuse(&error))?;
    let created = kind.create(&request.settings);
    Ok(created.map_err(|error| refuse(&error))?)
}

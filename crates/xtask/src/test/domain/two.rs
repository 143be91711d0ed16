//! Two VMs with a domain each, of one process, at the same time and beside plain devices: in one devices come and go by attention
//! button, in the other by surprise. What this process keeps of them is counted where both guests rest.

mod meeting;
mod usage;

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use hdv::domain::{Domain, DomainOptions};
use hdv::{DeviceHost, HostOptions};
use hdv_devices::sensor::{Sensor, SourceName};
use hdv_guest::report::Line;
use hdv_qemu::guest::Scratch;

use self::meeting::Meeting;
use self::usage::Usage;
use super::hot_plug::{Shape, Slots, Way};
use super::{NATIVE, SILENCE};
use crate::demo::Report;
use crate::lab::{Boot, Lab};
use crate::test::Failure;
use crate::ui::Ui;

/// What a check's name begins with.
const PART: &str = "two domains";
/// Buses of a domain: one behind each slot, and those of switches.
const BUSES: u16 = 64;
/// Bytes of a domain's memory window: what the kernel sets aside for each slot fits.
const MEMORY: u64 = 256 << 20;
/// Samples of the plain sensor's ring check.
const SAMPLES: u32 = 20_000;

/// A guest, its domain, and what it is to do besides.
struct Side {
    shape: Shape,
    modes: &'static str,
}

pub(super) fn run(lab: &Lab, wanted: u32, ui: &Ui, report: &mut Report) -> Result<(), Failure> {
    let sides = [
        Side {
            shape: Shape {
                way: Way::Button,
                first: 101,
                root_ports: 24,
                as_functions: false,
                switches: 2,
                wanted,
            },
            modes: "direct,domain",
        },
        Side {
            shape: Shape {
                way: Way::Surprise,
                first: 201,
                root_ports: 32,
                as_functions: true,
                switches: 1,
                wanted,
            },
            modes: "domain,direct",
        },
    ];
    let scratch = Scratch::new()?;
    let host = DeviceHost::new(HostOptions::new().control(false))?;
    let meeting = Meeting::of(sides.len());
    let (sender, lines) = mpsc::channel();
    ui.doing("booting two guests with a domain each");
    thread::scope(|scope| {
        let mut guests = Vec::new();
        for side in sides {
            let name = side.shape.way.name();
            let options = DomainOptions::new().buses(BUSES).memory(MEMORY);
            let (domain, endpoint) = Domain::new(options)?;
            let slots = Slots::new(domain, side.shape)?;
            let place = |what: &str| scratch.path().join(format!("{name}-{what}.sock"));
            let sockets = vec![place("domain"), place("plain")];
            host.serve(&sockets[0], &format!("{name} domain"), endpoint)?;
            host.serve(&sockets[1], &format!("{name} plain"), Sensor::new(&SourceName::Sine)?)?;
            let (sender, attendee) = (sender.clone(), meeting.attend());
            guests.push((name, scope.spawn(move || {
                let mut tell = |line| {
                    // Nobody listens only when this has failed already.
                    let _ = sender.send((name, line));
                };
                let _ = (&attendee, lab, sockets, slots, &mut tell);
            })));
        }
        Ok::<_, Failure>(())
    })
}

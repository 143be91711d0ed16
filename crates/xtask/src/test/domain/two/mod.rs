//! Two VMs with a domain each, of one process, at the same time and beside plain devices: in one devices come and go by attention
//! button, in the other by surprise. What this process keeps of them is counted where both guests rest.

mod meeting;
mod usage;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use hdv::domain::{Domain, DomainOptions};
use hdv::{DeviceHost, HostOptions};
use hdv_devices::sensor::{Sensor, SourceName};
use hdv_guest::report::Line;
use hdv_qemu::guest::Scratch;

use self::meeting::{Attendee, Meeting};
use self::usage::Usage;
use super::hot_plug::{Shape, Slots, Way};
use super::{NATIVE, SILENCE};
use crate::demo::Report;
use crate::lab::{Boot, Lab};
use crate::test::Failure;
use crate::ui::Ui;

/// What a check's name begins with.
pub(super) const PART: &str = "two domains";
/// Buses of a domain: one behind each slot, and those of switches.
const BUSES: u16 = 64;
/// Bytes of a domain's memory window: what the kernel sets aside for each slot fits.
const MEMORY: u64 = 256 << 20;
/// The longest that one guest may wait for the other, for each plug.
const PER_PLUG: Duration = Duration::from_secs(1);
/// Samples of the plain sensor's ring check.
const SAMPLES: u32 = 20_000;

/// A guest, its domain, and what it does besides.
struct Side {
    shape: Shape,
    modes: &'static str,
    sockets: Vec<PathBuf>,
    slots: Slots,
}

pub(super) fn run(lab: &Lab, wanted: u32, ui: &Ui, report: &mut Report) -> Result<(), Failure> {
    // The one checks its plain device while the domain of the other is at work, and the other way round.
    let sides = [
        (
            Shape {
                way: Way::Button,
                first: 101,
                root_ports: 24,
                as_functions: false,
                switches: 2,
                wanted,
            },
            "domain,direct",
        ),
        (
            Shape {
                way: Way::Surprise,
                first: 201,
                root_ports: 32,
                as_functions: true,
                switches: 1,
                wanted,
            },
            "direct,domain",
        ),
    ];
    let scratch = Scratch::new()?;
    let host = DeviceHost::new(HostOptions::new().control(false))?;
    let mut guests = Vec::new();
    for (shape, modes) in sides {
        let name = shape.way.name();
        let options = DomainOptions::new().buses(BUSES).memory(MEMORY);
        let (domain, endpoint) = Domain::new(options)?;
        let slots = Slots::new(domain, shape)?;
        let socket = |what: &str| scratch.path().join(format!("{name}-{what}.sock"));
        let sockets = vec![socket("domain"), socket("plain")];
        host.serve(&sockets[0], &format!("{name} domain"), endpoint)?;
        let plain = Sensor::new(&SourceName::Sine)?;
        host.serve(&sockets[1], &format!("{name} plain"), plain)?;
        guests.push(Side {
            shape,
            modes,
            sockets,
            slots,
        });
    }
    let limit = SILENCE + PER_PLUG * wanted;
    let meeting = Meeting::new(limit);
    let (sender, lines) = mpsc::channel();
    ui.doing("booting two guests with a domain each");
    thread::scope(|scope| {
        for side in guests {
            let (attendee, sender) = (meeting.attend(), sender.clone());
            scope.spawn(move || {
                let name = side.shape.way.name();
                let ended = side.run(lab, limit, attendee, &sender);
                let (ok, detail) = match ended {
                    Ok(detail) => (true, detail),
                    Err(failure) => (false, failure.to_string()),
                };
                // Nobody listens only if this thread's owner is gone.
                let _ = sender.send((name, Said::End(ok, detail)));
            });
        }
        drop(sender);
        for (name, said) in lines {
            let part = format!("{PART}, {name}");
            match said {
                Said::Line(Line::Check(outcome)) => report.add_outcome(ui, &part, outcome),
                Said::Line(_) => {}
                Said::End(ok, detail) => report.add(ui, format!("{part}: devices"), ok, detail),
            }
        }
    });
    let (ok, detail) = match Usage::verdict(&meeting.records(), 2 * wanted) {
        Ok(detail) => (true, detail),
        Err(failure) => (false, failure.to_string()),
    };
    report.add(ui, format!("{PART}: process"), ok, detail);
    host.close()?;
    Ok(())
}

/// What comes of a guest.
enum Said {
    Line(Line),
    /// The guest is at its end; what became of its devices.
    End(bool, String),
}

impl Side {
    /// Runs the guest; what became of the devices in its domain.
    fn run(
        self,
        lab: &Lab,
        limit: Duration,
        attendee: Attendee<Usage>,
        sender: &Sender<(&'static str, Said)>,
    ) -> Result<String, Failure> {
        let boot = Boot {
            sockets: self.sockets,
            arguments: ["-global", NATIVE].map(str::to_owned).to_vec(),
            parameters: format!(
                "openhdv.mode={} openhdv.domain=hot-plug openhdv.samples={SAMPLES} \
                 openhdv.deadline={}",
                self.modes,
                2 * limit.as_secs()
            ),
            ..Boot::default()
        };
        let slots = Rc::new(RefCell::new(self.slots));
        let doing = Rc::clone(&slots);
        let mut guest = lab.boot(&boot)?.with_doer(move |words| {
            let done = match words {
                "rest" => attendee.rest(Usage::now).map(|()| String::new()),
                _ => doing.borrow_mut().act(words),
            };
            done.map_err(|failure| failure.to_string())
        });
        let name = self.shape.way.name();
        let (_, followed) = guest.follow(1, limit, &mut |line| {
            // As above.
            let _ = sender.send((name, Said::Line(line)));
        });
        followed?;
        guest.end_in_silence(SILENCE)?;
        let slots = slots.borrow();
        slots.verdict()
    }
}

//! The boots of the demo, one after another, and what each has to show.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdv::{DeviceHost, HostOptions};
use hdv_devices::sensor::{Sensor, SourceName};
use hdv_guest::report::Line;
use hdv_qemu::guest::Scratch;

use super::report::Report;
use super::{Arguments, SILENCE};
use crate::interrupt;
use crate::lab::{Boot, Lab};
use crate::ui::Ui;

/// Samples that are seen before QEMU is killed.
const SAMPLES_BEFORE_KILL: u32 = 3;
/// How long a host may take to notice that a client has gone.
const NOTICE: Duration = Duration::from_secs(30);

/// The sensors of this process, served while the plan runs.
struct Sensors {
    host: DeviceHost,
    load: PathBuf,
    sines: [PathBuf; 2],
    /// Holds the sockets.
    _scratch: Scratch,
}

impl Sensors {
    fn serve() -> Result<Self, Box<dyn std::error::Error>> {
        let scratch = Scratch::new()?;
        let host = DeviceHost::new(HostOptions::new())?;
        let serve =
            |name: &str, source: SourceName| -> Result<PathBuf, Box<dyn std::error::Error>> {
                let socket = scratch.path().join(format!("{name}.sock"));
                host.serve(&socket, name, Sensor::new(&source)?)?;
                Ok(socket)
            };
        let load = serve("load", SourceName::Load)?;
        let sines = [
            serve("sine-1", SourceName::Sine)?,
            serve("sine-2", SourceName::Sine)?,
        ];
        Ok(Self {
            host,
            load,
            sines,
            _scratch: scratch,
        })
    }

    fn connected(&self) -> usize {
        let devices = self.host.devices();
        devices
            .iter()
            .filter(|device| device.client.is_some())
            .count()
    }
}

/// Runs every boot.
pub(super) fn run(lab: &Lab, arguments: &Arguments, ui: &Ui) -> Report {
    let mut report = Report::in_guest(lab.kernel_release(), lab.qemu_version());
    match Sensors::serve() {
        Ok(sensors) => Plan {
            lab,
            arguments,
            ui,
            report: &mut report,
        }
        .run(&sensors),
        Err(error) => report.add(ui, "serving sensors".to_owned(), false, error.to_string()),
    }
    report
}

struct Plan<'a> {
    lab: &'a Lab,
    arguments: &'a Arguments,
    ui: &'a Ui,
    report: &'a mut Report,
}

impl Plan<'_> {
    fn run(mut self, sensors: &Sensors) {
        let live = Boot {
            sockets: vec![sensors.load.clone()],
            iommu: true,
            parameters: format!(
                "openhdv.mode=live openhdv.source=any openhdv.seconds={}",
                self.arguments.live
            ),
            reboot: false,
            ..Boot::default()
        };
        self.boot(
            "live",
            "what the guest reads from this machine's load",
            &live,
            1,
        );

        let full = Boot {
            sockets: sensors.sines.to_vec(),
            iommu: true,
            parameters: format!(
                "openhdv.mode=sysfs,vfio openhdv.sensors=2 openhdv.reboot=1 openhdv.samples={}",
                self.arguments.samples
            ),
            reboot: true,
            ..Boot::default()
        };
        self.boot(
            "vIOMMU",
            "two sensors behind a virtual IOMMU, and a warm reboot",
            &full,
            2,
        );

        self.kill(sensors);

        let plain = Boot {
            sockets: sensors.sines.to_vec(),
            iommu: false,
            parameters: "openhdv.mode=sysfs openhdv.sensors=2".to_owned(),
            reboot: false,
            ..Boot::default()
        };
        self.boot(
            "no vIOMMU",
            "two sensors without a virtual IOMMU",
            &plain,
            1,
        );
    }

    fn add(&mut self, part: &str, name: &str, ok: bool, detail: impl Into<String>) {
        self.report
            .add(self.ui, format!("{part}: {name}"), ok, detail.into());
    }

    /// Boots, collects the guest's checks until it powers off, and sees that QEMU had nothing to
    /// say.
    fn boot(&mut self, part: &str, what: &str, boot: &Boot, rounds: u32) {
        if interrupt::requested() {
            return;
        }
        self.ui.doing(&format!("booting a guest: {what}"));
        let mut guest = match self.lab.boot(boot) {
            Ok(guest) => guest,
            Err(error) => return self.add(part, "QEMU", false, error.to_string()),
        };
        let (done, followed) = guest.follow(rounds, SILENCE, &mut |line| self.show(part, line));
        let ended = followed.is_ok();
        if let Err(why) = followed {
            self.add(part, "guest", false, why);
        }
        if rounds > 1 {
            self.add(part, "boots", done == rounds, format!("{done} of {rounds}"));
        }
        if ended {
            let silent = guest.end_in_silence(SILENCE);
            let detail = silent.clone().err();
            let detail = detail.unwrap_or_else(|| "QEMU printed nothing".to_owned());
            self.add(part, "QEMU", silent.is_ok(), detail);
        }
    }

    fn show(&mut self, part: &str, line: Line) {
        match line {
            Line::Start {
                kernel, devices, ..
            } => self
                .ui
                .line(&format!("guest: Linux {kernel} sees {}", devices.join(" "))),
            Line::Sample {
                device,
                sequence,
                value,
                ..
            } => {
                let value = f64::from(value) / 1000.0;
                self.ui
                    .line(&format!("guest: {device} sample {sequence:>4}: {value:.3}"));
            }
            Line::Check(outcome) => self.report.add_outcome(self.ui, part, outcome),
            _ => {}
        }
    }

    /// Kills QEMU while its guest uses a device: the host stays and takes the next client.
    fn kill(&mut self, sensors: &Sensors) {
        const PART: &str = "SIGKILL";
        if interrupt::requested() {
            return;
        }
        self.ui.doing("booting a guest to kill its QEMU");
        let boot = Boot {
            sockets: sensors.sines.to_vec(),
            iommu: true,
            parameters: "openhdv.mode=live openhdv.sensors=2 openhdv.seconds=600".to_owned(),
            reboot: false,
            ..Boot::default()
        };
        let killed = self.lab.boot(&boot).and_then(|mut guest| {
            Ok((guest.samples(SAMPLES_BEFORE_KILL, SILENCE)?, guest.kill()?))
        });
        match killed {
            Ok((samples, ())) => self.add(
                PART,
                "device in use",
                samples == SAMPLES_BEFORE_KILL,
                format!("{samples} samples read, then QEMU was killed"),
            ),
            Err(error) => return self.add(PART, "device in use", false, error.to_string()),
        }
        let begun = Instant::now();
        while sensors.connected() > 0 && begun.elapsed() < NOTICE {
            std::thread::sleep(Duration::from_millis(1));
        }
        let connected = sensors.connected();
        let detail = format!("{connected} clients left, 3 devices served");
        let served = sensors.host.devices().len();
        self.add(PART, "host stays", connected == 0 && served == 3, detail);
    }
}

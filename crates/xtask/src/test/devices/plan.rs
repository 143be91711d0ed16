//! The boots, one after another, and what each has to show.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdv_guest::checks::Check;
use hdv_guest::report::{Line, Outcome};

use super::fleet::{Fleet, PICTURES};
use crate::demo::Report;
use crate::interrupt;
use crate::lab::{Boot, Lab};
use crate::test::Failure;
use crate::ui::Ui;

/// What is seen from outside a guest, by the names under which the conformance table cites it.
pub(crate) const BOOT_CHECKS: [&str; 6] =
    [OTHER_HOSTS, INTERCEPTS, SILENCE_OF_QEMU, KILLED, STUB, ENDS];

const INTERCEPTS: &str = "zero-intercepts";
const SILENCE_OF_QEMU: &str = "qemu-silent";
const OTHER_HOSTS: &str = "hosts-made-otherwise";
const KILLED: &str = "killed-qemu";
const STUB: &str = "stub-after-reboot";
const ENDS: &str = "clean-end";

/// The longest a boot may say nothing.
const SILENCE: Duration = Duration::from_secs(600);
/// How long a host may take to notice that a client has gone.
const NOTICE: Duration = Duration::from_secs(30);
/// Samples that are seen before QEMU is killed.
const SAMPLES_BEFORE_KILL: u32 = 3;

/// The device that goes away under its guest.
const DOOMED: &str = "lab-doomed";
/// The check whose end means that all pixels were drawn.
const DRAWING: &str = "framebuffer-drawing";
/// Framebuffers of one guest.
const FRAMEBUFFERS: usize = 2;
/// How a PNG file begins, and its last chunk.
const PNG_BEGIN: &[u8] = b"\x89PNG\r\n\x1a\n";
const PNG_END: &[u8] = b"IEND\xaeB`\x82";
/// Accesses to registers that drawing costs, at most; pixels come by the hundred thousand.
const REGISTER_ACCESSES: u64 = 1000;

/// Accesses that the checks of a sensor need, at least.
const SENSOR_ACCESSES: u64 = 100;

/// Runs every boot, and ends the programs.
pub(super) fn run(lab: &Lab, mut fleet: Fleet, samples: u32, ui: &Ui, report: &mut Report) {
    let mut plan = Plan {
        lab,
        fleet: &mut fleet,
        ui,
        report,
        drawn: 0,
        sensors_well: true,
    };
    plan.kill();
    plan.boot("C, no vIOMMU", false, "openhdv.mode=sysfs", 1);
    plan.boot(
        "C, vIOMMU",
        true,
        &format!("openhdv.mode=sysfs,vfio openhdv.reboot=1 openhdv.samples={samples}"),
        2,
    );
    plan.pictures();
    for (name, ended) in fleet.end() {
        let detail = ended.clone().err();
        let detail = detail.unwrap_or_else(|| format!("{name} ended as it should"));
        report.add(ui, format!("C: {ENDS}"), ended.is_ok(), detail);
    }
}

struct Plan<'a> {
    lab: &'a Lab,
    fleet: &'a mut Fleet,
    ui: &'a Ui,
    report: &'a mut Report,
    /// How often a framebuffer was drawn in this boot.
    drawn: usize,
    /// No check of a sensor has failed in this boot.
    sensors_well: bool,
}

impl Plan<'_> {
    fn add(&mut self, part: &str, name: &str, ok: bool, detail: impl Into<String>) {
        self.report
            .add(self.ui, format!("{part}: {name}"), ok, detail.into());
    }

    /// All devices, in the order in which they were served.
    fn devices(&self, iommu: bool, parameters: &str, reboot: bool) -> Boot {
        let members = self.fleet.members();
        let kinds: Vec<&str> = members.iter().map(|member| member.kind.as_str()).collect();
        let sensors = kinds.iter().filter(|kind| **kind == "sensor").count();
        Boot {
            sockets: members.iter().map(|member| member.socket.clone()).collect(),
            iommu,
            parameters: format!(
                "openhdv.devices={} openhdv.sensors={sensors} {parameters}",
                kinds.join(",")
            ),
            reboot,
            ..Boot::default()
        }
    }

    /// Boots, collects the guest's checks until it powers off, and sees that QEMU had nothing to
    /// say.
    fn boot(&mut self, part: &str, iommu: bool, parameters: &str, rounds: u32) {
        if interrupt::requested() {
            return;
        }
        // Its memory stays once it has come: only a new one is late for this QEMU.
        if let Err(error) = self.fleet.renew_late() {
            return self.add(part, "framebuffer", false, error.to_string());
        }
        let boot = self.devices(iommu, parameters, rounds > 1);
        let count = boot.sockets.len();
        self.ui
            .doing(&format!("booting a guest with {count} devices: {part}"));
        let mut guest = match self.lab.boot(&boot) {
            Ok(guest) => guest,
            Err(error) => return self.add(part, "QEMU", false, error.to_string()),
        };
        self.drawn = 0;
        self.sensors_well = true;
        let (done, followed) = guest.follow(rounds, SILENCE, &mut |line| self.line(part, line));
        let ended = followed.is_ok();
        if let Err(why) = followed {
            self.add(part, "guest", false, why);
        }
        self.add(part, "boots", done == rounds, format!("{done} of {rounds}"));
        if ended {
            let silent = guest.end_in_silence(SILENCE);
            let detail = silent.clone().err();
            let detail = detail.unwrap_or_else(|| "QEMU printed nothing".to_owned());
            self.add(part, SILENCE_OF_QEMU, silent.is_ok(), detail);
        }
    }

    fn line(&mut self, part: &str, line: Line) {
        match line {
            Line::Start {
                kernel, devices, ..
            } => self
                .ui
                .line(&format!("guest: Linux {kernel} sees {}", devices.join(" "))),
            Line::Check(outcome) if outcome.round > 1 && outcome.name == DOOMED => {
                self.stub(part, &outcome);
            }
            Line::Check(outcome) => {
                self.sensors_well &=
                    outcome.ok || !Check::ALL.iter().any(|check| check.name() == outcome.name);
                let drawing = outcome.name == DRAWING;
                self.report.add_outcome(self.ui, part, outcome);
                if drawing {
                    self.drawn += 1;
                    if self.drawn == FRAMEBUFFERS {
                        self.intercepts(part);
                        self.other_hosts(part);
                    }
                }
            }
            Line::File { name, base64, .. } => self.file(part, &name, &base64),
            _ => {}
        }
    }

    /// A device that was gone before the guest booted anew is no device: its stub reads as all ones.
    fn stub(&mut self, part: &str, outcome: &Outcome) {
        self.add(part, STUB, outcome.ok, outcome.detail.clone());
    }

    /// Pixels of memory that was there when QEMU asked are drawn without an exit.
    fn intercepts(&mut self, part: &str) {
        let seen = self
            .fleet
            .accesses(&self.fleet.early)
            .and_then(|early| Ok((early, self.fleet.accesses(&self.fleet.late)?)));
        match seen {
            Ok((early, late)) => self.add(
                part,
                INTERCEPTS,
                early.all() < REGISTER_ACCESSES && late.all() > early.all(),
                format!(
                    "{} accesses reached the framebuffer's host, {} that of the one whose memory came late",
                    early.all(),
                    late.all()
                ),
            ),
            Err(error) => self.add(part, INTERCEPTS, false, error.to_string()),
        }
    }

    /// Sensors whose hosts were made by the other functions, and through a proxy, are sensors like the others: the guest used them,
    /// and no check of a sensor failed.
    fn other_hosts(&mut self, part: &str) {
        let used = self
            .fleet
            .others
            .iter()
            .map(|socket| Ok(self.fleet.accesses(socket)?.all()))
            .collect::<Result<Vec<_>, Failure>>();
        match used {
            Ok(used) => self.add(
                part,
                OTHER_HOSTS,
                self.sensors_well && used.iter().all(|accesses| *accesses > SENSOR_ACCESSES),
                format!("{used:?} accesses"),
            ),
            Err(error) => self.add(part, OTHER_HOSTS, false, error.to_string()),
        }
    }

    /// Keeps a picture that the guest has made.
    fn file(&mut self, part: &str, name: &str, base64: &str) {
        // The name comes from a guest: it is a name and nothing else.
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character));
        let path = self.fleet.picture(name);
        let kept = if plain {
            STANDARD
                .decode(base64)
                .map_err(|error| error.to_string())
                .and_then(|bytes| std::fs::write(&path, bytes).map_err(|error| error.to_string()))
        } else {
            Err(format!("{name:?} is no file name"))
        };
        let detail = kept.clone().err();
        let detail = detail.unwrap_or_else(|| path.display().to_string());
        self.add(part, "picture", kept.is_ok(), detail);
    }

    /// Every picture is there.
    fn pictures(&mut self) {
        for name in PICTURES {
            let path = self.fleet.picture(name);
            let whole = std::fs::read(&path)
                .is_ok_and(|bytes| bytes.starts_with(PNG_BEGIN) && bytes.ends_with(PNG_END));
            self.add("C", "picture", whole, path.display().to_string());
        }
    }

    /// Kills QEMU while its guest uses a device: the hosts stay and take the next client.
    fn kill(&mut self) {
        const PART: &str = "C, SIGKILL";
        if interrupt::requested() {
            return;
        }
        self.ui.doing("booting a guest to kill its QEMU");
        let boot = self.devices(true, "openhdv.mode=live openhdv.seconds=600", false);
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
        loop {
            match self.fleet.clients() {
                Ok(0) => return self.add(PART, KILLED, true, "no client is left"),
                Ok(_) if begun.elapsed() < NOTICE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(clients) => {
                    return self.add(PART, KILLED, false, format!("{clients} clients left"));
                }
                Err(error) => return self.add(PART, KILLED, false, error.to_string()),
            }
        }
    }
}

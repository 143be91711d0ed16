//! Three guests use three VFs of one emulated PF at once; one is killed, and the PF takes away what the others use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hdv_devices::sriov_sensor::registers::{
    NUM_VFS, STATE_CLIENT, STATE_ENABLED, STATE_SAMPLING, VF_DELIVERED, VF_DEVICE_ID, VF_QUOTA,
    VF_STATE, entry,
};
use hdv_guest::checks::{self, Check, Settings};
use hdv_guest::platform::vfio_user::VfioUser;
use hdv_guest::platform::{BarAccess, Width};
use hdv_guest::report::{Line, Outcome};
use hdv_guest::sriov::vf::quota;
use hdv_qemu::guest::Scratch;

use crate::c::Served;
use crate::demo::Report;
use crate::interrupt;
use crate::lab::{Boot, Guest, Lab};
use crate::test::Failure;
use crate::ui::Ui;

/// What each VF may take, in samples per second. What is checked of the rings takes each of them equally long.
const QUOTAS: [u32; 3] = [20_000, 10_000, 5_000];
/// How long that is.
const RING_SECONDS: u32 = 4;
/// The guest that is killed.
const KILLED: usize = 2;
/// Samples that are seen of a VF in use.
const SAMPLES_IN_USE: u32 = 3;

/// Checks of one sensor.
const CHECKS: [Check; 7] = [
    Check::Identity,
    Check::Registers,
    Check::ThresholdInterrupt,
    Check::RingSamples,
    Check::RingOverflow,
    Check::BadSettings,
    Check::FunctionReset,
];

/// How long anything may take. Guests in software emulation share two processors at times.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a wait for one guest's line goes without a look at the others.
const LOOK: Duration = Duration::from_millis(10);
/// The BAR with the PF's registers.
const BAR: u8 = 0;

pub(super) fn run(hdv: &Path, lab: &Lab, ui: &Ui, report: &mut Report) -> Result<(), Failure> {
    let scratch = Scratch::new()?;
    let socket = scratch.path().join("pf.sock");
    let mut command = Command::new(hdv);
    command
        .args(["serve", "--json", "--device", "sriov-sensor", "--socket"])
        .arg(&socket)
        .args(["--set", "source=sine"])
        .args(["--set", &format!("enable={}", QUOTAS.len())]);
    let served = Served::start(command, PATIENCE)?;
    let pf = Pf {
        command: hdv.to_owned(),
        manager: VfioUser::connect(&socket)?,
        socket,
    };
    let mut plan = Plan { ui, report, pf };
    let result = plan.run(lab);
    drop(plan);
    let ended = served.end(PATIENCE);
    let detail = ended.as_ref().map_or_else(ToString::to_string, |_| {
        "hdv serve ended as it should".to_owned()
    });
    report.add(ui, "PF: clean-end".to_owned(), ended.is_ok(), detail);
    result
}

/// The PF, as its manager has it: by its registers and by the command.
struct Pf {
    command: PathBuf,
    manager: VfioUser,
    socket: PathBuf,
}

impl Pf {
    /// The socket of a VF.
    fn vf(&self, vf: usize) -> PathBuf {
        self.socket.with_file_name(format!("pf-vf{vf}.sock"))
    }

    /// A register of a VF's entry.
    fn read(&self, vf: usize, register: u64, width: Width) -> Result<u64, Failure> {
        let vf = u16::try_from(vf)?;
        Ok(self.manager.read(BAR, entry(vf) + register, width)?)
    }

    /// How many VFs its registers say are enabled.
    fn num_vfs(&self) -> Result<u64, Failure> {
        Ok(self.manager.read(BAR, NUM_VFS, Width::Dword)?)
    }

    fn set_quota(&self, vf: usize, quota: u32) -> Result<(), Failure> {
        let at = entry(u16::try_from(vf)?) + VF_QUOTA;
        self.manager.write(BAR, at, Width::Dword, quota.into())?;
        Ok(())
    }

    /// Whether a VF has these bits of its state.
    fn is(&self, vf: usize, bits: u32) -> Result<bool, Failure> {
        let bits = u64::from(bits);
        Ok(self.read(vf, VF_STATE, Width::Dword)? & bits == bits)
    }

    /// `hdv sriov <what> PF [ARGUMENT]`; what it printed.
    fn sriov(&self, what: &str, arguments: &[&str]) -> Result<String, Failure> {
        let output = Command::new(&self.command)
            .args(["sriov", what, "--json"])
            .arg(&self.socket)
            .args(arguments)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("hdv sriov {what}: {}: {said}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A guest with a VF.
struct Using {
    vf: usize,
    guest: Guest,
    /// How often it has come to where it waits.
    waits: u32,
    /// Samples it has printed.
    samples: u32,
    /// Checks since it last waited.
    checks: u32,
    done: bool,
}

impl Using {
    fn part(&self) -> String {
        format!("VF {}", self.vf)
    }
}

struct Plan<'a> {
    ui: &'a Ui,
    report: &'a mut Report,
    pf: Pf,
}

impl Plan<'_> {
    fn add(&mut self, part: &str, name: &str, ok: bool, detail: impl Into<String>) {
        let name = format!("{part}: {name}");
        self.report.add(self.ui, name, ok, detail.into());
    }

    fn run(&mut self, lab: &Lab) -> Result<(), Failure> {
        for (vf, quota) in QUOTAS.into_iter().enumerate() {
            self.pf.set_quota(vf, quota)?;
        }
        let mut guests = self.boot(lab)?;
        self.use_at_once(&mut guests)?;
        self.kill(&mut guests)?;
        self.disable(guests)?;
        self.enable_again()
    }

    /// Boots the guests up to where all of them are to begin.
    fn boot(&mut self, lab: &Lab) -> Result<Vec<Using>, Failure> {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name()).collect();
        self.ui.doing("booting three guests with a VF each");
        let mut guests = Vec::new();
        for (vf, quota) in QUOTAS.into_iter().enumerate() {
            let then = if vf == KILLED {
                "live"
            } else {
                "wait,vfio,gone"
            };
            let boot = Boot {
                sockets: vec![self.pf.vf(vf)],
                iommu: true,
                parameters: format!(
                    "openhdv.devices=sensor-vf openhdv.mode=wait,vfio,quota,{then} openhdv.checks={} \
                     openhdv.samples={} openhdv.quota={quota} openhdv.seconds={} openhdv.live-period=20000",
                    names.join(","),
                    quota * RING_SECONDS,
                    PATIENCE.as_secs(),
                ),
                ..Boot::default()
            };
            guests.push(Using {
                vf,
                guest: lab.boot(&boot)?,
                waits: 0,
                samples: 0,
                checks: 0,
                done: false,
            });
        }
        self.until("booting", &mut guests, |using| using.waits == 1)?;
        Ok(guests)
    }

    /// All of them check their VFs at the same time, under different quotas.
    fn use_at_once(&mut self, guests: &mut [Using]) -> Result<(), Failure> {
        self.ui.doing("all of them check their VFs at once");
        for using in &mut *guests {
            using.guest.go_on()?;
        }
        let mut most = 0;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look(guests)?;
            let mut sampling = 0;
            for using in &*guests {
                sampling += usize::from(self.pf.is(using.vf, STATE_CLIENT | STATE_SAMPLING)?);
            }
            most = most.max(sampling);
            if guests.iter().all(|using| match using.vf {
                KILLED => using.samples >= SAMPLES_IN_USE,
                _ => using.waits == 2,
            }) {
                break;
            }
            in_time("the checks of all guests", guests, deadline)?;
        }
        let mut delivered = Vec::new();
        for using in &*guests {
            delivered.push(self.pf.read(using.vf, VF_DELIVERED, Width::Qword)?);
        }
        let enough = delivered
            .iter()
            .zip(QUOTAS)
            .all(|(&delivered, quota)| delivered > u64::from(quota * RING_SECONDS));
        self.add(
            "PF",
            "three at once",
            most == guests.len() && enough,
            format!("its registers showed {most} VFs sampling at the same time; {delivered:?} samples delivered"),
        );
        Ok(())
    }

    /// One is killed while the others make all their checks again.
    fn kill(&mut self, guests: &mut Vec<Using>) -> Result<(), Failure> {
        let mut killed = guests.remove(KILLED);
        self.ui.doing("killing one while the others check again");
        for using in &mut *guests {
            using.guest.go_on()?;
        }
        self.until("checks after a go-on", guests, |using| using.checks > 0)?;
        let under_way = guests
            .iter()
            .all(|using| using.checks < u32::try_from(CHECKS.len()).unwrap_or(u32::MAX));
        let used = self.pf.is(KILLED, STATE_CLIENT | STATE_SAMPLING)?;
        killed.guest.kill()?;
        self.add(
            "PF",
            "one guest killed",
            under_way && used,
            "its QEMU got SIGKILL while it sampled and the others were in their checks",
        );
        self.until("checks while another guest was killed", guests, |using| {
            using.samples >= SAMPLES_IN_USE
        })?;
        let gone = !self.pf.is(KILLED, STATE_CLIENT)? && self.pf.is(KILLED, STATE_ENABLED)?;
        self.add(
            "PF",
            "killed guest's VF",
            gone,
            "it is enabled and has no client",
        );
        Ok(())
    }

    /// VFs in use are taken away.
    fn disable(&mut self, mut guests: Vec<Using>) -> Result<(), Failure> {
        self.ui.doing("disabling VFs in use");
        let mut used = true;
        for using in &guests {
            used &= self.pf.is(using.vf, STATE_CLIENT | STATE_SAMPLING)?;
        }
        let begun = Instant::now();
        self.pf.sriov("disable", &[])?;
        let taken = begun.elapsed();
        let left = self.pf.num_vfs()?;
        let sockets = (0..QUOTAS.len())
            .filter(|vf| self.pf.vf(*vf).exists())
            .count();
        self.add(
            "PF",
            "disabled in use",
            used && left == 0 && sockets == 0,
            format!(
                "hdv sriov disable took {} ms with {} VFs in use; {left} VFs and {sockets} sockets are left",
                taken.as_millis(),
                guests.len()
            ),
        );
        self.until("what is left of a VF", &mut guests, |using| using.done)?;
        for using in guests {
            let part = using.part();
            let silent = using.guest.end_in_silence(PATIENCE);
            let detail = silent.clone().err();
            let detail = detail.unwrap_or_else(|| "QEMU printed nothing".to_owned());
            self.add(&part, "QEMU", silent.is_ok(), detail);
        }
        Ok(())
    }

    /// VFs come again, with the quotas that the PF remembers, for a new client.
    fn enable_again(&mut self) -> Result<(), Failure> {
        self.ui.doing("enabling VFs again");
        let count = QUOTAS.len().to_string();
        self.pf.sriov("enable", &[&count])?;
        let now = self.pf.num_vfs()?;
        self.add(
            "PF",
            "enabled again",
            now == QUOTAS.len() as u64,
            format!("{now} VFs"),
        );
        for (vf, quota) in QUOTAS.into_iter().enumerate() {
            let part = format!("VF {vf}, enabled again");
            let settings = Settings {
                device_id: VF_DEVICE_ID,
                samples: quota,
                ..Settings::default()
            };
            let socket = self.pf.vf(vf);
            let device = VfioUser::connect(&socket)?;
            checks::run(&CHECKS, vec![device], &settings, &mut |outcome| {
                self.report.add_outcome(self.ui, &part, outcome);
            });
            let device = VfioUser::connect(&socket)?;
            let quota = quota.try_into()?;
            let verdict = quota::check(device, &settings, quota);
            let ok = verdict.is_ok();
            let detail = verdict.unwrap_or_else(|failure| failure.to_string());
            self.add(&part, quota::NAME, ok, detail);
        }
        Ok(())
    }

    /// Takes what the guests print until each of them has reached something.
    fn until(
        &mut self,
        what: &str,
        guests: &mut [Using],
        reached: impl Fn(&Using) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !guests.iter().all(&reached) {
            self.look(guests)?;
            in_time(what, guests, deadline)?;
        }
        Ok(())
    }

    /// Takes what each guest has printed.
    fn look(&mut self, guests: &mut [Using]) -> Result<(), Failure> {
        for using in guests.iter_mut().filter(|using| !using.done) {
            while let Some(line) = using
                .guest
                .poll(LOOK)
                .map_err(|why| format!("{}: {why}", using.part()))?
            {
                self.line(using, line);
                if using.done {
                    break;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, using: &mut Using, line: Line) {
        match line {
            Line::Check(outcome) => {
                using.checks += 1;
                self.outcome(using, outcome);
            }
            Line::Sample { .. } => using.samples += 1,
            Line::Waiting { .. } => {
                using.waits += 1;
                using.checks = 0;
            }
            Line::Done { .. } => using.done = true,
            _ => {}
        }
    }

    fn outcome(&mut self, using: &Using, outcome: Outcome) {
        let part = match using.waits {
            0 | 1 => using.part(),
            _ => format!("{}, another killed", using.part()),
        };
        self.report.add_outcome(self.ui, &part, outcome);
    }
}

fn in_time(what: &str, guests: &[Using], deadline: Instant) -> Result<(), Failure> {
    if interrupt::requested() {
        return Err("interrupted".into());
    }
    if Instant::now() < deadline {
        return Ok(());
    }
    let consoles: Vec<_> = guests
        .iter()
        .map(|using| format!("{}:\n{}", using.part(), using.guest.last_lines()))
        .collect();
    let seconds = PATIENCE.as_secs();
    Err(format!(
        "{what}: not done within {seconds} s\n{}",
        consoles.join("\n")
    )
    .into())
}

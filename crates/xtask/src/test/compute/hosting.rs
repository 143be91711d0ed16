//! The same device hosted in each way, in one guest: equal results of every check that the guest can make without an IOMMU.

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::{Broker, BrokerLimits, ComputeSystem};
use hdv_guest::checks::{Check, Settings};
use hdv_guest::platform::vfio_user::VfioUser;
use hdv_guest::report::{Change, Outcome};

use super::actor::{self, Actor, Playing};
use super::checks::Checks;
use super::clients::{Clients, MODELS};
use super::facts::Facts;
use super::journal::{Journal, announce};
use super::vm::{Form, Seen, Told, Vm};
use crate::test::Failure;

/// Samples through the ring of each.
const SAMPLES: u32 = 50_000;
/// Checks whose result says nothing of how fast it went: it is compared by the letter.
const BY_THE_LETTER: [&str; 3] = ["identity", "registers", "threshold-interrupt"];

const ID: &str = "hosting";

const fn instance(number: u128) -> Uuid {
    Uuid::from_u128(0x4057_0000 + number)
}

/// A device host without rights, and who speaks for it.
pub(super) struct Restricted {
    pub(super) process: Playing,
    pub(super) broker: Broker,
}

impl Restricted {
    /// With a sensor, which is the worker's `own` or one that notes the calls into it.
    pub(super) fn start(
        instance: Uuid,
        own: bool,
        system: &ComputeSystem,
    ) -> Result<Self, Failure> {
        let mut command = actor::command(&Actor::Restricted { instance, own })?;
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let (child, socket) = Broker::spawn(command)?;
        let pid = child.id();
        let mut process = Playing::of(child)?;
        let broker = Broker::start(socket, pid, system, BrokerLimits::default())?;
        process.expect("announced")?;
        Ok(Self { process, broker })
    }

    /// Has the process end.
    pub(super) fn end(self) -> Result<(), Failure> {
        let ended = self.process.end()?;
        drop(self.broker);
        if ended.success() {
            Ok(())
        } else {
            Err(format!("the restricted process: {ended}").into())
        }
    }
}

pub(super) fn run(checks: &mut Checks<'_>) {
    checks.doing("booting a guest with a device hosted in each way");
    let facts = checks.facts;
    checks.check("Internal, External and ExternalRestricted alike", || {
        let parameters =
            format!("openhdv.mode=watch,direct openhdv.sensors=3 openhdv.samples={SAMPLES}");
        let mut form = Form {
            parameters,
            ..Form::default()
        };
        for (number, model) in (0..).zip(MODELS) {
            form = form.with(instance(number), model);
        }
        let mut vm = Vm::create(ID, &form, facts)?;
        let host = DeviceHost::new(HostOptions::default())?;
        host.attach(vm.system.system())?;
        announce(&host, instance(1), &Journal::default())?;
        let restricted = Restricted::start(instance(2), false, &vm.system)?;
        vm.system.start()?;
        let told = vm.until_waiting()?;
        told.expect(MODELS.len(), Change::First)?;
        let result = alike(&told)?;
        vm.say("off")?;
        vm.end()?;
        restricted.end()?;
        Ok(result)
    });
    checks.doing("checking a device hosted in each way from outside a guest");
    checks.check("the same at our client end", || at_our_end(facts));
}

/// Every check of a sensor, interrupts and memory behind an address space of its own among them.
fn at_our_end(facts: &Facts) -> Result<String, Failure> {
    let clients = Clients::start(&facts.worker())?;
    let settings = Settings {
        samples: SAMPLES,
        ..Settings::default()
    };
    let mut selection = Check::ALL.to_vec();
    selection.retain(|check| *check != Check::TwoSensors);
    let mut told = Told::default();
    for socket in clients.sockets() {
        let device = VfioUser::connect(socket)?;
        hdv_guest::checks::run(&selection, vec![device], &settings, &mut |outcome| {
            told.outcomes.push(outcome);
        });
        told.seen.push(Seen {
            address: socket.display().to_string(),
            change: Change::First,
            enumerated_us: None,
            clock_us: 0,
        });
    }
    clients.end()?;
    told.expect(MODELS.len(), Change::First)?;
    alike(&told)
}

/// Compares what was seen of each device.
fn alike(told: &Told) -> Result<String, Failure> {
    let of = |address: &str| -> Vec<&Outcome> {
        told.outcomes
            .iter()
            .filter(|outcome| outcome.device == address)
            .collect()
    };
    let mut seen = told.seen.iter().map(|seen| of(&seen.address));
    let first = seen.next().ok_or("there is no device")?;
    for other in seen {
        if other.len() != first.len() {
            return Err(
                format!("{} checks of one, {} of another", first.len(), other.len()).into(),
            );
        }
        for (a, b) in first.iter().zip(other) {
            let by_the_letter = BY_THE_LETTER.contains(&a.name.as_str());
            if a.name != b.name || a.ok != b.ok || (by_the_letter && a.detail != b.detail) {
                return Err(format!("{a:?} differs from {b:?}").into());
            }
        }
    }
    let names: Vec<_> = first.iter().map(|outcome| outcome.name.as_str()).collect();
    Ok(format!(
        "{} of each of {} devices, with equal results",
        names.join(", "),
        told.seen.len()
    ))
}

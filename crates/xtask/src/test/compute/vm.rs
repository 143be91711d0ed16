//! A VM with the guest program in it: its document, its console, what it has printed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use hdv::Uuid;
use hdv_compute::document::{HostingModel, State};
use hdv_compute::{ComputeSystem, ExitStatus};
use hdv_guest::report::{Change, Line, Outcome};
use hdv_qemu::machine::KERNEL_PARAMETERS;
use serde_json::{Value, json};

use super::facts::Facts;
use super::journal::CLASS;
use crate::interrupt;
use crate::test::Failure;

/// How long anything may take. Guests in software emulation share two processors at times.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// How long a wait goes without a look at whether the task is to end.
const LOOK: Duration = Duration::from_millis(200);
/// Lines of the console that an error shows.
const SHOWN: usize = 15;
/// Our own sensor's class.
const OWN_SENSOR: &str = "sensor";

/// What a document asks for.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// The guest program's parameters.
    pub(crate) parameters: String,
    pub(crate) devices: Vec<(Uuid, HostingModel)>,
    pub(crate) stop_on_reset: bool,
    pub(crate) ends_with_handle: bool,
    /// Guest memory in MiB.
    pub(crate) memory: u32,
    /// Without a kernel the firmware finds nothing to boot.
    pub(crate) kernel: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            parameters: "openhdv.mode=watch".to_owned(),
            devices: Vec::new(),
            stop_on_reset: false,
            ends_with_handle: true,
            memory: 256,
            kernel: true,
        }
    }
}

impl Form {
    pub(crate) fn external(self, instance: Uuid) -> Self {
        self.with(instance, HostingModel::External)
    }

    pub(crate) fn with(mut self, instance: Uuid, model: HostingModel) -> Self {
        self.devices.push((instance, model));
        self
    }

    /// The document of a VM of this id.
    pub(crate) fn document(&self, id: &str, facts: &Facts) -> String {
        let devices: serde_json::Map<_, _> = self
            .devices
            .iter()
            .map(|(instance, model)| (instance.to_string(), settings(*model)))
            .collect();
        let mut document = json!({
            "Owner": "xtask",
            "SchemaVersion": { "Major": 2, "Minor": 7 },
            "ShouldTerminateOnLastHandleClosed": self.ends_with_handle,
            "VirtualMachine": {
                "StopOnReset": self.stop_on_reset,
                "ComputeTopology": {
                    "Memory": { "SizeInMB": self.memory },
                    "Processor": { "Count": 1 },
                },
                "Devices": { "ComPorts": { "0": { "NamedPipe": format!(r"\\.\pipe\{id}-com0") } }, "FlexibleIov": devices },
            },
        });
        if self.kernel {
            document["VirtualMachine"]["Chipset"] = json!({ "LinuxKernelDirect": {
                "KernelFilePath": facts.kernel,
                "InitRdPath": facts.initramfs,
                "KernelCmdLine": format!("{KERNEL_PARAMETERS} quiet {}", self.parameters),
            } });
        } else {
            document["VirtualMachine"]["Devices"]["ComPorts"] = json!({});
        }
        document.to_string()
    }
}

/// What a device is given for its configuration.
pub(crate) fn configuration(model: HostingModel) -> Vec<String> {
    match model {
        HostingModel::Internal => vec!["source=sine".to_owned()],
        _ => vec!["one".to_owned(), "two".to_owned()],
    }
}

fn settings(model: HostingModel) -> Value {
    let class = match model {
        HostingModel::Internal => hdv_devices::catalog()
            .iter()
            .find(|kind| kind.name == OWN_SENSOR)
            .map_or(CLASS, |kind| kind.class_id),
        _ => CLASS,
    };
    settings_of(class, model, &configuration(model))
}

/// The settings of a device.
pub(crate) fn settings_of(class: Uuid, model: HostingModel, configuration: &[String]) -> Value {
    json!({ "EmulatorId": class, "HostingModel": model, "Configuration": configuration })
}

fn resource(instance: Uuid) -> String {
    format!("VirtualMachine/Devices/FlexibleIov/{instance}")
}

/// The request that plugs a device in.
pub(crate) fn add(instance: Uuid, model: HostingModel) -> String {
    json!({ "ResourcePath": resource(instance), "RequestType": "Add", "Settings": settings(model) })
        .to_string()
}

/// The request that takes it out.
pub(crate) fn remove(instance: Uuid) -> String {
    json!({ "ResourcePath": resource(instance), "RequestType": "Remove" }).to_string()
}

/// A function that the guest has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) address: String,
    pub(crate) change: Change,
    pub(crate) enumerated_us: Option<u64>,
    pub(crate) clock_us: u64,
}

/// What the guest has told since it was last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) seen: Vec<Seen>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Told {
    /// Says what is wrong unless so many came, each in this way, and every check of each was passed.
    pub(crate) fn expect(&self, count: usize, change: Change) -> Result<(), Failure> {
        self.expect_seen(count, change)?;
        if let Some(bad) = self.outcomes.iter().find(|outcome| !outcome.ok) {
            return Err(format!("{} {}: {}", bad.name, bad.device, bad.detail).into());
        }
        if change != Change::Gone && self.outcomes.len() < count {
            return Err(format!("only {} checks were made", self.outcomes.len()).into());
        }
        Ok(())
    }

    /// Says what is wrong unless so many came, each in this way.
    pub(crate) fn expect_seen(&self, count: usize, change: Change) -> Result<(), Failure> {
        if self.seen.len() != count || self.seen.iter().any(|seen| seen.change != change) {
            let seen = &self.seen;
            return Err(
                format!("the guest saw {seen:?}, expected {count} of the kind {change:?}").into(),
            );
        }
        Ok(())
    }
}

/// A VM that runs the guest program.
pub(crate) struct Vm {
    pub(crate) system: ComputeSystem,
    console: UnixStream,
    lines: Receiver<String>,
    last: VecDeque<String>,
}

impl Vm {
    /// Creates it.
    pub(crate) fn create(id: &str, form: &Form, facts: &Facts) -> Result<Self, Failure> {
        let system = ComputeSystem::create(id, &form.document(id, facts))?;
        let console = system.console(0)?;
        let reader = BufReader::new(console.try_clone()?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            system,
            console,
            lines,
            last: VecDeque::new(),
        })
    }

    /// Tells the guest program what to do.
    pub(crate) fn say(&mut self, command: &str) -> Result<(), Failure> {
        Ok(self.console.write_all(format!("{command}\n").as_bytes())?)
    }

    /// The guest program's next line that `takes` takes.
    pub(crate) fn line<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut takes: impl FnMut(Line) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            if interrupt::requested() {
                return Err("interrupted".into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let text = match self.lines.recv_timeout(left.min(LOOK)) {
                Ok(text) => text,
                Err(RecvTimeoutError::Timeout) if left > LOOK => continue,
                Err(error) => {
                    let last: Vec<_> = self.last.iter().map(String::as_str).collect();
                    let state = self.system.properties().map(|properties| properties.state);
                    return Err(format!(
                        "{what}: {error}; the VM is {state:?}, its console ends with\n{}",
                        last.join("\n")
                    )
                    .into());
                }
            };
            if self.last.len() == SHOWN {
                self.last.pop_front();
            }
            self.last.push_back(text.trim_end().to_owned());
            if let Some(taken) = Line::parse(&text).and_then(&mut takes) {
                return Ok(taken);
            }
        }
    }

    /// What the guest program tells until it waits for a command.
    pub(crate) fn until_waiting(&mut self) -> Result<Told, Failure> {
        let mut told = Told::default();
        self.line("the guest's readiness", PATIENCE, |line| {
            take(&mut told, line).then_some(())
        })?;
        Ok(told)
    }

    /// What it tells until so many functions came or went, and so many checks were made of each.
    pub(crate) fn until_seen(&mut self, count: usize, checks: usize) -> Result<Told, Failure> {
        let mut told = Told::default();
        self.line("what the guest sees", PATIENCE, |line| {
            take(&mut told, line);
            (told.seen.len() >= count && told.outcomes.len() >= count * checks).then_some(())
        })?;
        Ok(told)
    }

    /// The guest's clock, in microseconds.
    pub(crate) fn clock(&mut self) -> Result<u64, Failure> {
        self.say("clock")?;
        self.line("the guest's clock", PATIENCE, |line| match line {
            Line::Clock { clock_us } => Some(clock_us),
            _ => None,
        })
    }

    /// Fails unless it is in this state.
    pub(crate) fn expect_state(&self, state: State) -> Result<(), Failure> {
        let now = self.system.properties()?.state;
        if now == state {
            Ok(())
        } else {
            Err(format!("the state is {now:?}, expected {state:?}").into())
        }
    }

    /// Waits for its end.
    pub(crate) fn end(&self) -> Result<ExitStatus, Failure> {
        self.system
            .wait_for_exit(PATIENCE)
            .ok_or_else(|| "the VM does not end".into())
    }
}

/// Notes a line; whether the guest program waits for a command.
fn take(told: &mut Told, line: Line) -> bool {
    match line {
        Line::Device {
            address,
            change,
            enumerated_us,
            clock_us,
            ..
        } => told.seen.push(Seen {
            address,
            change,
            enumerated_us,
            clock_us,
        }),
        Line::Check(outcome) => told.outcomes.push(outcome),
        Line::Waiting { .. } => return true,
        _ => {}
    }
    false
}

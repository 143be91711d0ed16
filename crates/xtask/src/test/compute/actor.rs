//! The processes that are this program again: the one that makes the checks, and those that it has as device hosts and creators.
//!
//! Each but the first prints what it has done, a line each, and stays until its standard input ends.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::{ComputeSystem, RestrictedSystem, broker_socket, lock_in};

use super::facts::Facts;
use super::journal::{Journal, announce};
use super::vm::{Form, add};
use super::{checks, clients, vmm};
use crate::test::Failure;

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process plays.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Actor {
    /// Makes the checks.
    Checks,
    /// Has a sensor for a VM.
    Host {
        /// The VM.
        system: String,
        /// The sensor.
        instance: Uuid,
        /// Plugs it in, too.
        #[arg(long)]
        add: bool,
    },
    /// Has a sensor for a VM, behind a broker, without rights.
    Restricted {
        /// The sensor.
        instance: Uuid,
        /// It is the one that the worker has.
        #[arg(long)]
        own: bool,
    },
    /// Has a VM whose devices are left to clients of ours.
    Clients,
    /// Is the VMM of such a VM.
    Vmm {
        /// What the worker gives QEMU.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Creates a VM with a sensor of its own and starts it.
    Creator {
        /// The VM.
        system: String,
        /// The VM ends with its last handle.
        #[arg(long)]
        ends_with_handle: bool,
    },
}

/// Plays a part; true if it went well.
pub(crate) fn run(actor: &Actor) -> bool {
    let result = match actor {
        Actor::Checks => return checks::run(),
        Actor::Host {
            system,
            instance,
            add: plug,
        } => host(system, *instance, *plug),
        Actor::Restricted { instance, own } => restricted(*instance, *own),
        Actor::Clients => clients::run(),
        Actor::Vmm { arguments } => vmm::run(arguments),
        Actor::Creator {
            system,
            ends_with_handle,
        } => creator(system, *ends_with_handle),
    };
    if let Err(failure) = &result {
        eprintln!("{failure}");
    }
    result.is_ok()
}

/// The command that starts a part.
pub(super) fn command(actor: &Actor) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("compute-actor");
    match actor {
        Actor::Checks => {
            command.arg("checks");
        }
        Actor::Host {
            system,
            instance,
            add,
        } => {
            command.args(["host", system, &instance.to_string()]);
            command.args(add.then_some("--add"));
        }
        Actor::Restricted { instance, own } => {
            command.args(["restricted", &instance.to_string()]);
            command.args(own.then_some("--own"));
        }
        Actor::Clients => {
            command.arg("clients");
        }
        Actor::Vmm { arguments } => {
            command.args(["vmm", "--"]).args(arguments);
        }
        Actor::Creator {
            system,
            ends_with_handle,
        } => {
            command.args(["creator", system]);
            command.args(ends_with_handle.then_some("--ends-with-handle"));
        }
    }
    Ok(command)
}

pub(super) fn say(what: &str) {
    println!("{what}");
    // Who does not listen has ended.
    let _ = std::io::stdout().flush();
}

/// Until the standard input ends.
pub(super) fn stay() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

fn host(id: &str, instance: Uuid, plug: bool) -> Result<(), Failure> {
    let system = ComputeSystem::open(id)?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(system.system())?;
    let journal = Journal::default();
    announce(&host, instance, &journal)?;
    say("announced");
    if plug {
        system.modify(&add(
            instance,
            hdv_compute::document::HostingModel::External,
        ))?;
        say("plugged");
    }
    stay();
    Ok(host.close()?)
}

fn restricted(instance: Uuid, own: bool) -> Result<(), Failure> {
    let socket = broker_socket()?;
    let own = own.then(clients::function).transpose()?;
    lock_in()?;
    let host = DeviceHost::new(HostOptions::restricted())?;
    host.attach(RestrictedSystem::over(socket)?)?;
    match own {
        Some(function) => clients::announce(&host, instance, function)?,
        None => announce(&host, instance, &Journal::default())?,
    }
    say("announced");
    stay();
    Ok(host.close()?)
}

fn creator(id: &str, ends_with_handle: bool) -> Result<(), Failure> {
    let facts = Facts::of_environment()?;
    let instance = Uuid::from_u128(1);
    let form = Form {
        ends_with_handle,
        ..Form::default()
    }
    .external(instance);
    let system = ComputeSystem::create(id, &form.document(id, &facts))?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(system.system())?;
    announce(&host, instance, &Journal::default())?;
    system.start()?;
    say("started");
    stay();
    Ok(())
}

/// A process that plays a part. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Playing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Playing {
    pub(super) fn start(actor: &Actor) -> Result<Self, Failure> {
        let mut command = command(actor)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // One that is stopped goes on when the shell goes that its group belongs to.
            .process_group(0);
        Self::of(command.spawn()?)
    }

    /// One that was started with piped streams.
    pub(super) fn of(mut child: Child) -> Result<Self, Failure> {
        let output = child.stdout.take().ok_or("its output is no pipe")?;
        Ok(Self {
            child,
            lines: BufReader::new(output).lines(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said something.
    pub(super) fn expect(&mut self, wanted: &str) -> Result<(), Failure> {
        for line in self.lines.by_ref() {
            if line? == wanted {
                return Ok(());
            }
        }
        let status = self.child.wait()?;
        Err(format!("a process did not get to {wanted:?}: {status}").into())
    }

    /// The next line that it says.
    pub(super) fn next_line(&mut self) -> Result<String, Failure> {
        match self.lines.next() {
            Some(line) => Ok(line?),
            None => Err(format!("a process ended early: {}", self.child.wait()?).into()),
        }
    }

    /// Ends its standard input and waits for its end.
    pub(super) fn end(mut self) -> Result<ExitStatus, Failure> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err("a process does not end".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

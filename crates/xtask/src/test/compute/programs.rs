//! The examples, and the command with the example documents, in a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::checks::Checks;
use super::facts::Facts;
use super::succeed;
use crate::c::{Library, Variant};
use crate::cargo::{cargo, target_directory, workspace};
use crate::interrupt;
use crate::test::Failure;
use crate::ui::Ui;

/// The longest that a guest may take to its shell.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the lab's guest says when it takes commands.
const PROMPT: &str = "# ";
/// Leaves the console.
const LEAVE: &[u8] = b"\x1d";
/// Where the example documents are.
const DOCUMENTS: &str = "examples/documents";

/// Builds the examples; each with what a check calls it.
pub(super) fn build(library: &Library, ui: &Ui) -> Vec<(String, Result<PathBuf, String>)> {
    ui.doing("building the examples of compute systems");
    let c = library
        .example("vm", Variant::PLAIN)
        .map_err(|error| error.to_string());
    let rust = rust_example().map_err(|failure| failure.to_string());
    vec![
        ("examples/c/vm.c".to_owned(), c),
        ("crates/compute/examples/vm.rs".to_owned(), rust),
    ]
}

fn rust_example() -> Result<PathBuf, Failure> {
    let package = ["--package", "openhdv-compute", "--example", "vm"];
    let mut command = cargo(["build", "--release", "--locked"]);
    command.args(package);
    succeed(command, "building it")?;
    Ok(target_directory()?.join("release/examples/vm"))
}

pub(super) fn run(checks: &mut Checks<'_>) {
    let facts = checks.facts;
    for (name, program) in &facts.programs {
        checks.doing(name);
        checks.check(name, || {
            let said = succeed(Command::new(program.as_ref().map_err(Clone::clone)?), name)?;
            for wanted in ["paused", "resumed"] {
                if !said.to_lowercase().contains(wanted) {
                    return Err(format!("it does not say {wanted:?}:\n{said}").into());
                }
            }
            Ok(format!("{} lines, success", said.lines().count()))
        });
    }
    let directory = workspace().join(DOCUMENTS);
    let mut documents: Vec<_> = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    documents.sort();
    checks.check("documents to run", || match documents.len() {
        0 => Err(format!("there are none in {}", directory.display()).into()),
        count => Ok(format!("{count} in {DOCUMENTS}")),
    });
    checks.doing("hdv run with each of them");
    for (document, result) in in_turns(&documents, |document| in_terminal(facts, document)) {
        let name = document.file_name().unwrap_or_default().display();
        checks.check(&format!("hdv run {name}"), || Ok(result?));
    }
    checks.check("hdv create, start, plug, console, unplug, stop", || {
        by_command(facts)
    });
}

/// Runs a document in a terminal up to the guest's shell, and has the guest power off there.
fn in_terminal(facts: &Facts, document: &Path) -> Result<String, Failure> {
    let mut command = Command::new(facts.hdv());
    command.arg("run").arg(document);
    let mut terminal = Terminal::start(command)?;
    terminal.expect(PROMPT)?;
    terminal.say(b"poweroff -f\n")?;
    terminal.end()
}

/// Does something with each of them, with as many at once as there are processors; what came of it, in their order.
fn in_turns(
    of: &[PathBuf],
    with: impl Fn(&Path) -> Result<String, Failure> + Sync,
) -> Vec<(&Path, Result<String, String>)> {
    let at_once = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..at_once)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(one) = of.get(number).filter(|_| !interrupt::requested()) else {
                            return done;
                        };
                        let result = with(one).map_err(|failure| failure.to_string());
                        done.push((number, one.as_path(), result));
                    }
                })
            })
            .collect();
        // One that panicked has said so; what it did not do is missing, and told below.
        let done = runners.into_iter().filter_map(|runner| runner.join().ok());
        done.flatten().collect()
    });
    for (number, one) in of.iter().enumerate() {
        if !done.iter().any(|(known, ..)| *known == number) {
            done.push((number, one.as_path(), Err("it was not done".to_owned())));
        }
    }
    done.sort_by_key(|(number, ..)| *number);
    let done = done.into_iter();
    done.map(|(_, one, result)| (one, result)).collect()
}

/// `hdv ARGUMENTS`; what it printed.
fn hdv(facts: &Facts, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(facts.hdv());
    command.args(arguments);
    succeed(command, &format!("hdv {}", arguments.join(" ")))
}

fn by_command(facts: &Facts) -> Result<String, Failure> {
    const ID: &str = "by-command";
    let result = by_command_named(ID, facts);
    if result.is_err() {
        // It outlives its handles; that it cannot be stopped is not what went wrong first.
        let _ = hdv(facts, &["stop", "--force", ID]);
    }
    result
}

fn by_command_named(id: &str, facts: &Facts) -> Result<String, Failure> {
    const NAME: &str = "thermometer";
    let form = super::vm::Form {
        ends_with_handle: false,
        ..Default::default()
    };
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("document.json");
    std::fs::write(&path, form.document(id, facts))?;
    hdv(facts, &["create", "--id", id, &path.display().to_string()])?;
    hdv(facts, &["start", id])?;
    let mut console = Command::new(facts.hdv());
    console.args(["console", id]);
    let mut console = Terminal::start(console)?;
    console.expect("\"waiting\"")?;
    let device = "sensor,source=sine";
    hdv(facts, &["plug", "--device", device, "--name", NAME, id])?;
    console.expect("\"later\"")?;
    let told: Value = serde_json::from_str(&hdv(facts, &["inspect", "--json", id])?)?;
    if told["State"] != "Running" || told["Devices"][NAME]["Status"] != "Attached" {
        return Err(format!("hdv inspect tells {told}").into());
    }
    hdv(facts, &["pause", id])?;
    hdv(facts, &["resume", id])?;
    hdv(facts, &["unplug", id, NAME])?;
    console.expect("\"gone\"")?;
    hdv(facts, &["stop", "--force", id])?;
    console.end()?;
    Ok(
        "the console told of a device that came and went; the VM was paused, resumed, ended"
            .to_owned(),
    )
}

/// A program on a terminal of its own.
struct Terminal {
    child: std::process::Child,
    terminal: File,
    output: mpsc::Receiver<Vec<u8>>,
    heard: String,
    begun: Instant,
}

impl Terminal {
    fn start(mut command: Command) -> Result<Self, Failure> {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&main)?;
        unlockpt(&main)?;
        let name = ptsname(&main, Vec::new())?;
        let other: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open(name.to_str()?)?
            .into();
        let child = command
            .stdin(Stdio::from(other.try_clone()?))
            .stdout(Stdio::from(other.try_clone()?))
            .stderr(Stdio::from(other))
            .spawn()?;
        let terminal = File::from(main);
        let mut reader = terminal.try_clone()?;
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end: nobody has the other side any more.
            while let Ok(count) = reader.read(&mut bytes) {
                if count == 0 || sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            terminal,
            output,
            heard: String::new(),
            begun: Instant::now(),
        })
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.terminal.write_all(bytes)?)
    }

    /// Waits until it has shown something, and takes all up to it.
    fn expect(&mut self, text: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.heard.find(text) {
                self.heard.drain(..at + text.len());
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.heard.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => {
                    return Err(format!("no {text:?}: {error}; it showed\n{}", self.heard).into());
                }
            }
        }
    }

    /// Waits for its end; leaves it if it does not end by itself.
    fn end(mut self) -> Result<String, Failure> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                while let Ok(bytes) = self.output.try_recv() {
                    self.heard.push_str(&String::from_utf8_lossy(&bytes));
                }
                if status.success() {
                    return Ok(format!(
                        "a shell, and its end after {} s",
                        self.begun.elapsed().as_secs()
                    ));
                }
                return Err(format!("{status}; it showed\n{}", self.heard).into());
            }
            if begun.elapsed() > PATIENCE {
                // It is killed anyway.
                let _ = self.say(LEAVE);
                return Err(format!("it does not end; it showed\n{}", self.heard).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

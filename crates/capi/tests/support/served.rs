//! Runs C programs that serve a device.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Programs are started with what this names, if it is set: memcheck, for example.
const WRAPPER: &str = "OPENHDV_TEST_WRAPPER";

/// A command that starts a compiled program.
pub(crate) fn command(program: &Path) -> Command {
    match std::env::var_os(WRAPPER) {
        Some(wrapper) => {
            let mut command = Command::new(wrapper);
            command.arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// A running program that said `ready SOCKET`, after what else it has to say. Dropping it kills it.
pub(crate) struct Served {
    process: Child,
    /// Kept open, so that the program can write.
    output: BufReader<ChildStdout>,
    /// Where its device listens.
    pub(crate) socket: PathBuf,
    /// The lines before that.
    pub(crate) said: Vec<String>,
}

impl Served {
    /// Starts a program and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        // From here on the process ends with this.
        let mut served = Self {
            process,
            output,
            socket: PathBuf::new(),
            said: Vec::new(),
        };
        loop {
            let mut line = String::new();
            served.output.read_line(&mut line).unwrap();
            if let Some(socket) = line.trim_end().strip_prefix("ready ") {
                served.socket = socket.into();
                return served;
            }
            if line.is_empty() {
                let errors = errors(&mut served.process);
                panic!("{command:?} printed {:?} and {errors}", served.said);
            }
            served.said.push(line.trim_end().to_owned());
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end; how it did, and what it printed on standard error.
    pub(crate) fn end(&mut self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let errors = errors(&mut self.process);
        (self.process.wait().unwrap(), errors)
    }
}

fn errors(process: &mut Child) -> String {
    let mut errors = String::new();
    let mut stream = process.stderr.take().unwrap();
    // What is no text is shown as far as it goes.
    let _ = stream.read_to_string(&mut errors);
    errors
}

impl Drop for Served {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

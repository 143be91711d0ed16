//! Running the command in a runtime directory of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for something that must happen.
pub(crate) const GENEROUS: Duration = Duration::from_secs(60);

/// A directory for sockets with a runtime directory in it, for one test.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // In /tmp: a socket's path must be short.
        let directory = tempfile::Builder::new()
            .prefix("hdv")
            .tempdir_in("/tmp")
            .unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hdv"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// A command after a shell has set these limits of open files.
    pub(crate) fn command_with_limits(&self, soft: u32, hard: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!(
                "ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\""
            ))
            .arg(env!("CARGO_BIN_EXE_hdv"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that must succeed.
    pub(crate) fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(arguments)).unwrap()
    }

    /// Standard error of a run that must fail with `code` and print nothing else.
    pub(crate) fn failure(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        assert_eq!(output.stdout, b"", "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The sockets and their companions, also those of the hosts.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        fn look(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    look(&path, found);
                } else if path.to_str().unwrap().contains(".sock") {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        look(self.directory.path(), &mut found);
        found
    }
}

/// A running `hdv serve`, killed when dropped.
pub(crate) struct Serving {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    /// What it said it serves.
    pub(crate) announced: Value,
}

impl Serving {
    pub(crate) fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.command(&["serve", "--json"]);
        command.args(arguments);
        Self::start_with(command)
    }

    /// Starts a command that ends in `hdv serve --json`.
    pub(crate) fn start_with(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut errors = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            panic!("hdv serve ended: {errors}");
        }
        Self {
            child,
            _stdout: stdout,
            announced: serde_json::from_str(&line).unwrap(),
        }
    }

    /// Serves one sensor.
    pub(crate) fn sensor(place: &Place, socket: &str) -> Self {
        Self::start(
            place,
            &[
                "--device",
                "sensor",
                "--socket",
                socket,
                "--set",
                "source=sine",
            ],
        )
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.send(signal);
        wait_within(&mut self.child)
    }
}

/// Waits for the end of a child.
pub(crate) fn wait_within(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + GENEROUS;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the command does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

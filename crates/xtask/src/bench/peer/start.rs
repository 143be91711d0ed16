//! The near side of a peer: starts it and ends it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Role;
use crate::bench::error::{BenchError, During};

/// How long a peer has to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running peer. Dropping it ends it.
#[derive(Debug)]
pub(in crate::bench) struct Peer {
    child: Child,
    path: PathBuf,
}

impl Peer {
    /// Starts a peer and waits until it serves.
    pub(in crate::bench) fn start(
        role: Role,
        cpu: Option<usize>,
        poll: Option<Duration>,
    ) -> Result<Self, BenchError> {
        let program = std::env::current_exe().during("finding this program")?;
        let mut command = Command::new(program);
        command.args(["bench", "peer"]);
        if let Some(cpu) = cpu {
            command.arg(format!("--cpu={cpu}"));
        }
        if let Some(poll) = poll {
            command.arg(format!("--poll={}", poll.as_micros()));
        }
        match role {
            Role::Floor { request, reply } => {
                command.args(["floor", &request.to_string(), &reply.to_string()]);
            }
            Role::OpenHdv => {
                command.arg("open-hdv");
            }
            Role::Domain { count } => {
                command.args(["domain", &count.to_string()]);
            }
            Role::VfioUser => {
                command.arg("vfio-user");
            }
            Role::Sensors { count } => {
                command.args(["sensors", &count.to_string()]);
            }
            Role::VirtualFunctions { count } => {
                command.args(["virtual-functions", &count.to_string()]);
            }
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .during("starting the other end")?;
        let mut peer = Self {
            child,
            path: PathBuf::new(),
        };
        let mut line = String::new();
        if let Some(output) = peer.child.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .during("waiting for the other end")?;
        }
        match line.strip_suffix('\n') {
            Some(path) => peer.path = path.into(),
            None => {
                return Err(BenchError::new(
                    format!("starting {role:?}"),
                    "the process ended before it served; what it said is above",
                ));
            }
        }
        Ok(peer)
    }

    /// The socket, or the directory of sockets.
    pub(in crate::bench) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::bench) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its standard input tells it to go.
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // It hangs; both fail only if it has ended meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

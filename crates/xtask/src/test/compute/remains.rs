//! What is left of VMs: processes, files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::test::Failure;

/// How long the last of a VM may take to go.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the compute systems are in the runtime directory.
const SYSTEMS: &str = "openhdv/systems";
/// Where device hosts answer.
const HOSTS: &str = "openhdv/hosts";

/// Whether a process is there, and not only its remains.
pub(super) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| {
        let state = rest.trim_start().chars().next();
        state.is_some_and(|state| state != 'Z')
    })
}

/// Waits until a condition holds.
pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What is in the directory of this process's VMs.
pub(super) fn files() -> Result<Vec<PathBuf>, Failure> {
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").ok_or("no XDG_RUNTIME_DIR")?);
    Ok(below(&runtime.join(SYSTEMS)))
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Fails when files or processes of a runtime directory that nobody uses any more are left.
pub(super) fn of_directory(directory: &Path) -> Result<(), Failure> {
    let mut left = below(&directory.join(SYSTEMS));
    left.extend(below(&directory.join(HOSTS)));
    if !left.is_empty() {
        return Err(format!("files are left: {left:?}").into());
    }
    let processes = processes_of(directory);
    if processes.is_empty() {
        Ok(())
    } else {
        Err(format!("processes are left: {}", processes.join("; ")).into())
    }
}

/// Processes that were given a directory as their runtime directory, or name it.
fn processes_of(directory: &Path) -> Vec<String> {
    let wanted = directory.as_os_str().as_encoded_bytes();
    let holds = |path: &Path| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(wanted.len()).any(|window| window == wanted))
    };
    below(Path::new("/proc"))
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.parse::<u32>()
                .is_ok_and(|pid| pid != std::process::id() && lives(pid))
        })
        .filter(|path| holds(&path.join("environ")) || holds(&path.join("cmdline")))
        .map(|path| {
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            format!("{} {command}", path.display())
        })
        .collect()
}

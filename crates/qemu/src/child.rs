//! Child processes that die with this process and are waited for with a limit.
//!
//! The one module with `unsafe`: a child asks the kernel for a signal at its parent's death, and
//! that must be said between fork and exec.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal,
};

/// The most that is kept of one stream of a program that is asked a question.
const OUTPUT_LIMIT: u64 = 4 << 20;

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child that is killed when this process ends, however it ends.
///
/// The kernel takes "parent" to be the thread that forked, so one thread that lives as long as
/// the process starts all of them: a child may outlive the thread that asked for it.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    die_with_parent(&mut command);
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in requests {
                // An asker that is gone leaves a child that nobody wants.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        sender
    });
    let (answer, answered) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts child processes has ended");
    spawner.send((command, answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the request was made; then no signal would ever come.
        if getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::SRCH.raw_os_error(),
            ));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes two
    // system calls (prctl, getppid), compares two numbers, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// Waits until the child has ended, at most `limit`; `None` when it still runs then.
///
/// # Errors
/// What the system says.
pub fn wait_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let pid = Pid::from_child(child);
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = crate::deadline::after(limit);
    loop {
        let remaining = crate::deadline::left(deadline);
        let mut descriptors = [PollFd::new(&descriptor, PollFlags::IN)];
        let timeout = Timespec::try_from(remaining).map_err(io::Error::other)?;
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(0) => return child.try_wait(),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a program answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// What the program said about a failure, for people: its errors, else its output, else its
    /// status.
    pub(crate) fn complaint(&self) -> String {
        [&self.stderr, &self.stdout]
            .into_iter()
            .map(|text| text.trim())
            .find(|text| !text.is_empty())
            .map_or_else(|| self.status.to_string(), ToOwned::to_owned)
    }
}

/// Runs a program without input to its end, at most `limit`, and takes what it prints.
///
/// `stdout_line` sees each line of its output as it comes.
pub(crate) fn ask(
    mut command: Command,
    limit: Duration,
    stdout_line: &mut dyn FnMut(&str),
) -> io::Result<Answer> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let (sender, lines) = mpsc::channel::<String>();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || read_text(stderr));
    thread::spawn(move || send_lines(stdout, &sender));

    let deadline = crate::deadline::after(limit);
    let mut output = String::new();
    let expired = loop {
        match lines.recv_timeout(crate::deadline::left(deadline)) {
            Ok(line) => {
                stdout_line(&line);
                if output.len() as u64 <= OUTPUT_LIMIT {
                    output.push_str(&line);
                    output.push('\n');
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
        }
    };
    let remaining = crate::deadline::left(deadline);
    let status = if expired {
        None
    } else {
        wait_within(&mut child, remaining)?
    };
    let Some(status) = status else {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", limit.as_secs_f32()),
        ));
    };
    let stderr = errors.join().unwrap_or_default();
    Ok(Answer {
        status,
        stdout: output,
        stderr,
    })
}

fn read_text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // A stream that breaks has said what it had to say.
        let _ = stream.by_ref().take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn send_lines(stream: Option<impl Read>, sender: &mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    let mut stream = io::BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = io::Read::take(&mut stream, OUTPUT_LIMIT);
        match io::BufRead::read_until(&mut bounded, b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                if sender
                    .send(text.trim_end_matches(['\r', '\n']).to_owned())
                    .is_err()
                {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let mut child = thread::spawn(move || spawn(command))
            .join()
            .unwrap()
            .unwrap();
        assert!(
            wait_within(&mut child, Duration::from_millis(100))
                .unwrap()
                .is_none()
        );
        child.kill().unwrap();
        assert!(wait_within(&mut child, LONG).unwrap().is_some());
    }

    #[test]
    fn an_answer_has_output_errors_and_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; echo three >&2; exit 4"]);
        let mut seen = Vec::new();
        let answer = ask(command, LONG, &mut |line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(answer.stdout, "one\ntwo\n");
        assert_eq!(answer.complaint(), "three");
        assert_eq!(answer.status.code(), Some(4));
    }

    #[test]
    fn a_silent_program_is_not_waited_for_without_end() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let error = ask(command, Duration::from_millis(50), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// Set in the process that the next test kills.
    const DOOMED: &str = "OPENHDV_TEST_DOOMED_PARENT";

    #[test]
    fn a_child_dies_with_a_killed_parent() {
        if std::env::var_os(DOOMED).is_some() {
            let mut command = Command::new("sleep");
            command.arg("1000");
            let mut child = spawn(command).unwrap();
            println!("\nchild {}", child.id());
            // Until the other process kills this one.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            child.kill().unwrap();
            child.wait().unwrap();
            return;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "--nocapture",
            "child::tests::a_child_dies_with_a_killed_parent",
        ]);
        command
            .env(DOOMED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut parent = spawn(command).unwrap();
        let stdout = io::BufReader::new(parent.stdout.take().unwrap());
        let number = io::BufRead::lines(stdout)
            .find_map(|line| line.unwrap().strip_prefix("child ")?.parse().ok())
            .unwrap();
        let grandchild = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).unwrap();
        let ended = |limit: Duration| {
            let timeout = Timespec::try_from(limit).unwrap();
            poll(
                &mut [PollFd::new(&grandchild, PollFlags::IN)],
                Some(&timeout),
            )
            .unwrap()
                == 1
        };
        assert!(!ended(Duration::ZERO));
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(ended(LONG));
    }
}

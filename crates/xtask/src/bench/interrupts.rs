//! Interrupts: what signalling costs by itself, and how long until a thread that waits has it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hdv::{Delivery, InterruptKind, Interrupts};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::contest::{Contest, Effort, time};
use super::cpus::{self, Pinned, Placement};
use super::error::{BenchError, During};
use super::report::{Section, Unit};

/// Signals in one batch when nobody waits.
const SIGNALS: u32 = 5000;
/// Deliveries in one batch.
const DELIVERIES: u32 = 1000;

const RAW: &str = "eventfd write";
const RAW_AGAIN: &str = "eventfd write, again";
const OURS: &str = "Interrupts::signal";
const OURS_AGAIN: &str = "Interrupts::signal, again";

/// A way to signal an eventfd.
#[derive(Debug)]
enum Line {
    Raw(OwnedFd),
    Ours(Interrupts),
}

impl Line {
    fn new(name: &str, event: &OwnedFd) -> Result<Self, BenchError> {
        let event = event
            .as_fd()
            .try_clone_to_owned()
            .during("duplicating an eventfd")?;
        if name.starts_with(RAW) {
            return Ok(Self::Raw(event));
        }
        let interrupts = Interrupts::new(0, 1);
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(event)]);
        Ok(Self::Ours(interrupts))
    }

    fn signal(&self) -> Result<(), BenchError> {
        match self {
            Self::Raw(event) => {
                rustix::io::write(event, &1_u64.to_ne_bytes()).during("signalling an eventfd")?;
                Ok(())
            }
            Self::Ours(interrupts) => match interrupts.signal(0) {
                Delivery::Signalled => Ok(()),
                other => Err(BenchError::new(
                    "signalling an interrupt",
                    format!("it is {other:?}"),
                )),
            },
        }
    }
}

fn event() -> Result<OwnedFd, BenchError> {
    eventfd(0, EventfdFlags::CLOEXEC).during("making an eventfd")
}

/// Blocks until the eventfd is signalled.
fn wait(event: &OwnedFd) -> Result<(), Errno> {
    rustix::io::read(event, &mut [0; 8]).map(|_| ())
}

/// Measures a signal that nobody waits for.
pub(super) fn signalling(placement: Placement, effort: Effort) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(SIGNALS);
    let mut contest = Contest::new();
    for name in [RAW, OURS, RAW_AGAIN, OURS_AGAIN] {
        let event = event()?;
        let line = Line::new(name, &event)?;
        contest.add(name, move || {
            let each = time(batch, || line.signal())?;
            wait(&event).during("reading an eventfd")?;
            Ok(each)
        });
    }
    let results = contest.run(effort)?;
    Ok(section(
        "an interrupt that nobody waits for".to_owned(),
        &results,
    ))
}

/// Measures interrupts that go back and forth between two threads, each of which waits for the
/// other's.
pub(super) fn delivery(placement: Placement, effort: Effort) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(DELIVERIES);
    let mut contest = Contest::new();
    for name in [RAW, OURS, RAW_AGAIN, OURS_AGAIN] {
        let back = event()?;
        let far = Far::start(name, placement, &back)?;
        contest.add(name, move || {
            let there_and_back = time(batch, || {
                far.line.signal()?;
                wait(&back).during("waiting for an eventfd")
            })?;
            Ok(there_and_back / 2.0)
        });
    }
    let results = contest.run(effort)?;
    Ok(section(
        format!("an interrupt to a waiting thread, {}", placement.name()),
        &results,
    ))
}

fn section(title: String, results: &super::contest::Results) -> Section {
    let mut section = Section::new(title, Unit::Nanoseconds);
    section
        .row(results, RAW)
        .compare(results, RAW_AGAIN, &[(RAW, None)])
        .compare(results, OURS, &[(RAW, None)])
        .compare(results, OURS_AGAIN, &[(OURS, None)]);
    section
}

/// The thread that answers every interrupt with one.
struct Far {
    line: Line,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Far {
    fn start(name: &str, placement: Placement, back: &OwnedFd) -> Result<Self, BenchError> {
        let there = event()?;
        let line = Line::new(name, &there)?;
        let answer = Line::new(name, back)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                // Where it cannot be pinned the near side could not be either.
                let _ = cpus::pin(placement.far);
                while wait(&there).is_ok() && !stop.load(Ordering::SeqCst) {
                    if answer.signal().is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self {
            line,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It was signalled before, in every batch.
        let _ = self.line.signal();
        if let Some(thread) = self.thread.take() {
            // What it would have panicked with has been printed.
            let _ = thread.join();
        }
    }
}

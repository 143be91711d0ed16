//! The same work through one VF and spread over 64: how much of it a second of processor time does, at both ends together.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::{DmaFlags, vfio};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::pf::{COPY, PAGE};
use super::socket;
use crate::bench::contest::{Contest, Effort};
use crate::bench::cpus::{Pinned, Placement};
use crate::bench::error::{BenchError, During};
use crate::bench::peer::{Peer, Role};
use crate::bench::process::processor_time;
use crate::bench::report::{Section, Unit};

/// VFs that are busy at once.
const MANY: u16 = 64;
/// Rounds of work in one batch, over all VFs.
const BATCH: u32 = 64 * 25;
/// Register reads in a round of work; a write that has a page copied and an interrupt sent follows.
const READS: u32 = 7;
/// Where the guest's memory is.
const GUEST: u64 = 0x1_0000;
/// A page that is copied and the one it is copied to.
const GUEST_BYTES: u64 = 2 * PAGE as u64;
/// What the processor time may grow by so that 64 VFs do at least 80 % as much.
const TARGET: f64 = 1.0 / 0.8;

const ONE: &str = "1 VF";
const ONE_AGAIN: &str = "1 VF, again";
const ALL: &str = "64 VFs";
const ALL_AGAIN: &str = "64 VFs, again";

/// A guest's side of a VF.
struct Guest {
    client: Client,
    event: OwnedFd,
    _memory: OwnedFd,
}

impl Guest {
    fn connect(path: &Path) -> Result<Self, BenchError> {
        let mut client =
            Client::connect(path, ClientOptions::default()).during("connecting to a VF")?;
        let memory =
            memfd_create("guest", MemfdFlags::CLOEXEC).during("making a guest's memory")?;
        ftruncate(&memory, GUEST_BYTES).during("making a guest's memory")?;
        client
            .dma_map(
                GUEST,
                GUEST_BYTES,
                DmaFlags::READ | DmaFlags::WRITE,
                Some((memory.as_fd(), 0)),
            )
            .during("mapping a guest's memory")?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .during("making an eventfd")?;
        client
            .set_irq_event_fds(vfio::irq::MSIX, 0, &[event.as_fd()])
            .during("connecting an interrupt")?;
        Ok(Self {
            client,
            event,
            _memory: memory,
        })
    }

    fn round(&mut self) -> Result<(), BenchError> {
        for _ in 0..READS {
            self.client
                .region_read(vfio::region::BAR0, 0, &mut [0; 4])
                .during("reading a register of a VF")?;
        }
        self.client
            .region_write(vfio::region::BAR0, COPY, &GUEST.to_le_bytes())
            .during("having a VF copy a page")?;
        // It was sent before the write was answered.
        rustix::io::read(&self.event, &mut [0; 8]).during("taking a VF's interrupt")?;
        Ok(())
    }
}

/// A thread that does a guest's work when told how much.
struct Worker {
    orders: Option<Sender<u32>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(mut guest: Guest, done: Sender<Result<(), BenchError>>) -> Self {
        let (orders, todo) = channel();
        let thread = std::thread::spawn(move || {
            for rounds in todo {
                let result = (0..rounds).try_for_each(|_| guest.round());
                if done.send(result).is_err() {
                    return;
                }
            }
        });
        Self {
            orders: Some(orders),
            thread: Some(thread),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What it would have panicked with has been printed.
            let _ = thread.join();
        }
    }
}

/// Has each of `workers` do its share of `rounds`; nanoseconds of processor time of both processes for a round.
fn work(
    workers: &[Worker],
    done: &Receiver<Result<(), BenchError>>,
    rounds: u32,
    peer: u32,
) -> Result<f64, BenchError> {
    const DOING: &str = "having VFs work";
    let taken = || Ok(processor_time(std::process::id())? + processor_time(peer)?);
    let count = u32::try_from(workers.len()).during(DOING)?;
    let share = (rounds / count).max(1);
    let before: u64 = taken()?;
    for worker in workers {
        if let Some(orders) = &worker.orders {
            orders.send(share).during(DOING)?;
        }
    }
    for _ in workers {
        done.recv().during(DOING)??;
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds")]
    let nanoseconds = (taken()? - before) as f64;
    Ok(nanoseconds / f64::from(share * count))
}

/// Measures on one CPU, or on all of them.
pub(in crate::bench) fn measure(
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let one_cpu = placement.one_cpu().then_some(placement.near);
    let _pinned = one_cpu.map(Pinned::to).transpose()?;
    let peer = Peer::start(Role::VirtualFunctions { count: MANY }, one_cpu, None)?;
    let (sender, done) = channel();
    let mut workers = Vec::new();
    for vf in 0..MANY {
        let guest = Guest::connect(&socket(peer.path(), vf))?;
        workers.push(Worker::start(guest, sender.clone()));
    }
    let rounds = effort.batch(BATCH);
    let mut contest = Contest::new();
    let (workers, done, pid) = (&workers, &done, peer.pid());
    for (name, count) in [(ONE, 1), (ONE_AGAIN, 1), (ALL, MANY), (ALL_AGAIN, MANY)] {
        contest.add(name, move || {
            work(&workers[..count.into()], done, rounds, pid)
        });
    }
    let results = contest.run(effort)?;
    let mut section = Section::new(
        format!(
            "work of busy VFs for a second of processor time, {}",
            if placement.one_cpu() {
                "one CPU"
            } else {
                "all CPUs"
            }
        ),
        Unit::PerSecond,
    );
    section
        .row(&results, ONE)
        .compare(&results, ONE_AGAIN, &[(ONE, None)])
        .compare(&results, ALL, &[(ONE, Some(TARGET))])
        .compare(&results, ALL_AGAIN, &[(ALL, None)]);
    Ok(section)
}

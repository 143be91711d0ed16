//! The round trip of a register access: blocking on one CPU and on two, and polling.

use super::contest::{Contest, Effort, time};
use super::cpus::{Pinned, Placement};
use super::ends::{Floor, OurClient, Polling, READ_MESSAGES, TheirClient, WRITE_MESSAGES};
use super::error::BenchError;
use super::peer::Role;
use super::report::{Section, Unit};

/// Accesses in one batch.
const BATCH: u32 = 1000;

/// What a round trip may cost on one CPU, against the floor.
const ONE_CPU_TARGET: f64 = 1.15;

/// What polling at both ends may leave of the blocking time on two CPUs.
const POLLING_TARGET: f64 = 0.25;

const FLOOR: &str = "plain socket";
const FLOOR_AGAIN: &str = "plain socket, again";
const OURS: &str = "OpenHDV";
const OURS_AGAIN: &str = "OpenHDV, again";
const OUR_CLIENT: &str = "OpenHDV client, vfio_user server";
const OUR_SERVER: &str = "vfio_user client, OpenHDV server";
const THEIRS: &str = "vfio_user, both ends";
const FLOOR_POLLING: &str = "plain socket, both ends polling";
const SERVER_POLLING: &str = "OpenHDV, server polling";
const BOTH_POLLING: &str = "OpenHDV, both ends polling";

/// Which access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    fn messages(self) -> (usize, usize) {
        match self {
            Self::Read => READ_MESSAGES,
            Self::Write => WRITE_MESSAGES,
        }
    }

    fn ours(self) -> fn(&mut OurClient) -> Result<(), BenchError> {
        match self {
            Self::Read => OurClient::read,
            Self::Write => OurClient::write,
        }
    }

    fn theirs(self) -> fn(&mut TheirClient) -> Result<(), BenchError> {
        match self {
            Self::Read => TheirClient::read,
            Self::Write => TheirClient::write,
        }
    }
}

/// Measures one kind of access in one placement.
pub(super) fn measure(
    access: Access,
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let mut contest = Contest::new();
    let floor = |polling| Floor::connect(placement, polling, access.messages());
    let ours = |polling| OurClient::connect(placement, polling, Role::OpenHdv);
    let mut floors = vec![
        (FLOOR, floor(Polling::Neither)?),
        (FLOOR_AGAIN, floor(Polling::Neither)?),
    ];
    let mut our_clients = vec![
        (OURS, ours(Polling::Neither)?),
        (OURS_AGAIN, ours(Polling::Neither)?),
        (
            OUR_CLIENT,
            OurClient::connect(placement, Polling::Neither, Role::VfioUser)?,
        ),
    ];
    let their_clients = [
        (OUR_SERVER, TheirClient::connect(placement, Role::OpenHdv)?),
        (THEIRS, TheirClient::connect(placement, Role::VfioUser)?),
    ];
    if !placement.one_cpu() {
        floors.push((FLOOR_POLLING, floor(Polling::Both)?));
        our_clients.push((SERVER_POLLING, ours(Polling::Server)?));
        our_clients.push((BOTH_POLLING, ours(Polling::Both)?));
    }
    for (name, mut floor) in floors {
        contest.add(name, move || time(batch, || floor.round_trip()));
    }
    let once = access.ours();
    for (name, mut client) in our_clients {
        contest.add(name, move || time(batch, || once(&mut client)));
    }
    let once = access.theirs();
    for (name, mut client) in their_clients {
        contest.add(name, move || time(batch, || once(&mut client)));
    }
    let results = contest.run(effort)?;

    let what = match access {
        Access::Read => "4-byte region read",
        Access::Write => "4-byte region write",
    };
    let mut section = Section::new(format!("{what}, {}", placement.name()), Unit::Nanoseconds);
    let target = placement.one_cpu().then_some(ONE_CPU_TARGET);
    section
        .row(&results, FLOOR)
        .compare(&results, FLOOR_AGAIN, &[(FLOOR, None)])
        .compare(&results, OURS, &[(FLOOR, target), (THEIRS, None)])
        .compare(&results, OURS_AGAIN, &[(OURS, None)])
        .compare(&results, OUR_SERVER, &[(FLOOR, None)])
        .compare(&results, OUR_CLIENT, &[(FLOOR, None)])
        .compare(&results, THEIRS, &[(FLOOR, None)]);
    if !placement.one_cpu() {
        section
            .compare(&results, FLOOR_POLLING, &[(FLOOR, None)])
            .compare(&results, SERVER_POLLING, &[(OURS, None)])
            .compare(
                &results,
                BOTH_POLLING,
                &[(OURS, Some(POLLING_TARGET)), (FLOOR_POLLING, None)],
            );
    }
    Ok(section)
}

//! Posted writes: many without a reply, then a read whose reply says that they are done.

use std::time::Instant;

use super::contest::{Contest, Effort, per_repetition};
use super::cpus::{Pinned, Placement};
use super::ends::{Floor, OurClient, Polling, READ_MESSAGES, WRITE_MESSAGES};
use super::error::BenchError;
use super::peer::Role;
use super::report::{Section, Unit};

/// Writes in one batch.
const BATCH: u32 = 5000;

const FLOOR: &str = "plain socket";
const FLOOR_AGAIN: &str = "plain socket, again";
const OURS: &str = "OpenHDV";
const OURS_AGAIN: &str = "OpenHDV, again";
const OUR_CLIENT: &str = "OpenHDV client, vfio_user server";

/// Measures them in one placement.
pub(super) fn measure(placement: Placement, effort: Effort) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let writes = usize::try_from(batch).map_err(|error| BenchError::new("counting", error))?;
    let (write, _) = WRITE_MESSAGES;
    let (read, reply) = READ_MESSAGES;
    let mut contest = Contest::new();
    for name in [FLOOR, FLOOR_AGAIN] {
        let expected = writes * write + read;
        let mut floor = Floor::connect(placement, Polling::Neither, (expected, reply))?;
        contest.add(name, move || {
            let begun = Instant::now();
            for _ in 0..batch {
                floor.send(write)?;
            }
            floor.send(read)?;
            floor.await_reply()?;
            Ok(per_repetition(begun, batch))
        });
    }
    for (name, role) in [
        (OURS, Role::OpenHdv),
        (OURS_AGAIN, Role::OpenHdv),
        (OUR_CLIENT, Role::VfioUser),
    ] {
        let mut client = OurClient::connect(placement, Polling::Neither, role)?;
        contest.add(name, move || {
            let begun = Instant::now();
            for _ in 0..batch {
                client.post()?;
            }
            client.read()?;
            Ok(per_repetition(begun, batch))
        });
    }
    let results = contest.run(effort)?;
    let mut section = Section::new(
        format!("posted 4-byte writes, {}", placement.name()),
        Unit::PerSecond,
    );
    section
        .row(&results, FLOOR)
        .compare(&results, FLOOR_AGAIN, &[(FLOOR, None)])
        .compare(&results, OURS, &[(FLOOR, None), (OUR_CLIENT, None)])
        .compare(&results, OURS_AGAIN, &[(OURS, None)])
        .compare(&results, OUR_CLIENT, &[(FLOOR, None)]);
    Ok(section)
}

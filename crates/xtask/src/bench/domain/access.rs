//! A 4-byte write and read of a register at our client end: of a function inside a domain, with nothing beside it or with 255
//! others, and of the same function on a socket of its own.

use hdv::domain::{MEMORY_BASE, PREFETCHABLE_BASE, TABLES_SIZE};
use hdv::pci::RoutingId;
use hdv::pci::enumerate::{ConfigBus, Enumeration, HotPlugReserve, Resources, enumerate};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio::region;

use crate::bench::contest::{Contest, Effort, time};
use crate::bench::cpus::{Pinned, Placement};
use crate::bench::error::{BenchError, During};
use crate::bench::peer::{Peer, Role};
use crate::bench::report::{Section, Unit};

/// Writes and reads in one batch.
const BATCH: u32 = 1000;
/// What an access inside may cost, against a plain one.
const TARGET: f64 = 1.10;
/// Functions of a domain whose root bus is full.
const FULL: u16 = 256;
/// The memory window of a domain of default size.
const MEMORY_SIZE: u64 = 64 << 20;

const PLAIN: &str = "on a socket of its own";
const PLAIN_AGAIN: &str = "on a socket of its own, again";
const ALONE: &str = "inside a domain";
const ALONE_AGAIN: &str = "inside a domain, again";
const AMONG_MANY: &str = "inside a domain, among 256";
const AMONG_MANY_AGAIN: &str = "inside a domain, among 256, again";

/// A register of a function behind a socket.
struct Register {
    client: Client,
    region: u32,
    offset: u64,
    _peer: Peer,
}

impl Register {
    fn plain(placement: Placement) -> Result<Self, BenchError> {
        let peer = Peer::start(Role::OpenHdv, Some(placement.far), None)?;
        let client = connect(&peer)?;
        Ok(Self {
            client,
            region: region::BAR0,
            offset: 0,
            _peer: peer,
        })
    }

    /// Of the last of so many functions of a domain.
    fn inside(placement: Placement, count: u16) -> Result<Self, BenchError> {
        let peer = Peer::start(Role::Domain { count }, Some(placement.far), None)?;
        let mut client = connect(&peer)?;
        let found = find(&mut client)?;
        let last = found.functions.last().and_then(|last| last.bars.first());
        let address = last
            .filter(|_| found.functions.len() == usize::from(count))
            .and_then(|bar| bar.address.checked_sub(MEMORY_BASE));
        let offset = address.ok_or_else(|| {
            let found = found.functions.len();
            BenchError::new(
                "finding the functions of a domain",
                format!("{found} of {count}"),
            )
        })?;
        Ok(Self {
            client,
            region: region::BAR2,
            offset,
            _peer: peer,
        })
    }

    fn write_and_read(&mut self) -> Result<(), BenchError> {
        const WRITTEN: [u8; 4] = [1, 2, 3, 4];
        let mut read = [0; 4];
        self.client
            .region_write(self.region, self.offset, &WRITTEN)
            .during("writing a register")?;
        self.client
            .region_read(self.region, self.offset, &mut read)
            .during("reading a register")?;
        if read == WRITTEN {
            Ok(())
        } else {
            Err(BenchError::new("reading back", format!("{read:02x?}")))
        }
    }
}

fn connect(peer: &Peer) -> Result<Client, BenchError> {
    Client::connect(peer.path(), ClientOptions::default()).during("connecting to the server")
}

/// Measures both in turns, in one placement.
pub(in crate::bench) fn measure(
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let mut contest = Contest::new();
    for (name, mut register) in [
        (PLAIN, Register::plain(placement)?),
        (PLAIN_AGAIN, Register::plain(placement)?),
        (ALONE, Register::inside(placement, 1)?),
        (ALONE_AGAIN, Register::inside(placement, 1)?),
        (AMONG_MANY, Register::inside(placement, FULL)?),
        (AMONG_MANY_AGAIN, Register::inside(placement, FULL)?),
    ] {
        contest.add(name, move || time(batch, || register.write_and_read()));
    }
    let results = contest.run(effort)?;
    let title = format!(
        "a 4-byte write and read of a function, {}",
        placement.name()
    );
    let mut section = Section::new(title, Unit::Nanoseconds);
    section
        .row(&results, PLAIN)
        .compare(&results, PLAIN_AGAIN, &[(PLAIN, None)])
        .compare(&results, ALONE, &[(PLAIN, Some(TARGET))])
        .compare(&results, ALONE_AGAIN, &[(ALONE, None)])
        .compare(
            &results,
            AMONG_MANY,
            &[(PLAIN, Some(TARGET)), (ALONE, None)],
        )
        .compare(&results, AMONG_MANY_AGAIN, &[(AMONG_MANY, None)]);
    Ok(section)
}

/// The window onto config space, and the first thing that went wrong with it.
struct Window<'a> {
    client: &'a mut Client,
    wrong: Option<BenchError>,
}

impl Window<'_> {
    fn keep(&mut self, done: Result<(), BenchError>) {
        if let Err(error) = done {
            self.wrong.get_or_insert(error);
        }
    }
}

fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

impl ConfigBus for Window<'_> {
    fn read(&mut self, id: RoutingId, register: u16, data: &mut [u8]) {
        let read = self
            .client
            .region_read(region::BAR0, offset(id, register), data);
        self.keep(read.during("reading config space of a domain"));
    }

    fn write(&mut self, id: RoutingId, register: u16, data: &[u8]) {
        let written = self
            .client
            .region_write(region::BAR0, offset(id, register), data);
        self.keep(written.during("writing config space of a domain"));
    }
}

/// Finds and places the functions of a domain, as a guest's software does it.
fn find(client: &mut Client) -> Result<Enumeration, BenchError> {
    let resources = Resources {
        buses: 0..=0,
        memory: MEMORY_BASE..=MEMORY_BASE + (MEMORY_SIZE - 1),
        prefetchable: Some(PREFETCHABLE_BASE + TABLES_SIZE..=PREFETCHABLE_BASE + (MEMORY_SIZE - 1)),
        hot_plug: HotPlugReserve::NONE,
    };
    let mut window = Window {
        client,
        wrong: None,
    };
    let found = enumerate(&mut window, &resources).during("enumerating a domain");
    match window.wrong {
        Some(error) => Err(error),
        None => found,
    }
}

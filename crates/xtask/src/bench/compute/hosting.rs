//! Accesses of the same sensor as an Internal, External and ExternalRestricted device of one VM, at our client end: the VM has a
//! worker and no guest.

use hdv_devices::sensor::registers::SCRATCH;
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;

use super::prepare;
use crate::bench::contest::{Contest, Effort, time};
use crate::bench::cpus::{Pinned, Placement};
use crate::bench::error::{BenchError, During};
use crate::bench::report::{Section, Unit};
use crate::test::{Clients, MODELS};

/// Accesses in one batch.
const BATCH: u32 = 1000;

const INTERNAL: &str = "Internal";
const EXTERNAL: &str = "External";
const EXTERNAL_AGAIN: &str = "External, again";
const RESTRICTED: &str = "ExternalRestricted";

/// Measures reads and writes in one placement.
pub(in crate::bench) fn measure(
    placement: Placement,
    effort: Effort,
) -> Result<Vec<Section>, BenchError> {
    let parts = prepare()?;
    // What it starts stays where it is.
    let clients = {
        let _pinned = Pinned::to(placement.far)?;
        Clients::start(&parts.facts.worker())
            .map_err(|failure| BenchError::new("starting a VM for clients", failure.to_string()))?
    };
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let mut connected = Vec::new();
    for (socket, name) in clients
        .sockets()
        .iter()
        .zip([INTERNAL, EXTERNAL, RESTRICTED])
    {
        let client = Client::connect(socket, ClientOptions::default())
            .during(&format!("connecting to the {name} device"))?;
        connected.push((name, std::cell::RefCell::new(client)));
    }
    debug_assert_eq!(connected.len(), MODELS.len());
    let mut contest = Contest::new();
    for name in [INTERNAL, EXTERNAL, EXTERNAL_AGAIN, RESTRICTED] {
        let wanted = if name == EXTERNAL_AGAIN {
            EXTERNAL
        } else {
            name
        };
        let Some((_, client)) = connected.iter().find(|(name, _)| *name == wanted) else {
            return Err(BenchError::new("choosing a device", name));
        };
        contest.add(name, move || {
            let mut client = client.borrow_mut();
            time(batch, || {
                let mut value = [0; 4];
                client
                    .region_write(vfio::region::BAR0, SCRATCH, &[1, 2, 3, 4])
                    .during("writing a register")?;
                client
                    .region_read(vfio::region::BAR0, SCRATCH, &mut value)
                    .during("reading a register")?;
                if value == [1, 2, 3, 4] {
                    Ok(())
                } else {
                    Err(BenchError::new("reading back", format!("{value:02x?}")))
                }
            })
        });
    }
    let results = contest.run(effort)?;
    drop(connected);
    clients
        .end()
        .map_err(|failure| BenchError::new("ending the VM", failure.to_string()))?;
    let mut section = Section::new(
        format!(
            "a 4-byte write and read of a sensor by hosting model, {}",
            placement.name()
        ),
        Unit::Nanoseconds,
    );
    section
        .row(&results, EXTERNAL)
        .compare(&results, EXTERNAL_AGAIN, &[(EXTERNAL, None)])
        .compare(&results, INTERNAL, &[(EXTERNAL, None)])
        .compare(&results, RESTRICTED, &[(EXTERNAL, None)]);
    Ok(vec![section])
}

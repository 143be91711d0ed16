//! Memory of a process that serves many idle devices, all of them connected and answering.

use std::os::fd::AsFd;

use hdv_devices::sensor::registers::{IDENTIFICATION, IDENTIFICATION_VALUE};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;

use super::error::{BenchError, During};
use super::peer::{Peer, Role};
use super::report::{Section, Unit};

/// How many devices.
const MANY: usize = 256;

/// Bytes that all devices beyond the first may take.
const TARGET: f64 = 16.0 * 1024.0 * 1024.0;

/// Bytes of the kernel's stack for each thread on x86-64.
const KERNEL_STACK: f64 = 16.0 * 1024.0;

/// What a serving process takes, in bytes.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Its own share of resident memory.
    proportional: f64,
    resident: f64,
    page_tables: f64,
    threads: f64,
}

/// Measures one device and many.
pub(super) fn measure() -> Result<Section, BenchError> {
    let one = serve(1)?;
    let many = serve(MANY)?;
    let mut section = Section::new(
        format!("memory of {MANY} connected, idle sensors in one process"),
        Unit::Bytes,
    );
    let resident = many.resident - one.resident;
    let kernel = (many.page_tables - one.page_tables) + (many.threads - one.threads) * KERNEL_STACK;
    #[expect(clippy::cast_precision_loss, reason = "256")]
    let others = (MANY - 1) as f64;
    section
        .value("one device, resident (RSS)", one.resident, None)
        .value("one device, proportional (PSS)", one.proportional, None)
        .value(format!("{MANY} devices, RSS"), many.resident, None)
        .value(format!("{MANY} devices, PSS"), many.proportional, None)
        .value("beyond one device, RSS", resident, Some(TARGET))
        .value(
            "beyond one device, PSS",
            many.proportional - one.proportional,
            Some(TARGET),
        )
        .value("each, RSS", resident / others, None)
        .value(
            "beyond one device, kernel stacks and page tables",
            kernel,
            None,
        )
        .value(
            "beyond one device, RSS and those",
            resident + kernel,
            Some(TARGET),
        );
    Ok(section)
}

fn serve(count: usize) -> Result<Memory, BenchError> {
    let peer = Peer::start(Role::Sensors { count }, None, None)?;
    let mut clients = Vec::with_capacity(count);
    for index in 0..count {
        let path = peer.path().join(index.to_string());
        let client = Client::connect(&path, ClientOptions::default())
            .during(&format!("connecting to sensor {index}"))?;
        clients.push(client);
    }
    // All are connected; now every one of them must answer.
    for (index, client) in clients.iter_mut().enumerate() {
        let mut value = [0; 4];
        client
            .region_read(vfio::region::BAR0, IDENTIFICATION, &mut value)
            .during(&format!("reading sensor {index}"))?;
        if u32::from_le_bytes(value) != IDENTIFICATION_VALUE {
            return Err(BenchError::new(
                format!("reading sensor {index}"),
                format!("{value:02x?} is not its identification"),
            ));
        }
    }
    let memory = Memory::of(peer.pid())?;
    // Connected until here.
    for client in &clients {
        let _ = client.as_fd();
    }
    Ok(memory)
}

impl Memory {
    fn of(pid: u32) -> Result<Self, BenchError> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}"))
                .during("reading what the process takes")
        };
        let (rollup, status) = (read("smaps_rollup")?, read("status")?);
        Ok(Self {
            proportional: field(&rollup, "Pss")? * 1024.0,
            resident: field(&rollup, "Rss")? * 1024.0,
            page_tables: field(&status, "VmPTE")? * 1024.0,
            threads: field(&status, "Threads")?,
        })
    }
}

/// The number of a line `name: number ...`.
fn field(text: &str, name: &str) -> Result<f64, BenchError> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| BenchError::new("reading what the process takes", format!("no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Pss_Anon:  1 kB\nPss:   12 kB\nThreads:\t3\n";
        assert_eq!(field(text, "Pss").unwrap(), 12.0);
        assert_eq!(field(text, "Threads").unwrap(), 3.0);
        assert!(field(text, "Rss").is_err());
    }
}

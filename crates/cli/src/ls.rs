//! `hdv ls`: the compute systems of this user, and the running device hosts, asked over their control sockets.

use std::path::PathBuf;

use comfy_table::{ColumnConstraint, Width};
use hdv::DeviceStatus;
use hdv_compute::{ComputeSystem, Summary};
use hdv_control::{Client, HostEntry};
use serde::Serialize;
use serde_json::Value;

use crate::Failure;
use crate::args::OutputArgs;
use crate::compute;
use crate::process;
use crate::status::{self, Device, DeviceClient};
use crate::style::{self, Paint, printable};

/// Which column tells the client.
const CLIENT_COLUMN: usize = 4;
/// What stands before the name of a VF, which comes right below its PF.
const VF_INDENT: &str = "  ";
/// The narrowest that column gets in a narrow terminal.
const CLIENT_WIDTH_MIN: u16 = 20;

/// A running host.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) pid: u32,
    /// Its command name.
    pub(crate) process: Option<String>,
    /// Its control socket.
    pub(crate) control: PathBuf,
    pub(crate) devices: Vec<Device>,
    /// Why its devices are not known.
    pub(crate) error: Option<String>,
}

/// All hosts of this user; what dead ones left is removed.
pub(crate) fn hosts() -> Result<Vec<Host>, Failure> {
    let hosts = hdv_control::hosts()?;
    Ok(hosts.into_iter().filter_map(ask).collect())
}

/// `None` if the host has ended meanwhile.
fn ask(entry: HostEntry) -> Option<Host> {
    let (devices, error) = match list(&entry) {
        Ok(devices) => (devices, None),
        Err(_) if !entry.path.exists() => return None,
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Some(Host {
        pid: entry.pid,
        process: process::name(entry.pid),
        control: entry.path,
        devices,
        error,
    })
}

fn list(entry: &HostEntry) -> Result<Vec<Device>, Failure> {
    let mut client = Client::connect(&entry.path)?;
    let answer = client.call("list", &Value::Null)?;
    let devices: Vec<DeviceStatus> = serde_json::from_value(answer)?;
    Ok(status::devices(devices))
}

pub(crate) fn run(output: OutputArgs) -> Result<(), Failure> {
    let systems = ComputeSystem::enumerate()?;
    let hosts = hosts()?;
    let text = if output.json {
        let systems: Vec<_> = systems.iter().map(document).collect();
        let document = serde_json::json!({ "systems": systems, "hosts": hosts });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        let paint = Paint::stdout();
        let systems = compute::table::render(&systems, paint);
        let gap = if systems.is_empty() { "" } else { "\n" };
        systems + gap + &render(&hosts, paint)
    };
    style::print(&text)?;
    Ok(())
}

fn document(system: &Summary) -> Value {
    serde_json::json!({
        "id": system.id,
        "state": system.state,
        "owner": system.owner,
        "runtime_id": system.runtime_id,
        "socket": system.socket,
    })
}

fn render(hosts: &[Host], paint: Paint) -> String {
    if hosts.is_empty() {
        return "No device host is running. `hdv serve --help` says how to start one.\n".to_owned();
    }
    let mut table = style::table(
        paint,
        &["PID", "DEVICE", "NAME", "STATE", "CLIENT", "SOCKET"],
    );
    // A path that is broken over lines cannot be copied, so only the client's column gives way.
    let mut devices = hosts.iter().flat_map(|host| &host.devices);
    let has_clients = devices.any(|device| device.client.is_some());
    for column in table.column_iter_mut() {
        column.set_constraint(if column.index == CLIENT_COLUMN && has_clients {
            ColumnConstraint::LowerBoundary(Width::Fixed(CLIENT_WIDTH_MIN))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    let mut notes = String::new();
    for host in hosts {
        let pid = host.pid.to_string();
        if let Some(error) = &host.error {
            let mark = paint.paint(style::WARNING, "warning:");
            notes.push_str(&format!(
                "{mark} {}: {error}\n",
                process::describe(host.pid)
            ));
        } else if host.devices.is_empty() {
            table.add_row([&*pid, "", "", "no device", "", ""]);
        }
        for device in &host.devices {
            table.add_row([
                pid.clone(),
                format!("{}:{}", device.vendor, device.device),
                indent(device).to_owned() + &paint.paint(style::NAME, printable(&device.name)),
                device.state.clone(),
                device
                    .client
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), client),
                printable(&device.socket.display().to_string()),
            ]);
        }
    }
    style::lines(&table, "") + &notes
}

fn indent(device: &Device) -> &'static str {
    device.vf_of.map_or("", |_| VF_INDENT)
}

fn client(client: &DeviceClient) -> String {
    let process = client
        .pid
        .map_or_else(|| "unknown process".to_owned(), process::describe);
    format!(
        "{process}, {} reads, {} writes",
        client.reads, client.writes
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Hex;
    use crate::status::VfOf;

    fn device(name: &str, client: Option<DeviceClient>) -> Device {
        Device {
            id: 1,
            name: name.to_owned(),
            vendor: Hex(0x4f48),
            device: Hex(1),
            class: Hex(0x11_8000),
            socket: "/tmp/s".into(),
            state: "started".to_owned(),
            client,
            vf_of: None,
        }
    }

    fn host(devices: Vec<Device>, error: Option<&str>) -> Host {
        Host {
            // Above the largest pid of Linux: no such process.
            pid: 5_000_000,
            process: None,
            control: "/run/c".into(),
            devices,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn nothing_running_is_said_in_words() {
        assert!(render(&[], Paint::none()).contains("No device host is running"));
    }

    #[test]
    fn a_device_has_one_line_with_its_client() {
        let connected = DeviceClient {
            pid: Some(5_000_001),
            process: None,
            messages: 9,
            reads: 3,
            writes: 4,
            bar_reads: 2,
            bar_writes: 1,
        };
        let devices = vec![device("a", Some(connected)), device("b\u{1b}[2J", None)];
        let text = render(&[host(devices, None)], Paint::none());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for part in [
            "5000000",
            "4f48:0001",
            "/tmp/s",
            "process 5000001, 3 reads, 4 writes",
        ] {
            assert!(lines[1].contains(part), "{text}");
        }
        assert!(
            lines[2].contains("b?[2J") && lines[2].contains("  none "),
            "{text}"
        );
    }

    #[test]
    fn vfs_stand_below_their_pf() {
        let vf = Device {
            vf_of: Some(VfOf { pf: 1, vf: 0 }),
            ..device("nic VF 0", None)
        };
        let text = render(&[host(vec![device("nic", None), vf], None)], Paint::none());
        let columns: Vec<_> = text.lines().filter_map(|line| line.find("nic")).collect();
        assert_eq!(columns[0] + VF_INDENT.len(), columns[1], "{text}");
    }

    #[test]
    fn a_host_that_does_not_answer_is_a_warning() {
        let text = render(&[host(vec![], Some("gave no answer"))], Paint::none());
        assert!(
            text.contains("warning: process 5000000: gave no answer"),
            "{text}"
        );
    }
}

//! `hdv ls`: the compute systems of this user, and the running device hosts, asked over their control sockets.

use std::path::PathBuf;

use comfy_table::{ColumnConstraint, Width};
use hdv::DeviceStatus;
use hdv_compute::document::HostingModel;
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

/// What the columns tell. That of VMs is there where a device is in one.
const COLUMNS: [&str; 7] = [
    "PID",
    VM_COLUMN,
    "DEVICE",
    "NAME",
    "STATE",
    CLIENT_COLUMN,
    "SOCKET",
];
const VM_COLUMN: &str = "VM";
const CLIENT_COLUMN: &str = "CLIENT";
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
    let mut hosts = hosts()?;
    for host in &mut hosts {
        assign(host, &systems);
    }
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

/// Finds out which compute systems a host's devices are in. An instance id alone does not tell: systems of one document have
/// the same ones. Where it cannot be told nothing is said.
pub(crate) fn assign(host: &mut Host, systems: &[Summary]) {
    for device in &mut host.devices {
        let Some(instance) = device.instance_id else {
            continue;
        };
        let found = systems.iter().filter_map(|system| {
            let mut devices = system.devices.iter();
            let (key, of) = devices.find(|(_, of)| of.instance_id == instance)?;
            // A restricted host's broker answers for it, in a process of its own.
            let is_brokered = of.hosting_model == HostingModel::ExternalRestricted;
            let is_hosts = of.process_id == Some(host.pid);
            let client = device.client.as_ref().and_then(|client| client.pid);
            let is_its_client = client.is_some() && client == system.vmm_process_id;
            let is_meant = is_hosts || is_its_client || is_brokered && of.process_id.is_some();
            is_meant.then_some(((is_its_client, is_hosts), &system.id, key))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|(likelihood, ..)| std::cmp::Reverse(*likelihood));
        let (best, next) = (found.first(), found.get(1));
        if let Some((likelihood, system, key)) = best
            && next.is_none_or(|(next, ..)| next < likelihood)
        {
            device.system = Some((*system).clone());
            device.key = Some((*key).clone());
        }
    }
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
    let devices = || hosts.iter().flat_map(|host| &host.devices);
    let has_systems = devices().any(|device| device.system.is_some());
    let columns: Vec<&str> = COLUMNS
        .into_iter()
        .filter(|column| has_systems || *column != VM_COLUMN)
        .collect();
    let mut table = style::table(paint, &columns);
    // A path that is broken over lines cannot be copied, so only the client's column gives way.
    let has_clients = devices().any(|device| device.client.is_some());
    for column in table.column_iter_mut() {
        let is_clients = columns.get(column.index) == Some(&CLIENT_COLUMN);
        column.set_constraint(if is_clients && has_clients {
            ColumnConstraint::LowerBoundary(Width::Fixed(CLIENT_WIDTH_MIN))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    let row = |pid: &str, system: &str, rest: [String; 5]| {
        let mut cells = vec![pid.to_owned()];
        cells.extend(has_systems.then(|| system.to_owned()));
        cells.extend(rest);
        cells
    };
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
            let none = ["", "", "no device", "", ""].map(str::to_owned);
            table.add_row(row(&pid, "", none));
        }
        for device in &host.devices {
            // Its name says no more than its instance id where it is one of a VM's.
            let name = device.key.as_ref().unwrap_or(&device.name);
            let rest = [
                format!("{}:{}", device.vendor, device.device),
                indent(device).to_owned() + &paint.paint(style::NAME, printable(name)),
                device.state.clone(),
                device
                    .client
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), client),
                printable(&device.socket.display().to_string()),
            ];
            let system = device.system.as_deref().unwrap_or_default();
            table.add_row(row(&pid, &printable(system), rest));
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
    use hdv::Uuid;
    use hdv_compute::document::{DeviceProperties, State};

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
            instance_id: None,
            system: None,
            key: None,
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

    fn system(id: &str, of: DeviceProperties) -> Summary {
        Summary {
            id: id.to_owned(),
            runtime_id: Uuid::nil(),
            owner: String::new(),
            state: State::Running,
            socket: format!("/run/systems/{id}.sock").into(),
            vmm_process_id: (id == "b").then_some(VMM),
            devices: [("key".to_owned(), of)].into(),
        }
    }

    /// The QEMU of system b.
    const VMM: u32 = 5_000_002;

    fn in_system(hosting_model: HostingModel, process_id: Option<u32>) -> DeviceProperties {
        DeviceProperties {
            instance_id: Uuid::from_u128(1),
            emulator_id: Uuid::nil(),
            hosting_model,
            status: hdv_compute::document::DeviceStatus::Attached,
            process_id,
            port: None,
        }
    }

    /// The system of device 1 of process 5 000 000 with that client, if it is told.
    fn assigned(client: Option<u32>, systems: &[Summary]) -> Option<String> {
        let client = client.map(|pid| DeviceClient {
            pid: Some(pid),
            process: None,
            messages: 0,
            reads: 0,
            writes: 0,
            bar_reads: 0,
            bar_writes: 0,
        });
        let device = Device {
            instance_id: Some(Uuid::from_u128(1)),
            ..device("a guid", client)
        };
        let mut host = host(vec![device], None);
        assign(&mut host, systems);
        let device = host.devices.remove(0);
        assert_eq!(device.key, device.system.as_ref().map(|_| "key".to_owned()));
        device.system
    }

    #[test]
    fn a_device_is_in_the_system_that_has_it_from_its_process() {
        let external = |pid| in_system(HostingModel::External, pid);
        let restricted = |pid| in_system(HostingModel::ExternalRestricted, pid);
        let systems = |a, b| [system("a", a), system("b", b)];
        let found = |client, systems: &[Summary]| assigned(client, systems).unwrap_or_default();
        let (ours, other) = (Some(5_000_000), Some(7));
        assert_eq!(found(None, &systems(external(other), external(ours))), "b");
        assert_eq!(found(None, &systems(external(other), external(None))), "");
        // Two VMs of one document, with hosts in one process.
        let both = systems(external(ours), external(ours));
        assert_eq!(found(None, &both), "");
        assert_eq!(found(Some(VMM), &both), "b");
        // A broker answers for another process.
        assert_eq!(found(None, &[system("a", restricted(other))]), "a");
        assert_eq!(found(None, &[system("a", restricted(None))]), "");
        assert_eq!(
            found(None, &systems(restricted(other), restricted(other))),
            ""
        );
        let both = systems(restricted(other), restricted(other));
        assert_eq!(found(Some(VMM), &both), "b");
        assert_eq!(found(Some(1), &both), "");
        assert_eq!(
            found(None, &systems(restricted(other), external(ours))),
            "b"
        );
    }

    #[test]
    fn devices_of_vms_have_a_column_for_them_and_their_keys() {
        let of_vm = Device {
            system: Some("my\u{1b}vm".to_owned()),
            key: Some("thermometer".to_owned()),
            ..device("2a3f", None)
        };
        let hosts = [
            host(vec![of_vm, device("alone", None)], None),
            host(vec![], None),
        ];
        let text = render(&hosts, Paint::none());
        let lines: Vec<&str> = text.lines().collect();
        let column = |name| lines[0].find(name).unwrap();
        assert!(lines[1][column("VM")..].starts_with("my?vm "), "{text}");
        assert!(
            lines[1][column("NAME")..].starts_with("thermometer "),
            "{text}"
        );
        assert!(!text.contains("2a3f"), "{text}");
        assert!(lines[2][column("NAME")..].starts_with("alone "), "{text}");
        assert!(
            lines[3][column("STATE")..].starts_with("no device"),
            "{text}"
        );
        // Nobody else has it.
        let text = render(&[host(vec![device("alone", None)], None)], Paint::none());
        assert!(!text.contains("VM"), "{text}");
    }
}

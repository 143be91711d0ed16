//! PFs for people.

use std::fmt::Write;

use super::find::HOW_TO_GET_ONE;
use super::view::{Origin, PfDetails, PfSummary, Vf};
use crate::decode::BarKind;
use crate::process;
use crate::status::DeviceClient;
use crate::style::{self, Paint, printable};

/// Most VFs that are listed when they have just been enabled.
const LISTED: usize = 16;
/// The columns that tell processes in the list of PFs.
const PROCESS_COLUMNS: [usize; 2] = [3, 4];
/// Those that can be long in the list of VFs, but for its socket.
const GIVES_WAY: [&str; 2] = ["BARS", "USED BY"];
/// Said of what is inside a domain.
const NO_SOCKET: &str = "none";
/// What registers mean.
const MEANING_COLUMN: usize = 3;

/// A number of VFs, in words.
pub(super) fn vfs(count: impl Into<u64>) -> String {
    match count.into() {
        1 => "1 VF".to_owned(),
        count => format!("{count} VFs"),
    }
}

pub(super) fn list(pfs: &[PfSummary], errors: &[String], paint: Paint) -> String {
    let mut text = String::new();
    if pfs.is_empty() {
        let _ = writeln!(
            text,
            "There is no PF: no running device host of this user has one, and neither has this machine.\n{HOW_TO_GET_ONE}"
        );
    } else {
        let mut table = style::table(paint, &["PF", "VFS", "DEVICE", "OF", "CLIENT", "SOCKET"]);
        for pf in pfs {
            let device = device(pf);
            table.add_row([
                paint.paint(style::NAME, printable(&pf.name)),
                enabled_of_total(pf),
                device.name,
                device.of,
                device.client,
                device.socket,
            ]);
        }
        style::give_way(&mut table, &PROCESS_COLUMNS);
        text.push_str(&style::lines(&table, ""));
    }
    for error in errors {
        let mark = paint.paint(style::WARNING, "warning:");
        let _ = writeln!(text, "{mark} {}", printable(error));
    }
    text
}

pub(super) fn details(details: &PfDetails, paint: Paint) -> String {
    let pf = &details.summary;
    let mut text = String::new();
    let heading = paint.paint(style::HEADING, printable(&pf.name));
    let _ = writeln!(text, "{heading}  {}", device(pf).name);
    facts(&mut text, pf, paint);
    registers(&mut text, details, paint);
    bars(&mut text, details, paint);
    section(&mut text, paint, "VFs");
    if details.vfs.is_empty() {
        let name = printable(&pf.name);
        let _ = writeln!(text, "  none; `hdv sriov enable {name} N` enables them");
    } else {
        text.push_str(&vf_table(&pf.origin, &details.vfs, paint));
    }
    text
}

/// What has been enabled.
pub(super) fn enabled(details: &PfDetails, paint: Paint) -> String {
    let count = details.vfs.len();
    let name = printable(&details.summary.name);
    let are = if count == 1 { "is" } else { "are" };
    let mut text = format!("{} of {name} {are} enabled.\n", vfs(count as u64));
    let shown = &details.vfs[..count.min(LISTED)];
    text.push_str(&vf_table(&details.summary.origin, shown, paint));
    if count > shown.len() {
        let more = count - shown.len();
        let _ = writeln!(text, "  and {more} more: `hdv sriov show {name}`");
    }
    text
}

/// What has been disabled, by how it was before.
pub(super) fn disabled(before: &PfDetails) -> String {
    let name = printable(&before.summary.name);
    let count = before.vfs.len();
    let were = if count == 1 { "is" } else { "are" };
    let mut text = format!("{} of {name} {were} disabled.\n", vfs(count as u64));
    let used = before.vfs.iter().filter(|vf| vf.client.is_some()).count();
    if used > 0 {
        let _ = writeln!(
            text,
            "{used} had a client: what it reads of its VF is all ones from now on."
        );
    }
    text
}

/// The columns that tell what a PF is.
struct DeviceCells {
    name: String,
    of: String,
    client: String,
    socket: String,
}

fn device(pf: &PfSummary) -> DeviceCells {
    match &pf.origin {
        Origin::Emulated {
            pid,
            label: Some(_),
            device: None,
            ..
        } => DeviceCells {
            name: "in a domain".to_owned(),
            of: process::describe(*pid),
            client: String::new(),
            socket: NO_SOCKET.to_owned(),
        },
        Origin::Emulated { pid, device, .. } => DeviceCells {
            name: device.as_ref().map_or_else(
                || "device that has just gone".to_owned(),
                |device| {
                    let name = printable(&device.name);
                    format!("{name} ({}:{})", device.vendor, device.device)
                },
            ),
            of: process::describe(*pid),
            client: device
                .as_ref()
                .map(|device| client(device.client.as_ref()))
                .unwrap_or_default(),
            socket: device
                .as_ref()
                .map(|device| printable(&device.socket.display().to_string()))
                .unwrap_or_default(),
        },
        Origin::Linux { driver, .. } => DeviceCells {
            name: driver_name(driver.as_deref()),
            of: "this machine".to_owned(),
            client: String::new(),
            socket: String::new(),
        },
    }
}

fn driver_name(driver: Option<&str>) -> String {
    match driver {
        Some(driver) => format!("driver {}", printable(driver)),
        None => "no driver".to_owned(),
    }
}

fn client(client: Option<&DeviceClient>) -> String {
    match client {
        None => "none".to_owned(),
        Some(DeviceClient { pid: None, .. }) => "unknown process".to_owned(),
        Some(DeviceClient { pid: Some(pid), .. }) => process::describe(*pid),
    }
}

fn enabled_of_total(pf: &PfSummary) -> String {
    let enabled = if pf.vf_enable { pf.num_vfs } else { 0 };
    let mut text = match pf.total_vfs {
        Some(total) => format!("{enabled} of {total}"),
        None => enabled.to_string(),
    };
    if let Origin::Linux {
        offered_vfs: Some(offered),
        ..
    } = pf.origin
        && pf.total_vfs != Some(offered)
    {
        let _ = write!(text, ", driver offers {offered}");
    }
    text
}

fn facts(text: &mut String, pf: &PfSummary, paint: Paint) {
    let mut facts = style::table(paint, &[]);
    let mut fact = |name: &str, value: &str| {
        facts.add_row([name, value]);
    };
    let mut address = pf.address.clone();
    if is_inside(&pf.origin) && address.starts_with("00:") {
        address.push_str(", until its guest numbers the bus");
    }
    fact("address", &address);
    fact("enabled VFs", &enabled_of_total(pf));
    fact("captured buses", &pf.captured_buses.to_string());
    let cells = device(pf);
    fact("of", &cells.of);
    match &pf.origin {
        Origin::Emulated {
            guest_controls_sriov,
            device,
            ..
        } => {
            if let Some(device) = device {
                fact("socket", &cells.socket);
                fact("state", &printable(&device.state));
                fact("used by", &cells.client);
            } else if is_inside(&pf.origin) {
                fact(
                    "socket",
                    "none: it and its VFs are inside a domain, which `hdv tree` shows",
                );
            }
            fact(
                "controlled by",
                if *guest_controls_sriov {
                    "its host, `hdv sriov` and the VM that has the PF"
                } else {
                    "its host and `hdv sriov`, not the VM that has the PF"
                },
            );
        }
        Origin::Linux { path, .. } => fact("directory", &printable(&path.display().to_string())),
    }
    text.push_str(&style::lines(&facts, "  "));
}

fn registers(text: &mut String, details: &PfDetails, paint: Paint) {
    section(text, paint, "SR-IOV registers");
    let (Some(sriov), Some(offset)) = (&details.registers, details.capability) else {
        let error = details.registers_error.as_deref();
        let error = error.unwrap_or("config space has no SR-IOV capability");
        let mark = paint.paint(style::WARNING, "warning:");
        let _ = writeln!(text, "  {mark} {}", printable(error));
        return;
    };
    let mut table = style::table(paint, &["AT", "REGISTER", "VALUE", ""]);
    for register in sriov.registers() {
        table.add_row([
            format!("{:03x}", offset.0 + register.offset.0),
            paint.paint(style::NAME, register.name),
            register.value,
            register.meaning,
        ]);
    }
    style::give_way(&mut table, &[MEANING_COLUMN]);
    text.push_str(&style::lines(&table, "  "));
}

fn bars(text: &mut String, details: &PfDetails, paint: Paint) {
    section(text, paint, "VF BARs");
    let Some(probed) = &details.probed_bars else {
        text.push_str("  not known without permission to read config space\n");
        return;
    };
    if details.vf_bars.is_empty() {
        text.push_str("  none\n");
        return;
    }
    let mut table = style::table(paint, &["", "SIZE OF EACH", "KIND", "VF 0 AT", "PROBED"]);
    for bar in &details.vf_bars {
        let index = usize::from(bar.index);
        let registers = if bar.kind == BarKind::Memory64 { 2 } else { 1 };
        let values = probed.iter().skip(index).take(registers);
        let values: Vec<_> = values.map(ToString::to_string).collect();
        table.add_row([
            format!("VF BAR{index}"),
            style::size(bar.size),
            bar.kind.name(bar.prefetchable).to_owned(),
            bar.address.map_or_else(String::new, |at| address(at.0)),
            values.join(" "),
        ]);
    }
    text.push_str(&style::lines(&table, "  "));
}

fn address(address: u64) -> String {
    match address {
        0 => "not placed".to_owned(),
        address => format!("0x{address:x}"),
    }
}

/// The PF is a function of a domain, and so are its VFs.
fn is_inside(origin: &Origin) -> bool {
    let Origin::Emulated { label, device, .. } = origin else {
        return false;
    };
    label.is_some() && device.is_none()
}

fn vf_table(origin: &Origin, vfs: &[Vf], paint: Paint) -> String {
    // Where no software is that places BARs, nothing can be told of any.
    let placed = vfs
        .iter()
        .flat_map(|vf| &vf.bars)
        .any(|bar| bar.address.is_some());
    let mut headings = vec!["VF", "ADDRESS"];
    if placed {
        headings.push("BARS");
    }
    headings.extend(match origin {
        _ if is_inside(origin) => &["SOCKET"][..],
        Origin::Emulated { .. } => &["STATE", "USED BY", "SOCKET"],
        Origin::Linux { .. } => &["USED BY"],
    });
    let mut table = style::table(paint, &headings);
    for vf in vfs {
        let mut row = vec![vf.vf.to_string(), paint.paint(style::NAME, &vf.address)];
        if placed {
            let bars = vf.bars.iter().map(|bar| {
                let at = bar.address.map_or(0, |at| at.0);
                format!("BAR{} {}", bar.index, address(at))
            });
            row.push(bars.collect::<Vec<_>>().join(", "));
        }
        match origin {
            _ if is_inside(origin) => row.push(NO_SOCKET.to_owned()),
            Origin::Emulated { .. } => {
                let socket = vf.socket.as_ref();
                row.extend([
                    printable(vf.state.as_deref().unwrap_or_default()),
                    client(vf.client.as_ref()),
                    socket.map_or_else(String::new, |path| printable(&path.display().to_string())),
                ]);
            }
            Origin::Linux { .. } => row.push(driver_name(vf.driver.as_deref())),
        }
        table.add_row(row);
    }
    let give_way: Vec<_> = (0..)
        .zip(&headings)
        .filter(|(_, heading)| GIVES_WAY.contains(heading))
        .map(|(column, _)| column)
        .collect();
    style::give_way(&mut table, &give_way);
    style::lines(&table, "  ")
}

fn section(text: &mut String, paint: Paint, name: &str) {
    let _ = writeln!(text, "\n{}", paint.paint(style::HEADING, name));
}

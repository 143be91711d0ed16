//! `hdv inspect`: what a compute system says of itself.

use std::fmt::Write;

use hdv_compute::ComputeSystem;
use hdv_compute::document::{DeviceStatus, HostingModel, Properties};

use crate::Failure;
use crate::args::SystemArgs;
use crate::process;
use crate::style::{self, Paint, printable};

use super::table;

pub(crate) fn run(args: &SystemArgs) -> Result<(), Failure> {
    let properties = ComputeSystem::open(&args.id)?.properties()?;
    let text = if args.output.json {
        format!("{}\n", serde_json::to_string_pretty(&properties)?)
    } else {
        render(&properties, Paint::stdout())
    };
    style::print(&text)?;
    Ok(())
}

fn render(properties: &Properties, paint: Paint) -> String {
    let mut facts = vec![
        ("state", table::state(properties.state, paint)),
        ("runtime id", properties.runtime_id.to_string()),
        ("owner", printable(&properties.owner)),
        (
            "memory",
            style::size(u64::from(properties.memory.size_in_mb) << 20),
        ),
        ("processors", properties.processor_count.to_string()),
        ("worker", process::describe(properties.worker_process_id)),
    ];
    if let Some(exit) = &properties.exit_type {
        facts.insert(1, ("ended by", exit.clone()));
    }
    if let Some(accelerator) = &properties.accelerator {
        facts.push(("accelerator", accelerator.clone()));
    }
    if let Some(pid) = properties.vmm_process_id {
        facts.push(("QEMU", process::describe(pid)));
    }
    if properties.terminate_on_last_handle_closed {
        facts.push(("last handle", "ends it".to_owned()));
    }
    for (number, socket) in &properties.consoles {
        let socket = printable(&socket.display().to_string());
        facts.push(("console", format!("{} on {socket}", printable(number))));
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}",
        paint.paint(style::NAME, printable(&properties.id))
    );
    for (name, value) in facts {
        let _ = writeln!(text, "  {name:<12} {value}");
    }
    if properties.devices.is_empty() {
        text.push_str(
            "\nIt has no device of a device host; `hdv plug --help` says how it gets one.\n",
        );
        return text;
    }
    let headings = [
        "DEVICE", "CLASS", "HOSTING", "STATUS", "HOST", "PORT", "INSTANCE",
    ];
    let mut table = style::table(paint, &headings);
    for (name, device) in &properties.devices {
        table.add_row([
            paint.paint(style::NAME, printable(name)),
            hdv_devices::by_class(device.emulator_id).map_or_else(
                || device.emulator_id.to_string(),
                |kind| kind.name.to_owned(),
            ),
            hosting(device.hosting_model).to_owned(),
            status(device.status, paint),
            device
                .process_id
                .map_or_else(|| "none".to_owned(), process::describe),
            device
                .port
                .as_deref()
                .map_or_else(|| "none".to_owned(), printable),
            device.instance_id.to_string(),
        ]);
    }
    text.push('\n');
    text.push_str(&style::lines(&table, ""));
    text
}

fn hosting(model: HostingModel) -> &'static str {
    match model {
        HostingModel::Internal => "internal",
        HostingModel::External => "external",
        HostingModel::ExternalRestricted => "restricted",
    }
}

fn status(status: DeviceStatus, paint: Paint) -> String {
    let (style, word) = match status {
        DeviceStatus::Waiting => (style::HEADING, "waiting"),
        DeviceStatus::Adding => (style::WARNING, "being added"),
        DeviceStatus::Attached => (style::GOOD, "plugged in"),
        DeviceStatus::Removing => (style::WARNING, "being removed"),
        DeviceStatus::Stub => (style::WARNING, "removed, port taken"),
        DeviceStatus::Lost => (style::BAD, "lost"),
    };
    paint.paint(style, word)
}

//! What a probe finds out, for people.

use std::fmt::{Display, Write};

use super::view::{Interrupt, Region, View};
use crate::decode::ConfigSpace;
use crate::process;
use crate::style::{self, Paint};

/// Most mappable areas of a region that are shown; a server may announce thousands.
const AREAS_SHOWN: usize = 8;

/// Ids are written as the standard and `lspci` write them, in hexadecimal without a prefix.
pub(super) fn render(view: &View, paint: Paint) -> String {
    let identity = &view.config.identity;
    let mut text = String::new();
    let id = format!("{}:{}", identity.vendor, identity.device);
    let title = view.names.device.as_deref().or(view.names.class.as_deref());
    let heading = paint.paint(style::HEADING, &id);
    let _ = writeln!(text, "{heading}  {}", title.unwrap_or("PCI device"));

    let mut facts = style::table(paint, &[]);
    let mut fact = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    let named = |id: &dyn Display, name: &Option<String>| match name {
        Some(name) => format!("{id}  {name}"),
        None => id.to_string(),
    };
    fact("vendor", named(&identity.vendor, &view.names.vendor));
    fact("device", named(&identity.device, &view.names.device));
    fact("class", named(&identity.class, &view.names.class));
    let subsystem = format!("{}:{}", identity.subsystem_vendor, identity.subsystem);
    fact("subsystem", named(&subsystem, &view.names.subsystem_vendor));
    fact("revision", identity.revision.to_string());
    fact("command", list(&view.config.command));
    fact("status", list(&view.config.status));
    fact(
        "reset",
        if view.reset {
            "supported"
        } else {
            "not supported"
        }
        .to_owned(),
    );
    let server = view
        .server
        .pid
        .map_or_else(|| "unknown process".to_owned(), process::describe);
    fact(
        "served by",
        format!("{server}, vfio-user {}", view.server.version),
    );
    text.push_str(&style::lines(&facts, "  "));

    section(&mut text, paint, "Regions");
    let mut regions = style::table(
        paint,
        &["", "SIZE", "ACCESS", "MAPPABLE", "KIND", "ADDRESS"],
    );
    for region in &view.regions {
        regions.add_row(region_row(region));
    }
    text.push_str(&style::lines(&regions, "  "));

    section(&mut text, paint, "Capabilities");
    text.push_str(&capability_table(&view.config, paint));

    section(&mut text, paint, "Interrupts");
    if view.interrupts.is_empty() {
        text.push_str("  none\n");
    }
    for interrupt in &view.interrupts {
        let _ = writeln!(text, "  {}", interrupt_line(interrupt));
    }
    for fault in &view.config.faults {
        let _ = writeln!(text, "{} {fault}", paint.paint(style::WARNING, "warning:"));
    }
    text
}

/// The capabilities of both lists, one a line.
pub(crate) fn capability_table(config: &ConfigSpace, paint: Paint) -> String {
    let mut capabilities = style::table(paint, &["AT", "ID", "NAME", ""]);
    for capability in &config.capabilities {
        let (offset, id) = (capability.offset.to_string(), capability.id.to_string());
        let name = paint.paint(style::NAME, capability.name);
        capabilities.add_row([offset, id, name, capability.details.to_string()]);
    }
    for capability in &config.extended_capabilities {
        let (offset, id) = (capability.offset.to_string(), capability.id.to_string());
        let name = paint.paint(style::NAME, capability.name);
        capabilities.add_row([offset, id, name, capability.details.to_string()]);
    }
    style::lines(&capabilities, "  ")
}

fn section(text: &mut String, paint: Paint, name: &str) {
    let _ = writeln!(text, "\n{}", paint.paint(style::HEADING, name));
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn region_row(region: &Region) -> [String; 6] {
    let access = match (region.read, region.write) {
        (true, true) => "read, write",
        (true, false) => "read",
        (false, true) => "write",
        (false, false) => "none",
    };
    let mut areas: Vec<String> = region
        .mappable
        .iter()
        .take(AREAS_SHOWN)
        .map(|area| match area.size {
            size if size == region.size => "all".to_owned(),
            size => format!("{} at 0x{}", style::size(size), area.offset),
        })
        .collect();
    if region.mappable.len() > AREAS_SHOWN {
        areas.push(format!("{} more", region.mappable.len() - AREAS_SHOWN));
    }
    let mappable = if areas.is_empty() {
        "no".to_owned()
    } else {
        areas.join(", ")
    };
    let address = match region.bar {
        Some(bar) if bar.address.0 != 0 => format!("0x{}", bar.address),
        Some(_) => "not placed".to_owned(),
        None => String::new(),
    };
    [
        region.name.clone(),
        style::size(region.size),
        access.to_owned(),
        mappable,
        region.kind().to_owned(),
        address,
    ]
}

fn interrupt_line(interrupt: &Interrupt) -> String {
    let mut line = format!("{}: {}", interrupt.name, interrupt.count);
    for (flag, name) in [
        (interrupt.eventfd, "eventfd"),
        (interrupt.maskable, "maskable"),
        (interrupt.automasked, "masks itself"),
        (interrupt.no_resize, "enabled as a whole"),
    ] {
        if flag {
            line.push_str(", ");
            line.push_str(name);
        }
    }
    line
}

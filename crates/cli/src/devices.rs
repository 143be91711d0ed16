//! `hdv devices`: the emulators that can be served, with their settings.

use std::fmt::Write;

use hdv_devices::{DeviceKind, catalog};

use crate::Failure;
use crate::args::OutputArgs;
use crate::style::{self, Paint};

pub(crate) fn run(output: OutputArgs) -> Result<(), Failure> {
    let text = if output.json {
        let devices: Vec<_> = catalog().iter().map(document).collect();
        let document = serde_json::json!({ "devices": devices });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        render(Paint::stdout())
    };
    style::print(&text)?;
    Ok(())
}

fn document(kind: &DeviceKind) -> serde_json::Value {
    let settings: Vec<_> = kind
        .settings
        .iter()
        .map(|setting| {
            serde_json::json!({
                "key": setting.key,
                "default": setting.default,
                "help": setting.help,
            })
        })
        .collect();
    serde_json::json!({
        "name": kind.name,
        "class_id": kind.class_id,
        "vendor": format!("0x{:04x}", kind.id.0),
        "device": format!("0x{:04x}", kind.id.1),
        "summary": kind.summary,
        "settings": settings,
    })
}

fn render(paint: Paint) -> String {
    let mut text = String::new();
    for kind in catalog() {
        let name = paint.paint(style::NAME, kind.name);
        let (vendor, device) = kind.id;
        let _ = writeln!(
            text,
            "{name}  {vendor:04x}:{device:04x}  class {}\n  {}",
            kind.class_id, kind.summary
        );
        let mut table = style::table(paint, &["SETTING", "DEFAULT", ""]);
        for setting in kind.settings {
            table.add_row([setting.key, setting.default, setting.help]);
        }
        if !kind.settings.is_empty() {
            text.push_str(&style::lines(&table, "  "));
        }
        text.push('\n');
    }
    text.push_str("Serve one with: hdv serve --device NAME --socket PATH [--set KEY=VALUE]...\n");
    text
}

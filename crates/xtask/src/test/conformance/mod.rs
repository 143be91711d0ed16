//! Every function, callback, type and constant of the C interface has a row in `docs/conformance.toml`,
//! and every row the tests that it must have, which exist.

mod documented;
mod headers;
mod known;
mod rules;
mod table;

use std::path::{Path, PathBuf};

use comfy_table::{Table as Text, presets};

use super::Failure;
use crate::cargo::workspace;
use headers::Declarations;
use table::{Kind, Table};

/// The table.
const TABLE: &str = "docs/conformance.toml";
/// Where the headers are.
const HEADERS: &str = "crates/capi/include";

pub(super) fn run() -> Result<(), Failure> {
    let table: Table = toml::from_str(&std::fs::read_to_string(workspace().join(TABLE))?)
        .map_err(|error| format!("{TABLE}: {error}"))?;
    let mut declared = Declarations::default();
    for header in headers(&workspace().join(HEADERS))? {
        declared.read(&std::fs::read_to_string(header)?);
    }
    let known = known::tests()?;
    println!("{}", summary(&table));
    let faults = rules::faults(&table, &declared, &known);
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{TABLE}: {} faults:\n  {}",
        faults.len(),
        faults.join("\n  ")
    )
    .into())
}

/// The headers below a directory.
fn headers(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(headers(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn summary(table: &Table) -> Text {
    let mut text = Text::new();
    text.load_preset(presets::NOTHING)
        .set_header(["rows of", "names", "tests cited"]);
    for kind in Kind::ALL {
        let rows = || table.rows().filter(|(of, _)| *of == kind);
        let names: usize = rows().map(|(_, row)| row.names().count()).sum();
        let tests: usize = rows().map(|(_, row)| row.tests().count()).sum();
        text.add_row([kind.name().to_owned(), names.to_string(), tests.to_string()]);
    }
    text
}

//! What the demo reports: one JSON line for machines, a table for people.

use std::time::Duration;

use hdv_guest::report::{self, Outcome};
use serde::Serialize;

use crate::lab;
use crate::ui::Ui;

/// One check.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
}

/// The guest the checks were made in.
#[derive(Clone, Debug, Serialize)]
struct Guest {
    kernel: String,
    qemu: String,
}

/// The line for machines.
#[derive(Debug, Serialize)]
struct Line<'a> {
    ok: bool,
    guest: Option<&'a Guest>,
    checks: &'a [Check],
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    guest: Option<Guest>,
    checks: Vec<Check>,
}

impl Report {
    /// A report of checks made in a guest.
    pub(crate) fn in_guest(kernel: &str, qemu: String) -> Self {
        Self {
            guest: Some(Guest {
                kernel: kernel.to_owned(),
                qemu,
            }),
            checks: Vec::new(),
        }
    }

    /// A report of something that failed before any check could be made.
    pub(crate) fn failed(name: &str, why: String) -> Self {
        let mut report = Self::default();
        report.checks.push(Check {
            name: name.to_owned(),
            ok: false,
            detail: why,
        });
        report
    }

    /// Adds a check and shows it.
    pub(crate) fn add(&mut self, ui: &Ui, name: String, ok: bool, detail: String) {
        ui.verdict(ok, &name, &detail);
        self.checks.push(Check { name, ok, detail });
    }

    /// Adds a check that the guest program made.
    pub(crate) fn add_outcome(&mut self, ui: &Ui, part: &str, outcome: Outcome) {
        let boot = match outcome.round {
            0 | 1 => String::new(),
            round => format!(", boot {round}"),
        };
        let device = match outcome.device.as_str() {
            "" => String::new(),
            device => format!(" ({} {device}{boot})", outcome.transport),
        };
        let name = format!("{part}: {}{device}", outcome.name);
        self.add(ui, name, outcome.ok, outcome.detail);
    }

    /// Adds what a guest of one boot checks, and whether it came to its end with QEMU silent. `silence` is the longest that it
    /// may say nothing.
    pub(crate) fn add_boot(
        &mut self,
        ui: &Ui,
        part: &str,
        mut guest: lab::Guest,
        silence: Duration,
    ) {
        let (_, followed) = guest.follow(1, silence, &mut |line| match line {
            report::Line::Check(outcome) => self.add_outcome(ui, part, outcome),
            report::Line::Text { title, text } => {
                ui.line(&format!("guest: {title}\n{text}"));
            }
            _ => {}
        });
        if let Err(why) = followed {
            self.add(ui, format!("{part}: guest"), false, why);
            return;
        }
        let (ok, detail) = match guest.end_in_silence(silence) {
            Ok(()) => (true, "QEMU printed nothing".to_owned()),
            Err(error) => (false, error),
        };
        self.add(ui, format!("{part}: QEMU"), ok, detail);
    }

    /// Whether there were checks and none failed.
    pub(crate) fn ok(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.ok)
    }

    /// Prints it on standard output.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let line = Line {
                ok: self.ok(),
                guest: self.guest.as_ref(),
                checks: &self.checks,
            };
            match serde_json::to_string(&line) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("the report has no JSON: {error}"),
            }
            return;
        }
        let failed = self.checks.iter().filter(|check| !check.ok).count();
        let passed = self.checks.len() - failed;
        match &self.guest {
            Some(guest) => println!(
                "{passed} passed, {failed} failed; guest: Linux {} in QEMU {}",
                guest.kernel, guest.qemu
            ),
            None => println!("{passed} passed, {failed} failed; without a guest"),
        }
        for check in self.checks.iter().filter(|check| !check.ok) {
            println!("FAILED {}: {}", check.name, check.detail);
        }
    }
}

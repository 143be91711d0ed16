//! How a check is named, made and reported; all of them in order.

use super::facts::Facts;
use super::{faults, hosting, life, lifetimes, many, outlive, programs};
use crate::demo::Report;
use crate::interrupt;
use crate::test::Failure;
use crate::ui::Ui;

/// The checks' surroundings.
pub(super) struct Checks<'a> {
    pub(super) facts: &'a Facts,
    ui: &'a Ui,
    report: &'a mut Report,
}

impl Checks<'_> {
    /// Says what is being done.
    pub(super) fn doing(&self, what: &str) {
        self.ui.doing(what);
    }

    /// Reports a check: what it returns is what was seen, or what was wrong.
    pub(super) fn check(
        &mut self,
        name: &str,
        check: impl FnOnce() -> Result<String, Failure>,
    ) -> bool {
        if interrupt::requested() {
            return false;
        }
        let result = check();
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|failure| failure.to_string());
        self.report
            .add(self.ui, format!("compute: {name}"), ok, detail);
        ok
    }
}

/// Makes all of them; true if none failed.
pub(super) fn run() -> bool {
    if let Err(error) = interrupt::watch() {
        println!("Ctrl-C will leave temporary files behind: {error}");
    }
    let facts = match Facts::of_environment() {
        Ok(facts) => facts,
        Err(failure) => {
            eprintln!("{failure}");
            return false;
        }
    };
    let ui = Ui::new();
    let mut report = Report::in_guest(&facts.kernel_release, facts.qemu_version.clone());
    let mut checks = Checks {
        facts: &facts,
        ui: &ui,
        report: &mut report,
    };
    for part in [
        life::run,
        hosting::run,
        many::run,
        faults::run,
        outlive::run,
        |checks: &mut Checks<'_>| faults::beside(checks, programs::run),
        lifetimes::run,
    ] {
        if !interrupt::requested() {
            part(&mut checks);
        }
    }
    ui.finish();
    report.print(false);
    report.ok()
}

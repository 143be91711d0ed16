//! `hdv doctor`: what this machine can run. What is found out is `hdv_qemu`'s; how it looks is
//! here.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use hdv_qemu::doctor::{Report, Step, examine};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::args::OutputArgs;
use crate::style::{self, Paint};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Ends with a failure where no guest can be run, so that scripts can ask.
pub(crate) fn run(output: OutputArgs) -> Result<ExitCode, Failure> {
    let report = examine_with_progress();
    let text = if output.json {
        let mut document = serde_json::to_value(&report)?;
        document["can_run_guests"] = report.can_run_guests().into();
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        render(&report, Paint::stdout())
    };
    style::print(&text)?;
    Ok(if report.can_run_guests() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Examines, with a line on standard error, if that is a terminal, that says what takes so long.
fn examine_with_progress() -> Report {
    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::default_spinner())
        .with_message("Looking at this machine");
    spinner.enable_steady_tick(TICK);
    let report = examine(&mut |step| {
        spinner.set_message(match step {
            Step::Accelerator(accelerator) => format!(
                "Booting the guest kernel with accelerator {}, which takes some seconds",
                accelerator.name()
            ),
            _ => "Looking at this machine".to_owned(),
        });
    });
    spinner.finish_and_clear();
    report
}

fn render(report: &Report, paint: Paint) -> String {
    let good = paint.paint(style::GOOD, "ok     ");
    let bad = paint.paint(style::BAD, "missing");
    let none = paint.paint(style::WARNING, "no     ");
    let mut text = String::new();
    if let Some(qemu) = &report.qemu {
        let _ = writeln!(
            text,
            "{good}  QEMU {} ({}): {}",
            qemu.version, qemu.origin, qemu.path
        );
    }
    if let Some(kernel) = &report.kernel {
        let vfio = if kernel.vfio {
            "with vfio-pci"
        } else {
            "without vfio-pci"
        };
        let _ = writeln!(
            text,
            "{good}  guest kernel {} ({vfio}): {}",
            kernel.release, kernel.path
        );
    }
    for trial in &report.accelerators {
        let name = trial.accelerator.name();
        let _ = match &trial.reason {
            None => writeln!(
                text,
                "{good}  accelerator {name}: boots the guest kernel in {:.1} s",
                trial.seconds
            ),
            Some(reason) => writeln!(text, "{none}  accelerator {name}: {reason}"),
        };
    }
    for missing in &report.missing {
        let _ = writeln!(text, "{bad}  {}: {}", missing.what, missing.why);
        let remedy = paint.paint(style::NAME, &missing.remedy);
        let _ = writeln!(text, "         what to do: {remedy}");
    }
    if let Some(cache) = &report.cache {
        let _ = writeln!(text, "\nCache: {cache}");
    }
    for bundle in &report.bundles {
        let _ = writeln!(
            text,
            "  {} ({}): {}",
            bundle.name,
            bundle.description,
            bundle.packages.join(", ")
        );
    }
    text.push_str(if report.can_run_guests() {
        "\nThis machine can run guests.\n"
    } else {
        "\nThis machine cannot run guests yet; devices can be served and probed all the same.\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use hdv_qemu::doctor::Missing;

    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_remedy() {
        let report = Report {
            cache: None,
            qemu: None,
            kernel: None,
            accelerators: vec![],
            bundles: vec![],
            missing: vec![Missing {
                what: "QEMU".to_owned(),
                why: "none in PATH".to_owned(),
                remedy: "fetch it".to_owned(),
            }],
        };
        let text = render(&report, Paint::none());
        assert!(text.contains("missing  QEMU: none in PATH\n"), "{text}");
        assert!(text.contains("what to do: fetch it\n"), "{text}");
        assert!(text.contains("cannot run guests"), "{text}");
    }
}

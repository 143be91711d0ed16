//! The facts of the machine that figures mean nothing without.

use std::fmt;
use std::process::Command;

use serde::Serialize;

/// See the module's documentation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cpus: usize,
    virtual_machine: bool,
    kernel: String,
    rustc: String,
    optimized: bool,
    load_average: String,
}

impl Machine {
    /// This machine. What it does not tell is `unknown`.
    pub(super) fn facts() -> Self {
        let unknown = || "unknown".to_owned();
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            processors
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim().to_owned())
        };
        let model = match (field("cpu family"), field("model"), field("stepping")) {
            (Some(family), Some(model), Some(stepping)) => {
                format!(" (family {family}, model {model}, stepping {stepping})")
            }
            _ => String::new(),
        };
        let system = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let rustc = Command::new(rustc).arg("--version").output().ok();
        Self {
            cpu: field("model name").unwrap_or_else(unknown) + &model,
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            rustc: rustc
                .filter(|output| output.status.success())
                .map_or_else(unknown, |output| {
                    String::from_utf8_lossy(&output.stdout).trim().to_owned()
                }),
            optimized: !cfg!(debug_assertions),
            load_average: std::fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next().map(str::to_owned))
                .unwrap_or_else(unknown),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} CPUs{}; {}; {}, {}; load average before: {}",
            self.cpu,
            self.cpus,
            if self.virtual_machine {
                " of a virtual machine"
            } else {
                ""
            },
            self.kernel,
            self.rustc,
            if self.optimized {
                "optimized"
            } else {
                "NOT OPTIMIZED: these figures say nothing"
            },
            self.load_average
        )
    }
}

//! A guest with SR-IOV devices of QEMU's own, which are real ones to its kernel: the command and a program in C drive
//! them through Linux.

use std::time::Duration;

use hdv_qemu::bundle::Bundle;
use serde_json::json;

use crate::c::Library;
use crate::demo::Report;
use crate::lab::{Boot, COMMAND, Contents, Emulated, Lab, build_program};
use crate::test::Failure;
use crate::ui::Ui;

/// What a check's name begins with.
const PART: &str = "SysfsPf";
/// The program in C that the guest runs.
const PROGRAM_IN_C: &str = "pf_sysfs";
/// The longest a boot may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

pub(super) fn run(library: &Library, ui: &Ui, report: &mut Report) -> Result<(), Failure> {
    ui.doing("building the programs for the guest");
    let c_program = library.for_guest(PROGRAM_IN_C)?;
    let contents = Contents {
        kernel: Bundle::KERNEL_FULL,
        modules: vec!["igb", "nvme"],
        programs: vec![
            ("hdv".to_owned(), build_program(COMMAND)?),
            (PROGRAM_IN_C.to_owned(), std::fs::read(c_program)?),
        ],
    };
    let lab = Lab::with(&contents, ui)?;
    let boot = Boot {
        emulated: vec![
            Emulated::BehindPort(json!({"driver": "igb", "netdev": "network"})),
            Emulated::Plain(json!({"driver": "nvme-subsys", "id": "subsystem"})),
            Emulated::BehindPort(json!({
                "driver": "nvme", "serial": "openhdv", "subsys": "subsystem", "max_ioqpairs": 26, "msix_qsize": 16,
                "sriov_max_vfs": 4, "sriov_vq_flexible": 8, "sriov_vi_flexible": 4,
            })),
        ],
        arguments: ["-netdev", "user,id=network,restrict=on"]
            .map(str::to_owned)
            .to_vec(),
        parameters: "openhdv.mode=sriov".to_owned(),
        ..Boot::default()
    };
    ui.doing("booting a guest with igb and nvme");
    report.add_boot(ui, PART, lab.boot(&boot)?, SILENCE);
    Ok(())
}

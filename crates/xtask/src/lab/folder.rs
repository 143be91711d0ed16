//! `cargo xtask lab`: the guest lab's folder, which documents name with `${OPENHDV_LAB}`.

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::lab::{BUNDLES, Lab};

use super::program::GUEST;
use super::{LabError, bring, build_program};
use crate::ui::Ui;

/// Makes the folder and says where it is; true if it was made.
pub(crate) fn run() -> bool {
    let ui = Ui::new();
    let made = prepare(&ui);
    ui.finish();
    match made {
        Ok(lab) => {
            println!("{}", lab.directory().display());
            true
        }
        Err(error) => {
            eprintln!("the lab was not made: {error}");
            false
        }
    }
}

/// Fetches and builds what documents of the lab need, and puts it there.
fn prepare(ui: &Ui) -> Result<Lab, LabError> {
    let cache = Cache::user()?;
    if hdv_qemu::locate::locate(&cache).is_err() {
        bring(&cache, Bundle::QEMU, ui)?;
    }
    ui.doing("building the program for the guest");
    let program = build_program(GUEST)?;
    make(&cache, &program, ui)
}

/// Puts the folder together, with the guest program.
pub(super) fn make(cache: &Cache, program: &[u8], ui: &Ui) -> Result<Lab, LabError> {
    for bundle in BUNDLES.into_iter().chain([Bundle::OVMF]) {
        bring(cache, bundle, ui)?;
    }
    let lab = Lab::of(cache);
    lab.make(cache, Some(program))?;
    ui.line(&format!("guest lab at {}", lab.directory().display()));
    Ok(lab)
}

//! Virtual functions: what enabling many costs (`enabling`), what those cost that nobody uses (`idle`), and what work costs
//! that is spread over many, accesses (`busy`) and samples of the SR-IOV sensor (`sampling`). The PF of all but that
//! one is in `pf`, threads that share work in `workers`.

mod busy;
mod enabling;
mod idle;
mod pf;
mod sampling;
mod workers;

pub(super) use busy::measure as busy;
pub(super) use enabling::{Change, measure as enabling};
pub(super) use idle::measure as idle;
pub(super) use pf::serve;
pub(super) use sampling::measure as sampling;

use std::path::{Path, PathBuf};

/// The socket of a VF, beside that of its PF.
fn socket(pf: &Path, vf: u16) -> PathBuf {
    let name = pf.file_stem().unwrap_or_default().to_string_lossy();
    pf.with_file_name(format!("{name}-vf{vf}.sock"))
}

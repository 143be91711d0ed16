//! Virtual functions: what enabling many costs (`enabling`), what those cost that nobody uses (`idle`), and what work costs
//! that is spread over many (`busy`). The PF is in `pf`.

mod busy;
mod enabling;
mod idle;
mod pf;

pub(super) use busy::measure as busy;
pub(super) use enabling::{Change, measure as enabling};
pub(super) use idle::measure as idle;
pub(super) use pf::serve;

use std::path::{Path, PathBuf};

/// The socket of a VF, beside that of its PF.
fn socket(pf: &Path, vf: u16) -> PathBuf {
    let name = pf.file_stem().unwrap_or_default().to_string_lossy();
    pf.with_file_name(format!("{name}-vf{vf}.sock"))
}

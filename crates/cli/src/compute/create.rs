//! `hdv create`: a compute system that is not started, and stays.

use crate::args::CreateArgs;
use crate::progress;
use crate::{Failure, style};

use super::{document, naming, tell};

pub(crate) fn run(args: &CreateArgs) -> Result<(), Failure> {
    let mut document = document::read(&args.document)?;
    // This handle is closed when the command ends, and the compute system is to be there then.
    document.should_terminate_on_last_handle_closed = false;
    let json = serde_json::to_string(&document)?;
    let suggested = naming::of_file(&args.document);
    let system = progress::during("Creating the compute system", || {
        naming::create(args.id.as_deref(), &suggested, |_| Ok(json.clone()))
    })?;
    let id = system.id();
    let text = format!(
        "{} is created; start it with: hdv start {}",
        style::Paint::stdout().paint(style::NAME, style::printable(id)),
        style::printable(id)
    );
    tell(
        args.output,
        &text,
        &serde_json::json!({ "id": id, "runtime_id": system.runtime_id() }),
    )
}

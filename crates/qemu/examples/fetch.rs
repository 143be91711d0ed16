//! Fetches QEMU and the small guest kernel into the user's cache and shows the progress.

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::{Progress, fetch};

fn main() -> Result<(), hdv_qemu::Error> {
    let cache = Cache::user()?;
    let mut show = |progress: Progress<'_>| match progress {
        Progress::Waiting { bundle } => eprintln!("{}: waiting for another process", bundle.name),
        Progress::Step {
            bundle,
            stage,
            done,
            total,
        } => eprintln!("{}: {stage} {done}/{total}", bundle.name),
        Progress::Fetched { bundle, unpacked } => {
            eprintln!("{}: in {}", bundle.name, unpacked.root().display());
        }
        _ => {}
    };
    for unpacked in fetch(&cache, &[Bundle::QEMU, Bundle::KERNEL_CLOUD], &mut show)? {
        println!("{}", unpacked.root().display());
    }
    Ok(())
}

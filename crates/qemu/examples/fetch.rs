//! Fetches bundles into the user's cache and shows the progress: those named, or QEMU and the small
//! guest kernel.

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::{Progress, fetch};

fn main() -> Result<(), hdv_qemu::Error> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let mut bundles = vec![Bundle::QEMU, Bundle::KERNEL_CLOUD];
    if !names.is_empty() {
        bundles = Bundle::ALL
            .into_iter()
            .filter(|bundle| names.iter().any(|name| name == bundle.name))
            .collect();
    }
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
    for unpacked in fetch(&cache, &bundles, &mut show)? {
        println!("{}", unpacked.root().display());
    }
    Ok(())
}

//! Makes the guest lab, without the guest program, and says where it is.

use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::fetch;
use hdv_qemu::lab::{BUNDLES, Lab};

fn main() -> Result<(), hdv_qemu::Error> {
    let cache = Cache::user()?;
    fetch(&cache, &BUNDLES, &mut |_| {})?;
    let lab = Lab::of(&cache);
    lab.make(&cache, None)?;
    println!("{}", lab.directory().display());
    Ok(())
}

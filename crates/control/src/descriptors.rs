//! How many descriptors this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: hundreds of devices and their clients need more descriptors than
/// the usual soft limit allows. Where that fails the limit stays as it is, which is logged.
///
/// Children of this process inherit it.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::info!("the limit of open files stays: {error}");
    }
}

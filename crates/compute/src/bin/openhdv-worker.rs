//! The process that owns one compute system, and the ones that it starts for devices of our own.

use std::process::ExitCode;

fn main() -> ExitCode {
    hdv_compute::worker_main()
}

//! The program of the test guest; see the library, [`hdv_guest`], for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    if hdv_guest::init::system::is_first_process() {
        hdv_guest::init::main();
        // The kernel refused to end the system and would panic if its first process ended.
        loop {
            std::thread::park();
        }
    }
    hdv_guest::outside::main(std::env::args().skip(1))
}

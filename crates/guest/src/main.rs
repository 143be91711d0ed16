//! The program of the test guest; see the library, [`hdv_guest`], for what it does.

use std::process::ExitCode;

use hdv_guest::domain;

fn main() -> ExitCode {
    if hdv_guest::init::system::is_first_process() {
        hdv_guest::init::main();
        // The kernel refused to end the system and would panic if its first process ended.
        loop {
            std::thread::park();
        }
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((program, arguments)) if program == domain::HOLD => domain::hold(arguments),
        _ => hdv_guest::outside::main(arguments.into_iter()),
    }
}

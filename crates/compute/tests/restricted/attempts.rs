//! What a restricted process must not do fails, in every thread, and costs it nothing else.

use crate::played::{Restricted, alone, read32, write32};
use crate::process::{ATTEMPTS, BELL, DOORBELLS, OUTCOME};

#[test]
fn what_is_denied_is_an_error_and_no_end() {
    alone("attempts::what_is_denied_is_an_error_and_no_end", || {
        let restricted = Restricted::start(&[1]);
        let mut client = restricted.connect(1);
        for (number, (what, _)) in (0..).zip(ATTEMPTS) {
            write32(&mut client, OUTCOME, number);
            let outcome = read32(&mut client, 0, OUTCOME).cast_signed();
            assert_eq!(outcome, libc::EPERM, "{what}");
        }
        assert_eq!(read32(&mut client, 0, BELL), 0, "it lives");
    });
}

#[test]
fn there_are_so_many_doorbells_over_all_devices() {
    alone(
        "attempts::there_are_so_many_doorbells_over_all_devices",
        || {
            let restricted = Restricted::start(&[1, 2]);
            let mut clients = [1, 2].map(|device| restricted.connect(device));
            // Each has one already.
            write32(&mut clients[0], DOORBELLS, 100);
            write32(&mut clients[1], DOORBELLS, 1000);
            assert_eq!(read32(&mut clients[0], 0, DOORBELLS), 100);
            assert_eq!(read32(&mut clients[1], 0, DOORBELLS), 256 - 2 - 100);
        },
    );
}

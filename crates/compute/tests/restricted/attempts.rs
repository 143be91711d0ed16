//! What a restricted process must not do fails, in every thread, and costs it nothing else; what its devices need works.

use hdv_vfio_user::client::Client;

use crate::played::{Restricted, alone, read32, write32};
use crate::process::{BELL, DOORBELLS, OUTCOME};
use crate::tries::{DENIED, NEEDED};

/// The error with which something by its number failed, 0 if it did not.
fn outcome(client: &mut Client, number: u32) -> i32 {
    write32(client, OUTCOME, number);
    read32(client, 0, OUTCOME).cast_signed()
}

#[test]
fn what_is_denied_is_an_error_and_no_end() {
    alone("attempts::what_is_denied_is_an_error_and_no_end", || {
        let restricted = Restricted::start(&[1]);
        let mut client = restricted.connect(1);
        for (number, (what, _)) in (0..).zip(DENIED) {
            assert_eq!(outcome(&mut client, number), libc::EPERM, "{what}");
        }
        assert_eq!(read32(&mut client, 0, BELL), 0, "it lives");
    });
}

#[test]
fn what_devices_need_goes_on() {
    alone("attempts::what_devices_need_goes_on", || {
        let restricted = Restricted::start(&[1]);
        let mut client = restricted.connect(1);
        let first = u32::try_from(DENIED.len()).unwrap();
        for (number, (what, _)) in (first..).zip(NEEDED) {
            assert_eq!(outcome(&mut client, number), 0, "{what}");
        }
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

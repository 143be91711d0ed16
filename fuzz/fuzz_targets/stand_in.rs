//! Any ledger of a session that is gone, and any messages after it: whoever goes on with the connection says whole replies, and
//! comes to its end when the client leaves.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use hdv_vfio_user::server::{Ledger, Left, StandIn};
use hdv_vfio_user::wire::{HEADER_SIZE, Header, Kind};
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

/// Of which 40 bytes belong to an incomplete message, and 64 to what comes before the commands.
const LEDGER: usize = 256;
/// The bit of the state that says that there is something to go on with.
const AGREED: usize = 4;

fuzz_target!(|data: &[u8]| {
    let (ledger, messages) = data.split_at(data.len().min(LEDGER));
    let mut ledger = ledger.to_vec();
    ledger.resize(LEDGER, 0);
    ledger[AGREED] |= 1;
    let file = Ledger::file().expect("a file");
    rustix::io::pwrite(&file, &ledger, 0).expect("written");
    let left = Left::read(file.as_fd()).expect("read");
    let (mut client, theirs) = UnixStream::pair().expect("a pair");
    std::thread::scope(|scope| {
        let standing = scope.spawn(|| StandIn::run(theirs, left));
        let sent = client.try_clone().expect("a descriptor");
        scope.spawn(move || {
            // Who breaks framing is hung up on.
            let _ = (&sent).write_all(messages);
            let _ = sent.shutdown(Shutdown::Write);
        });
        let mut header = [0; HEADER_SIZE];
        while client.read_exact(&mut header).is_ok() {
            let header = Header::read_from_bytes(&header).expect("16 bytes");
            assert_eq!(header.kind(), Kind::Reply);
            let body = u64::from(header.message_size) - HEADER_SIZE as u64;
            let read = std::io::copy(&mut (&client).take(body), &mut std::io::sink());
            assert_eq!(read.ok(), Some(body), "a whole reply");
        }
        let _ = standing.join().expect("no panic");
    });
});

//! Every payload of the vfio-user wire format from any bytes, and the framing of a stream cut
//! anywhere.

#![no_main]

use hdv_vfio_user::capabilities::Capabilities;
use hdv_vfio_user::limits::MAX_MESSAGE_SIZE;
use hdv_vfio_user::stream::Assembler;
use hdv_vfio_user::wire::{self, Command};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(capabilities) = Capabilities::parse(bytes) {
        let again = Capabilities::parse(&capabilities.to_text());
        assert_eq!(again.expect("what we write can be read"), capabilities);
        assert!(capabilities.data_transfer() > 0);
    }
    if let Some(entries) = wire::write_entries(bytes) {
        assert_eq!(8 + entries.len() * 24, bytes.len());
    }
    if let Some(areas) = wire::sparse_areas(bytes) {
        assert!(areas.len() * 16 <= bytes.len() * bytes.len());
    }
    let _ = wire::parse_prefix::<wire::DmaMap>(bytes);
    let _ = wire::parse_prefix::<wire::IrqSet>(bytes);
    let _ = wire::parse_prefix::<wire::IoFdEntry>(bytes);

    // The first byte says how the rest is cut.
    let Some((cut, stream)) = bytes.split_first() else {
        return;
    };
    let mut assembler = Assembler::new(MAX_MESSAGE_SIZE);
    let mut taken = 0;
    let mut rest = stream;
    while !rest.is_empty() {
        let space = assembler.space();
        let count = space.len().min(rest.len()).min(usize::from(*cut) + 1);
        assert!(count > 0, "there is always space");
        space[..count].copy_from_slice(&rest[..count]);
        assembler.filled(count, Vec::new(), false);
        rest = &rest[count..];
        loop {
            match assembler.next() {
                Ok(Some(header)) => {
                    let body = assembler.body();
                    assert_eq!(
                        body,
                        &stream[taken + 16..taken + header.message_size as usize],
                        "the bytes of the message"
                    );
                    let _ = (header.kind(), header.reported_error());
                    let _ = Command::from_number(header.command);
                    taken += header.message_size as usize;
                    assembler.consume();
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});

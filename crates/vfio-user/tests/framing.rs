//! However a stream is cut, the same messages come out, with the same descriptors.

mod common;

use std::os::fd::AsFd;

use common::{eventfd, same_eventfd};
use hdv_vfio_user::limits;
use hdv_vfio_user::stream::Assembler;
use hdv_vfio_user::wire::{Command, HEADER_SIZE, Header};
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::IntoBytes;

/// Takes out every whole message.
fn take(assembler: &mut Assembler, messages: &mut Vec<(Header, Vec<u8>)>) {
    while let Some(header) = assembler.next().expect("possible sizes") {
        messages.push((header, assembler.body().to_vec()));
        assembler.consume();
    }
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_messages(
        sizes in vec(0_usize..6000, 1..20),
        cuts in vec(1_usize..5000, 1..50),
    ) {
        let expected: Vec<_> = (0_u16..)
            .zip(&sizes)
            .map(|(id, size)| {
                let body: Vec<u8> = id.to_ne_bytes().into_iter().cycle().take(*size).collect();
                (Header::command(id, Command::RegionWrite, *size), body)
            })
            .collect();
        let stream: Vec<u8> = expected
            .iter()
            .flat_map(|(header, body)| [header.as_bytes(), body].concat())
            .collect();
        let mut assembler = Assembler::new(limits::MAX_MESSAGE_SIZE);
        let mut messages = Vec::new();
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let space = assembler.space();
            prop_assert!(!space.is_empty());
            let count = space.len().min(rest.len()).min(*cuts.next().expect("endless"));
            space[..count].copy_from_slice(&rest[..count]);
            assembler.filled(count, Vec::new(), false);
            rest = &rest[count..];
            take(&mut assembler, &mut messages);
        }
        prop_assert_eq!(messages, expected);
        prop_assert!(!assembler.holds_bytes());
        assembler.space();
        prop_assert_eq!(assembler.capacity(), limits::RESTING_BUFFER);
    }

    /// The sender puts each message in a send of its own, some with a descriptor; the kernel
    /// gives as many bytes as there is room for, but ends a receive after bytes that carried
    /// descriptors.
    #[test]
    fn descriptors_stay_with_their_message(
        plan in vec((0_usize..300, any::<bool>()), 1..30),
        limits_of_receives in vec(1_usize..800, 1..20),
    ) {
        let sent: Vec<_> = (0_u16..)
            .zip(&plan)
            .map(|(id, (size, with))| {
                let header = Header::command(id, Command::DmaMap, *size);
                let bytes = [header.as_bytes(), &vec![0; *size][..]].concat();
                (bytes, with.then(eventfd))
            })
            .collect();
        let mut assembler = Assembler::new(limits::MAX_MESSAGE_SIZE);
        let mut arrived = Vec::new();
        let mut receives = limits_of_receives.iter().cycle();
        let (mut chunk, mut position) = (0, 0);
        while chunk < sent.len() {
            let limit = *receives.next().expect("endless");
            let space = assembler.space();
            let room = space.len().min(limit);
            let mut count = 0;
            let mut fds = Vec::new();
            while chunk < sent.len() && count < room {
                let (bytes, fd) = &sent[chunk];
                let part = (bytes.len() - position).min(room - count);
                space[count..][..part].copy_from_slice(&bytes[position..][..part]);
                count += part;
                let carried = fd.as_ref().filter(|_| position == 0);
                fds.extend(carried.map(|fd| fd.try_clone().expect("cloned")));
                position += part;
                if position == bytes.len() {
                    (chunk, position) = (chunk + 1, 0);
                }
                if !fds.is_empty() {
                    break;
                }
            }
            assembler.filled(count, fds, false);
            while let Some(header) = assembler.next().expect("possible sizes") {
                arrived.push((header.message_id, assembler.take_descriptors()));
                assembler.consume();
            }
        }
        prop_assert_eq!(arrived.len(), sent.len());
        for ((_, descriptors), (_, fd)) in arrived.into_iter().zip(&sent) {
            let descriptors = descriptors.into_vec();
            match fd {
                None => prop_assert!(descriptors.is_empty()),
                Some(fd) => {
                    prop_assert_eq!(descriptors.len(), 1);
                    prop_assert!(same_eventfd(fd.as_fd(), &descriptors[0]));
                }
            }
        }
    }

    #[test]
    fn headers_survive_the_wire(bytes in any::<[u8; HEADER_SIZE]>()) {
        use zerocopy::FromBytes;
        let header = Header::read_from_bytes(&bytes).expect("16 bytes");
        prop_assert_eq!(header.as_bytes(), bytes);
        // Whatever the flags and the error say, there is an answer.
        let _ = (header.kind(), header.no_reply(), header.reported_error());
    }
}

#[test]
fn a_large_message_grows_the_buffer_for_as_long_as_it_is_held() {
    let mut assembler = Assembler::new(limits::MAX_MESSAGE_SIZE);
    assert_eq!(assembler.capacity(), 0, "nothing before there is need");
    let size = limits::MAX_DATA_TRANSFER;
    let header = Header::command(0, Command::RegionWrite, size);
    let stream = [header.as_bytes(), &vec![3; size]].concat();
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let space = assembler.space();
        let count = space.len().min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        assembler.filled(count, Vec::new(), false);
        rest = &rest[count..];
    }
    assert_eq!(assembler.next(), Ok(Some(header)));
    assert!(assembler.body().iter().all(|byte| *byte == 3));
    assembler.consume();
    assembler.space();
    assert_eq!(assembler.capacity(), limits::RESTING_BUFFER);
}

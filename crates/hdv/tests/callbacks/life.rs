//! The order of calls, failures at each step, and what a reset is to a device that has no word for it.

use hdv::{BarIndex, HostError};
use hdv_vfio_user::Errno;

use crate::device::{CODE, Called, Script, Step, serve, try_serve};
use crate::support::{BAR0, CONFIG, connect_vectors, enable, host, read32, wait_for, write32};

const MSIX: u32 = hdv_vfio_user::vfio::irq::MSIX;

fn powered_on() -> Vec<Called> {
    vec![
        Called::Initialize,
        Called::SetConfiguration(vec![]),
        Called::GetDetails,
    ]
}

#[test]
fn the_order_of_a_life() {
    let script = Script::capable();
    let served = serve(&script);
    assert_eq!(script.taken(), powered_on());
    let mut client = served.connect();
    assert_eq!(script.taken(), [], "not started by a connection");
    client.device_info().unwrap();
    let calls = script.taken();
    assert_eq!(calls[0], Called::Start);
    assert!(calls.len() > 1, "config reads come after it");
    assert!(
        calls[1..]
            .iter()
            .all(|call| matches!(call, Called::ConfigRead(_))),
        "{calls:?}"
    );
    read32(&mut client, CONFIG, 0x50);
    assert_eq!(script.taken(), [Called::ConfigRead(0x50)], "walked once");
    drop(client);
    wait_for("the reset", || {
        script.inside(|inside| {
            inside
                .calls
                .contains(&Called::ConfigWrite(0x50, 0x0003_6011))
        })
    });
    let mut expected = vec![Called::Stop];
    expected.extend(cleared());
    assert_eq!(script.taken(), expected);

    let mut client = served.connect();
    client.device_info().unwrap();
    assert_eq!(script.taken(), [Called::Start], "learned before");
    drop(served);
    assert_eq!(script.life(), [Called::Stop, Called::Teardown]);
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
}

/// What a reset writes to [`Script::capable`], and reads to write it.
fn cleared() -> Vec<Called> {
    let mut calls: Vec<_> = (0x04..=0x24)
        .step_by(4)
        .filter(|offset| !matches!(offset, 0x08 | 0x0c))
        .map(|offset| Called::ConfigWrite(offset, 0))
        .collect();
    calls.extend([
        Called::ConfigRead(0xa0),
        Called::ConfigWrite(0xa0, 0x0184_0005),
        Called::ConfigRead(0x50),
        Called::ConfigWrite(0x50, 0x0003_6011),
    ]);
    calls
}

#[test]
fn configuration_reaches_the_device() {
    let script = Script::new();
    let mut function = script.function();
    function.power_on(&["one".into(), String::new()]).unwrap();
    let values = vec!["one".to_owned(), String::new()];
    assert_eq!(script.taken()[1], Called::SetConfiguration(values));
}

#[test]
fn a_failure_ends_the_sequence_with_its_code() {
    let steps = [Step::Initialize, Step::SetConfiguration, Step::GetDetails];
    for (at, step) in steps.into_iter().enumerate() {
        let script = Script::new().failing(step);
        let Err(HostError::Device(error)) = try_serve(&script).map(drop) else {
            panic!("{step:?} failed");
        };
        assert_eq!(error.code(), Some(CODE));
        let mut expected = powered_on()[..=at].to_vec();
        expected.push(Called::Teardown);
        assert_eq!(script.taken(), expected);
    }
}

#[test]
fn a_declaration_that_cannot_be_is_an_invalid_argument() {
    let script = Script::new();
    script.inside(|inside| inside.probed_bars[2] = 0xffff_ff01);
    let Err(HostError::Device(error)) = try_serve(&script).map(drop) else {
        panic!("an I/O BAR");
    };
    assert_eq!(error.code(), Some(0x8007_0057_u32.cast_signed()));
    assert!(error.to_string().contains("ProbedBars[2] = 0xffffff01"));
    assert_eq!(script.life().last(), Some(&Called::Teardown));

    let script = Script::new();
    script.inside(|inside| inside.vendor_id = 0xffff);
    let Err(HostError::Device(error)) = try_serve(&script).map(drop) else {
        panic!("no vendor");
    };
    assert_eq!(error.code(), Some(0x8007_0057_u32.cast_signed()));
    assert!(error.to_string().contains("0xffff"), "{error}");
}

#[test]
fn a_device_that_was_never_powered_on_is_only_torn_down() {
    let script = Script::new();
    let ids = hdv::DeviceIds {
        class_id: hdv::Uuid::from_u128(1),
        instance_id: hdv::Uuid::from_u128(2),
    };
    let host = host();
    let instance = host.create_device(ids, script.function()).unwrap();
    drop((instance, host));
    assert_eq!(script.taken(), [Called::Teardown]);
}

#[test]
fn a_client_that_only_connects_changes_nothing() {
    let script = Script::capable();
    let served = serve(&script);
    script.taken();
    drop(served.connect());
    wait_for("the client to be gone", || {
        served.host.devices()[0].client.is_none()
    });
    drop(served);
    assert_eq!(script.taken(), [Called::Teardown]);
}

#[test]
fn a_start_that_fails_ends_the_connection_and_is_tried_for_the_next() {
    let script = Script::capable().failing(Step::Start);
    let served = serve(&script);
    script.taken();
    let mut client = served.connect();
    let error = client.device_info().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::IO));
    assert_eq!(script.taken(), [Called::Start]);
    drop(client);
    script.inside(|inside| inside.fails.clear());
    let mut client = served.connect();
    assert_eq!(read32(&mut client, CONFIG, 0), 0x1234_4f48);
    assert_eq!(script.life(), [Called::Start]);
}

#[test]
fn a_reset_is_a_stop_cleared_enables_and_a_start() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    read32(&mut client, CONFIG, 0);
    script.taken();

    client.reset().unwrap();
    assert_eq!(script.taken(), [], "never used: the host's registers only");

    enable(&mut client);
    write32(&mut client, CONFIG, 0x10, 0xfebf_0000);
    let _events = connect_vectors(&mut client, MSIX, 1, 1);
    script.taken();
    client.reset().unwrap();
    let mut expected = vec![Called::Stop];
    expected.extend(cleared());
    expected.push(Called::Start);
    let word = |value: u32| value.to_le_bytes().to_vec();
    expected.extend([
        Called::Write(BarIndex::BAR0, 0x810, word(0xfee0_0000)),
        Called::Write(BarIndex::BAR0, 0x814, word(0)),
        Called::Write(BarIndex::BAR0, 0x818, word(1)),
        Called::Write(BarIndex::BAR0, 0x81c, word(0)),
    ]);
    assert_eq!(script.taken(), expected);
    assert_eq!(read32(&mut client, CONFIG, 0x04) & 0xffff, 0);
    assert_eq!(read32(&mut client, CONFIG, 0x10), 0);
}

#[test]
fn a_device_that_refuses_to_start_after_a_reset_is_all_ones_until_the_next_client() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    enable(&mut client);
    script.inside(|inside| inside.fails.push(Step::Start));
    client.reset().unwrap();
    script.taken();
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
    assert_eq!(read32(&mut client, CONFIG, 0x3c), 0xffff_00ff, "no pin");
    assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
    write32(&mut client, CONFIG, 0x04, 6);
    write32(&mut client, BAR0, 0, 1);
    assert_eq!(script.taken(), []);
    drop(client);
    wait_for("the client to be gone", || {
        served.host.devices()[0].client.is_none()
    });
    assert_eq!(script.life(), [], "it was not started");
    script.inside(|inside| inside.fails.clear());
    let mut client = served.connect();
    assert_eq!(read32(&mut client, CONFIG, 0), 0x1234_4f48);
    assert_eq!(script.life(), [Called::Start]);
    drop(served);
    assert_eq!(
        script.life(),
        [Called::Start, Called::Stop, Called::Teardown]
    );
}

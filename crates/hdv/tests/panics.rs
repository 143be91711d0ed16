//! Devices that panic, in every call: the process, other devices and later clients live on.

mod support;

use hdv::{HostError, TestBench};
use hdv_vfio_user::vfio;
use support::*;

/// A client meets the device; nothing may fail but the start.
fn meet(served: &Served) {
    let mut client = served.connect();
    enable(&mut client);
    assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
    assert_eq!(read::<7>(&mut client, BAR0, 0x101), [0xff; 7]);
    write32(&mut client, BAR0, 0, 1);
    client.dma_map(0, 0x1000, READ_WRITE, None).expect("taken");
    client.dma_unmap(0, 0x1000).expect("taken");
    connect_vectors(&mut client, vfio::irq::MSIX, 0, 4);
    client.reset().expect("acknowledged");
}

#[test]
fn a_panic_makes_a_stub_and_nothing_else() {
    let other = serve(Recorder::default());
    let mut others_client = other.connect();
    for call in [
        Call::Start,
        Call::Stop,
        Call::Reset,
        read_of(0x20, 4),
        write_of(0x20, 4, 1),
    ] {
        let served = serve(Recorder::panicking(call));
        let mut client = served.connect();
        enable(&mut client);
        if call == read_of(0x20, 4) {
            // Of a longer access nothing of before the panic is shown.
            assert_eq!(read::<8>(&mut client, BAR0, 0x1c), [0xff; 8]);
        }
        write32(&mut client, BAR0, 0x20, 1);
        if call == Call::Reset {
            client.reset().unwrap();
        }
        drop(client);
        let failed = || served.host.devices()[0].state == "failed";
        wait_for("failure", failed);
        for _ in 0..2 {
            meet(&served);
        }
        let record = served.record.clone();
        record.forget();
        drop(served);
        assert_eq!(
            record.calls(),
            [Call::Teardown, Call::Drop],
            "after {call:?}"
        );
        assert_eq!(read32(&mut others_client, CONFIG, 0), 0x7ffe_4f48);
    }
}

#[test]
fn a_panic_at_the_end_is_the_end_all_the_same() {
    for call in [Call::Teardown, Call::Drop] {
        let served = serve(Recorder::panicking(call));
        let mut client = served.connect();
        enable(&mut client);
        served.host.remove(served.id).unwrap();
        assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
        assert!(!served.socket.exists());
        assert_eq!(served.record.count(Call::Teardown), 1);
        assert_eq!(served.record.count(Call::Drop), 1);
    }
}

#[test]
fn a_panic_at_the_beginning_is_an_error_and_torn_down() {
    for call in [Call::ConfigSpace, Call::Initialize] {
        for end in [None, Some(Call::Teardown), Some(Call::Drop)] {
            let host = host();
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("s");
            let device = || {
                Recorder::with(|device| {
                    device.panics.push(call);
                    device.panics.extend(end);
                })
            };
            let served = device();
            let record = served.record.clone();
            let error = host.serve(&socket, "x", served).unwrap_err();
            assert!(matches!(error, HostError::Device(_)), "{error}");
            assert!(error.to_string().contains("panicked"), "{error}");
            assert_eq!(record.count(Call::Teardown), 1);
            assert_eq!(record.count(Call::Drop), 1);
            assert!(!socket.exists());
            let bench = TestBench::new(device());
            assert!(matches!(bench.unwrap_err(), HostError::Device(_)));
        }
    }
}

/// A panic's payload that panics when it is dropped.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("again");
    }
}

struct PanicsNastily;

impl hdv::PciDevice for PanicsNastily {
    fn config_space(&self) -> Result<hdv::ConfigSpace, hdv::ConfigError> {
        Recorder::default().config_space()
    }

    fn read(&mut self, _: hdv::BarAccess) -> u64 {
        std::panic::panic_any(Nasty)
    }

    fn write(&mut self, _: hdv::BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

#[test]
fn a_payload_that_panics_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let host = host();
    host.serve(&socket, "nasty", PanicsNastily).unwrap();
    for _ in 0..2 {
        let mut client = connect(&socket);
        assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
    }
}

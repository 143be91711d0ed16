//! What a device may ask of its own VM from inside a call into it, and what not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hdv::{
    Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceContext, DeviceError,
    DeviceIds, Identity, PciDevice,
};
use hdv_compute::document::State;
use hdv_compute::{ComputeSystem, Error, codes};

use super::support::*;

type Inside = Arc<dyn Fn() + Send + Sync>;

/// Calls a closure from inside a call into it.
struct Asker {
    initialize: Inside,
    stop: Inside,
}

impl PciDevice for Asker {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffd,
            revision_id: 1,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory32(4096))
            .build()
    }

    fn initialize(&mut self, _: DeviceContext) -> Result<(), DeviceError> {
        (self.initialize)();
        Ok(())
    }

    fn stop(&mut self) {
        (self.stop)();
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

fn announce(host: &Host, number: u128, initialize: Inside, stop: Inside) {
    let function = hdv::pci_function(Box::new(Asker { initialize, stop })).unwrap();
    let ids = DeviceIds {
        class_id: CLASS,
        instance_id: instance(number),
    };
    let device = host.host.create_device(ids, function).unwrap();
    host.host.announce(device.id()).unwrap();
}

/// What waits for the calling device is refused at once; what does not is answered.
fn ask(system: &ComputeSystem, seen: State) {
    assert!(system.inside_call());
    let refused = [
        system.start(),
        system.pause(),
        system.resume(),
        system.modify(&request("Remove", 1)),
        // Another one of the same host.
        system.modify(&request("Remove", 2)),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::InsideCall { .. }), "{error}");
        assert_eq!(error.code(), codes::POSSIBLE_DEADLOCK);
    }
    assert_eq!(state(system), seen);
    // Another handle is of the same system.
    let other = ComputeSystem::open("test").unwrap();
    assert_eq!(other.pause().unwrap_err().code(), codes::POSSIBLE_DEADLOCK);
}

/// The first time. A panic in a call costs the device only: whether there was none is noted, and looked at by the test.
fn noted(asked: &Arc<Mutex<Vec<bool>>>, ask: impl Fn() + Send + Sync + 'static) -> Inside {
    let asked = Arc::clone(asked);
    let is_first = AtomicBool::new(true);
    Arc::new(move || {
        if !is_first.swap(false, Ordering::SeqCst) {
            return;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&ask));
        lock(&asked).push(result.is_ok());
    })
}

#[test]
fn what_would_wait_for_the_device_itself_is_refused_inside_its_calls() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let second = host.device(2);
        let asked = Arc::default();
        let (starting, stopping) = (system.clone(), system.clone());
        let initialize = noted(&asked, move || ask(&starting, State::Created));
        let stop = noted(&asked, move || ask(&stopping, State::Running));
        announce(&host, 1, initialize, stop);
        system.start().unwrap();
        assert_eq!(*lock(&asked), [true]);
        system.modify(&request("Add", 2)).unwrap();
        assert_eq!(second.count(Call::Start), 1);
        assert!(!system.inside_call());
        system.pause().unwrap();
        assert_eq!(*lock(&asked), [true, true]);
        system.resume().unwrap();
    });
}

#[test]
fn a_device_adds_another_while_it_is_added_itself() {
    alone(|| {
        let system = create(&document([]));
        let host = Host::attach(&system);
        let second = host.device(2);
        system.start().unwrap();
        let asked = Arc::default();
        let adding = system.clone();
        let initialize = noted(&asked, move || {
            let system = adding.clone();
            let added = std::thread::spawn(move || system.modify(&request("Add", 2)));
            added.join().unwrap().unwrap();
        });
        announce(&host, 1, initialize, Arc::new(|| ()));
        system.modify(&request("Add", 1)).unwrap();
        assert_eq!(*lock(&asked), [true]);
        assert_eq!(second.count(Call::Start), 1);
    });
}

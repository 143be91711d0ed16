//! VFs as devices of their own, over real sockets: they come and go, together and whatever happens to one.

mod support;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hdv::{Bar, DeviceError, DeviceState};
use hdv_sriov::{
    EmulatedPf, EnableVirtualization, NtStatus, PciVirtualization, PfOptions,
    VirtualizationError as Error,
};
use hdv_vfio_user::client::Client;
use hdv_vfio_user::{DmaFlags, vfio};
use rustix::event::{EventfdFlags, eventfd};
use support::*;

const MEMORY: u64 = 0x10_0000;

fn enable(pf: &EmulatedPf, num_vfs: u16) {
    pf.enable_virtualization(EnableVirtualization::enable(num_vfs))
        .expect("enabled");
}

fn disable(pf: &EmulatedPf) {
    pf.enable_virtualization(EnableVirtualization::disable())
        .expect("disabled");
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd")
}

fn taken(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

/// Gives a client guest memory that begins with `word`.
fn give_memory(client: &mut Client, word: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    rustix::fs::ftruncate(&file, 4096).expect("sized");
    rustix::io::pwrite(&file, &word.to_le_bytes(), 0).expect("written");
    client
        .dma_map(
            MEMORY,
            4096,
            DmaFlags::READ | DmaFlags::WRITE,
            Some((file.as_fd(), 0)),
        )
        .expect("mapped");
    file
}

#[test]
fn each_vf_has_its_own_memory_interrupts_and_registers() {
    let served = served();
    enable(&served.pf, 3);
    let mut guests: Vec<_> = (0..3)
        .map(|vf| {
            let mut client = served.connect_vf(vf);
            let memory = give_memory(&mut client, 0x1000 + u64::from(vf));
            let events = [event(), event()];
            let borrowed = [events[0].as_fd(), events[1].as_fd()];
            client
                .set_irq_event_fds(vfio::irq::MSIX, 0, &borrowed)
                .expect("taken");
            (client, memory, events)
        })
        .collect();
    for (vf, (client, _, _)) in (0..).zip(&mut guests) {
        assert_eq!(read(client, CONFIG, 0), [0x48, 0x4f, 0x02, 0x70]);
        write64(client, FETCH, MEMORY);
        assert_eq!(read64(client, PLAIN), 0x1000 + vf);
    }
    write64(&mut guests[1].0, SIGNAL, 1);
    let counts: Vec<_> = guests
        .iter()
        .map(|(_, _, events)| [taken(&events[0]), taken(&events[1])])
        .collect();
    assert_eq!(counts, [[0, 0], [0, 1], [0, 0]]);
    // In use, so that the device itself is reset too.
    guests[2].0.region_write(CONFIG, 4, &[6]).unwrap();
    guests[2].0.reset().unwrap();
    let words: Vec<_> = guests
        .iter_mut()
        .map(|(client, _, _)| read64(client, PLAIN))
        .collect();
    assert_eq!(words, [0x1000, 0x1001, 0]);
    // One VM goes; the others notice nothing.
    drop(guests.remove(0));
    wait_for("reset", || served.lab.count((Vf(0), Reset)) > 0);
    assert_eq!(read64(&mut guests[0].0, PLAIN), 0x1001);
    assert_eq!(served.lab.count((Vf(1), Reset)), 0);
    assert_eq!(served.lab.count((Pf, Reset)), 0);
}

#[test]
fn vfs_in_use_are_taken_away_in_order() {
    let served = served();
    let pf = &served.pf;
    enable(pf, 4);
    assert!(
        !served
            .lab
            .log()
            .iter()
            .any(|one| one.1 == Initialize && one.0 != Pf)
    );
    let mut clients: Vec<_> = [2, 0, 1].map(|vf| served.connect_vf(vf)).into();
    for client in &mut clients {
        write64(client, PLAIN, 7);
    }
    let handles = pf.virtual_functions().all();
    served.lab.take();
    disable(pf);
    let mut expected = Vec::new();
    for vf in 0..4 {
        if vf < 3 {
            expected.push((Vf(vf), Stop));
        }
        expected.extend([(Vf(vf), Teardown), (Vf(vf), Dropped)]);
    }
    assert_eq!(served.lab.take(), expected);
    assert_eq!(served.sockets(), ["pf.sock"]);
    agree(pf);
    for handle in &handles {
        assert_eq!(handle.instance().state(), DeviceState::Gone);
    }
    // Their VMs keep stubs.
    for client in &mut clients {
        assert_eq!(read64(client, PLAIN), u64::MAX);
        write64(client, PLAIN, 7);
        let _memory = give_memory(client, 1);
        client.reset().unwrap();
    }
    // The next ones are others.
    enable(pf, 4);
    let mut fresh = served.connect_vf(0);
    assert_eq!(read64(&mut fresh, PLAIN), 0);
    assert_eq!(read64(&mut clients[1], PLAIN), u64::MAX);
    assert_eq!(served.lab.count((Vf(0), Create)), 1);
    drop((fresh, clients));
    disable(pf);
}

#[test]
fn as_many_as_256_in_one_call() {
    let served = serve(Author::total(&Lab::default(), 400), options());
    let pf = &served.pf;
    enable(pf, 256);
    assert_eq!(agree(pf).active_vfs(), 256);
    assert_eq!(served.sockets().len(), 257);
    let mut last = served.connect_vf(255);
    write64(&mut last, PLAIN, 5);
    assert_eq!(read64(&mut last, PLAIN), 5);
    let log = served.lab.take();
    let made: Vec<_> = log.iter().filter(|one| one.1 == Create).collect();
    assert!(made.is_sorted() && made.len() == 256);
    // None but the used one was powered on.
    let powered: Vec<_> = log.iter().filter(|one| one.1 == Initialize).collect();
    assert_eq!(powered, [&(Pf, Initialize), &(Vf(255), Initialize)]);
    disable(pf);
    let log = served.lab.take();
    let ends: Vec<_> = log.iter().filter(|one| one.1 == Teardown).collect();
    assert!(ends.is_sorted() && ends.len() == 256);
    assert_eq!(served.sockets(), ["pf.sock"]);
}

/// Every VF that was made was torn down once, then dropped.
fn all_ended(lab: &Lab) {
    let mut alive: HashMap<Who, (usize, usize)> = HashMap::new();
    for (who, event) in lab.log() {
        let (made, ended) = alive.entry(who).or_default();
        match event {
            Create => {
                assert_eq!(made, ended, "{who:?} is made while it is there");
                *made += 1;
            }
            Teardown if who != Pf => *ended += 1,
            _ => {}
        }
        assert!(*ended <= *made, "{who:?} ended twice");
    }
    assert!(alive.values().all(|(made, ended)| made == ended));
    let count = |event| {
        lab.log()
            .iter()
            .filter(|one| one.0 != Pf && one.1 == event)
            .count()
    };
    assert_eq!(count(Teardown), count(Dropped));
}

#[test]
fn anybody_may_ask_at_any_time() {
    let served = serve(Author::total(&Lab::default(), 32), options());
    let pf = &served.pf;
    let (enabled, disabled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let togglers: Vec<_> = (0..3_u16)
            .map(|worker| {
                let (enabled, disabled) = (&enabled, &disabled);
                scope.spawn(move || {
                    for turn in 0..25 {
                        let num_vfs = (turn * 7 + worker * 11) % 32 + 1;
                        match pf.enable_virtualization(EnableVirtualization::enable(num_vfs)) {
                            Ok(()) => enabled.fetch_add(1, Ordering::SeqCst),
                            Err(Error::AlreadyEnabled { .. }) => 0,
                            Err(error) => panic!("{error}"),
                        };
                        match pf.enable_virtualization(EnableVirtualization::disable()) {
                            Ok(()) => disabled.fetch_add(1, Ordering::SeqCst),
                            Err(Error::AlreadyDisabled) => 0,
                            Err(error) => panic!("{error}"),
                        };
                    }
                })
            })
            .collect();
        for worker in 0..2_u16 {
            let over = &over;
            scope.spawn(move || {
                let mut vf = worker;
                while !over.load(Ordering::SeqCst) {
                    vf = (vf + 1) % 32;
                    let location = pf.location(vf).expect("a place");
                    let low = location.routing_id.ari_function();
                    assert_eq!(u16::from(low), vf + 1);
                    let registers = pf.registers();
                    assert!(registers.vf_enable || registers.active_vfs() == 0);
                    let mut ids = [0; 4];
                    match pf.virtual_function_data(vf, 0, &mut ids) {
                        Ok(4) => assert_eq!(ids, [0xff; 4]),
                        Err(Error::NotEnabled { .. }) => {}
                        other => panic!("{other:?}"),
                    }
                    pf.renumber(5 + low % 2, 8).expect("room");
                    assert!(pf.captured_buses() >= 2);
                    for one in pf.virtual_functions().all() {
                        let _ = one.instance().state();
                    }
                }
            });
        }
        let ends: Vec<_> = togglers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::SeqCst);
        assert!(ends.iter().all(Result::is_ok));
    });
    let _ = pf.enable_virtualization(EnableVirtualization::disable());
    assert_eq!(agree(pf).active_vfs(), 0);
    assert!(enabled.load(Ordering::SeqCst) >= disabled.load(Ordering::SeqCst));
    all_ended(&served.lab);
    assert_eq!(served.sockets(), ["pf.sock"]);
}

#[test]
fn a_vf_that_cannot_be_made_leaves_nothing() {
    let served = served();
    let pf = &served.pf;
    served.lab.hook(|who, event| match (who, event) {
        (Vf(2), Create) => Err(DeviceError::new("no third one").with_code(0x1234)),
        _ => Ok(()),
    });
    let base = sriov_at(&dump(pf));
    pf.config_write(base + 0x10, &5_u16.to_le_bytes()).unwrap();
    let before = dump(pf);
    served.lab.take();
    for by_register in [false, true] {
        let error = if by_register {
            pf.config_write(base + 8, &[0x19]).unwrap_err()
        } else {
            pf.enable_virtualization(EnableVirtualization::enable(7))
                .unwrap_err()
        };
        assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
        let text = error.to_string();
        assert!(
            text.contains("VF 2") && text.contains("no third one"),
            "{text}"
        );
        let expected = [
            (Vf(0), Create),
            (Vf(1), Create),
            (Vf(2), Create),
            (Vf(0), Teardown),
            (Vf(0), Dropped),
            (Vf(1), Teardown),
            (Vf(1), Dropped),
        ];
        assert_eq!(served.lab.take(), expected);
        assert_eq!(served.sockets(), ["pf.sock"]);
        let mut after = dump(pf);
        if by_register {
            // VF MSE was written too.
            assert_eq!(after[usize::from(base) + 8], 0x18);
            after[usize::from(base) + 8] = 0x10;
        }
        assert_eq!(after, before);
        agree(pf);
    }
    served.lab.unhook();
    pf.config_write(base + 8, &[0x19]).unwrap();
    assert_eq!(agree(pf).active_vfs(), 5);
}

#[test]
fn a_socket_that_cannot_be_had_leaves_nothing() {
    let served = served();
    let in_the_way = served.vf_socket(3);
    std::fs::write(&in_the_way, "not a socket").unwrap();
    let error = served
        .pf
        .enable_virtualization(EnableVirtualization::enable(5))
        .unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(error.to_string().contains("pf-vf3.sock"), "{error}");
    assert_eq!(agree(&served.pf).num_vfs, 0);
    all_ended(&served.lab);
    assert_eq!(served.sockets(), ["pf-vf3.sock", "pf.sock"]);
    std::fs::remove_file(&in_the_way).unwrap();
    enable(&served.pf, 5);
}

#[test]
fn a_panic_while_vfs_are_made_leaves_nothing() {
    let served = served();
    let pf = &served.pf;
    served.lab.hook(|who, event| match (who, event) {
        (Vf(2), Create) => panic!("as the test wants"),
        _ => Ok(()),
    });
    let error = pf
        .enable_virtualization(EnableVirtualization::enable(4))
        .unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(error.to_string().contains("panicked"), "{error}");
    assert_eq!(served.lab.count((Vf(0), Teardown)), 1);
    assert_eq!(served.lab.count((Vf(1), Teardown)), 1);
    assert_eq!(pf.registers().active_vfs(), 0);
    assert!(matches!(
        pf.enable_virtualization(EnableVirtualization::enable(4)),
        Err(Error::Gone)
    ));
    served.host.remove(pf.instance().id()).unwrap();
    assert_eq!(served.lab.count((Pf, Teardown)), 1);
}

#[test]
fn vfs_are_what_their_pf_declares() {
    type Wrong = fn(&mut Device);
    let cases: [(Wrong, [&str; 2]); 5] = [
        (|vf| vf.identity.vendor_id = 0x1af4, ["0x1af4", "0x4f48"]),
        (|vf| vf.identity.device_id = 0x7777, ["0x7777", "0x7002"]),
        (
            |vf| vf.bar = Bar::memory64(0x4000),
            [
                "64-bit non-prefetchable of 0x4000",
                "64-bit prefetchable of 0x4000",
            ],
        ),
        (
            |vf| vf.bar = Bar::memory64(0x8000).prefetchable(),
            ["of 0x8000 bytes", "of 0x4000 bytes"],
        ),
        (
            |vf| vf.bar = Bar::memory32(0x4000).prefetchable(),
            ["32-bit prefetchable", "64-bit prefetchable"],
        ),
    ];
    for (wrong, named) in cases {
        let mut author = Author::new(&Lab::default());
        author.change = Some(Box::new(move |vf, device| {
            if vf == 1 {
                wrong(device);
            }
        }));
        let served = serve(author, options());
        let pf = &served.pf;
        let error = pf.enable_virtualization(EnableVirtualization::enable(2));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("VF 1"), "{text}");
        assert!(named.iter().all(|name| text.contains(name)), "{text}");
        assert_eq!(pf.virtual_functions().count(), 0);
        assert!(!pf.registers().vf_enable);
        enable(pf, 1);
        pf.virtual_function_data(0, 0, &mut [0; 4]).unwrap();
        disable(pf);
        all_ended(&served.lab);
    }
}

#[test]
fn a_pf_that_panics_keeps_its_vfs_for_their_vms() {
    let served = served();
    let pf = &served.pf;
    enable(pf, 2);
    let mut vf = served.connect_vf(1);
    write64(&mut vf, PLAIN, 9);
    served.lab.hook(|who, event| {
        assert!((who, event) != (Pf, Read), "as the test wants");
        Ok(())
    });
    let mut client = connect(&served.pf_socket());
    assert_eq!(read64(&mut client, PLAIN), u64::MAX);
    assert_eq!(pf.instance().state(), DeviceState::Failed);
    assert_eq!(read64(&mut vf, PLAIN), 9);
    for error in [
        pf.enable_virtualization(EnableVirtualization::disable())
            .err(),
        pf.location(99).err(),
        pf.virtual_function_data(0, 0, &mut [0; 4]).err(),
        pf.probed_bars().err(),
    ] {
        assert!(matches!(error, Some(Error::Gone)), "{error:?}");
    }
    assert_eq!(pf.captured_buses(), 0);
    served.host.remove(pf.instance().id()).unwrap();
    assert_eq!(read64(&mut vf, PLAIN), u64::MAX);
    all_ended(&served.lab);
    assert!(served.sockets().is_empty());
}

#[test]
fn calls_from_inside_are_refused_and_looking_is_not() {
    let served = served();
    let pf = served.pf.clone();
    enable(&pf, 2);
    let (inner, seen) = (pf.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&seen);
    served.lab.hook(move |_, event| {
        if event != Read {
            return Ok(());
        }
        let errors = [
            inner
                .enable_virtualization(EnableVirtualization::disable())
                .err(),
            inner.virtual_function_data(0, 0, &mut [0; 4]).err(),
            inner.virtual_function_data(1, 0, &mut [0; 4]).err(),
            inner.set_virtual_function_data(1, 0, &[0; 4]).err(),
            inner.config_read(0, &mut [0; 4]).err(),
            inner.config_write(0, &[0; 4]).err(),
            inner.reset().err(),
        ];
        for error in errors {
            let error = error.expect("refused");
            assert!(matches!(error, Error::InsideCall), "{error}");
            assert_eq!(error.status(), NtStatus::POSSIBLE_DEADLOCK);
        }
        // What waits for no device works, and parameters come first.
        let request = EnableVirtualization::enable(0);
        let error = inner.enable_virtualization(request).expect_err("no VFs");
        assert!(matches!(error, Error::NumVfs { .. }));
        assert_eq!(inner.location(1).expect("a place").segment, 2);
        assert_eq!(inner.captured_buses(), 1);
        assert!(inner.probed_bars().is_ok());
        assert_eq!(inner.registers().active_vfs(), 2);
        inner.renumber(5, 6).expect("the same");
        let all = inner.virtual_functions().all();
        assert_eq!(all.len(), 2);
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    for socket in [served.pf_socket(), served.vf_socket(0)] {
        let mut client = connect(&socket);
        assert_eq!(read64(&mut client, PLAIN), 0);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    served.lab.unhook();
    disable(&pf);
}

#[test]
fn calls_while_vfs_are_made_and_ended_wait_for_nothing() {
    let served = served();
    let (inner, seen) = (served.pf.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&seen);
    served.lab.hook(move |who, event| {
        if who != Pf && matches!(event, Create | Teardown) {
            // VF Enable is clear before the VFs are there and before they go.
            assert_eq!(inner.registers().active_vfs(), 0);
            assert_eq!(inner.virtual_functions().count(), 0);
            let error = inner.enable_virtualization(EnableVirtualization::enable(1));
            assert!(matches!(error, Err(Error::InsideCall)));
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    enable(&served.pf, 3);
    disable(&served.pf);
    assert_eq!(seen.load(Ordering::SeqCst), 6);
}

#[test]
fn two_pfs_of_one_host_know_nothing_of_each_other() {
    let first = served();
    let lab = Lab::default();
    let socket = first.directory.path().join("other.sock");
    let author = Box::new(Author::total(&lab, 100));
    let second = EmulatedPf::serve(&first.host, socket, "other", author, options()).unwrap();
    enable(&second, 40);
    enable(&first.pf, 2);
    assert_eq!(first.host.device_ids().len(), 44);
    second.renumber(0x30, 0x30).unwrap();
    assert_eq!(first.pf.captured_buses(), 1);
    first.host.remove(first.pf.instance().id()).unwrap();
    assert_eq!(first.host.device_ids().len(), 41);
    assert_eq!(agree(&second).active_vfs(), 40);
    let mut client = connect(&first.directory.path().join("other-vf39.sock"));
    write64(&mut client, PLAIN, 4);
    disable(&second);
    assert_eq!(read64(&mut client, PLAIN), u64::MAX);
    all_ended(&lab);
    all_ended(&first.lab);
}

#[test]
fn the_author_sees_its_vfs() {
    let author = Author::new(&Lab::default());
    let seen = Arc::clone(&author.seen);
    let served = serve(author, options());
    let own = lock(&seen).clone().expect("attached");
    assert_eq!(own.count(), 0);
    enable(&served.pf, 3);
    assert_eq!(own.count(), 3);
    let ids: Vec<_> = own.all().iter().map(|vf| vf.instance().id()).collect();
    assert!(ids.is_sorted());
    assert_eq!(own.get(2).unwrap().instance().id(), ids[2]);
    assert!(own.get(3).is_none());
    disable(&served.pf);
    assert_eq!(own.count(), 0);
}

#[test]
fn on_a_bench() {
    let lab = Lab::default();
    let author = Author::new(&lab);
    let (bench, pf) = EmulatedPf::on_bench(Box::new(author), PfOptions::new(placement())).unwrap();
    assert!(bench.brought(0).unwrap().is_none());
    enable(&pf, 2);
    let mut vf = bench.brought(1).unwrap().expect("enabled");
    vf.write(hdv::BarIndex::BAR0, PLAIN, 6_u64);
    assert_eq!(vf.read::<u64>(hdv::BarIndex::BAR0, PLAIN), 6);
    assert_eq!(vf.config_read::<u32>(0), 0x7002_4f48);
    disable(&pf);
    assert_eq!(vf.read::<u64>(hdv::BarIndex::BAR0, PLAIN), u64::MAX);
    assert!(bench.brought(1).unwrap().is_none());
    enable(&pf, 3);
    drop(bench);
    assert!(matches!(pf.location(0), Err(Error::Gone)));
    drop((vf, pf));
    all_ended(&lab);
    assert_eq!(lab.count((Pf, Teardown)), 1);
    assert_eq!(lab.count((Pf, Dropped)), 1);
}

#[test]
fn everything_may_be_dropped_in_any_order() {
    // Which of host, handle, VF handles, clients goes when.
    let orders = [
        [0, 1, 2, 3],
        [0, 2, 1, 3],
        [1, 0, 3, 2],
        [1, 2, 3, 0],
        [2, 3, 0, 1],
        [3, 0, 1, 2],
        [3, 1, 2, 0],
        [3, 2, 1, 0],
        [2, 0, 1, 3],
        [1, 3, 0, 2],
    ];
    for order in orders {
        let Served {
            pf,
            lab,
            host,
            directory,
        } = served();
        enable(&pf, 3);
        let handles = (pf.virtual_functions(), pf.virtual_functions().all());
        let clients: Vec<_> = [0, 2]
            .map(|vf| {
                let mut client = connect(&directory.path().join(format!("pf-vf{vf}.sock")));
                write64(&mut client, PLAIN, 1);
                client
            })
            .into();
        let (mut host, mut pf) = (Some(host), Some(pf));
        let (mut handles, mut clients) = (Some(handles), Some(clients));
        for what in order {
            match what {
                0 => drop(host.take()),
                1 => drop(pf.take()),
                2 => drop(handles.take()),
                _ => drop(clients.take()),
            }
        }
        all_ended(&lab);
        assert_eq!(lab.count((Pf, Teardown)), 1);
        assert_eq!(lab.count((Pf, Dropped)), 1);
    }
}

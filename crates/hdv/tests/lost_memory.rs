//! Guest memory files that shrink: that costs the one device its VM's memory, the process nothing. And a
//! SIGBUS that is not ours does what it would have done.

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hdv::{BarIndex, GuestAddress, GuestMemory, MemoryError, Section, SectionFlags};
use hdv_vfio_user::client::Client;
use support::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000;
const SIGBUS: i32 = libc::SIGBUS;

fn with_memory(served: &Served) -> (Client, OwnedFd, GuestMemory) {
    let mut client = served.connect();
    let file = memfd(16 * PAGE);
    let memory = served.record.context().memory;
    client
        .dma_map(BASE, 16 * PAGE, READ_WRITE, Some((file.as_fd(), 0)))
        .unwrap();
    enable(&mut client);
    (client, file, memory)
}

fn shrink(file: &OwnedFd, pages: u64) {
    rustix::fs::ftruncate(file, pages * PAGE).unwrap();
}

const FAR: GuestAddress = GuestAddress(BASE + 8 * PAGE);

#[test]
fn a_device_whose_memory_shrinks_is_stopped_and_others_go_on() {
    let (served, other) = (serve(Recorder::default()), serve(Recorder::default()));
    let (mut client, file, memory) = with_memory(&served);
    let (mut other_client, _other_file, other_memory) = with_memory(&other);
    write32(&mut client, BAR0, 0, 7);
    write32(&mut other_client, BAR0, 0, 7);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A thread of the device's own, which copies and looks through an aperture.
        let device = scope.spawn(|| {
            let aperture = memory.aperture(GuestAddress(BASE), 16 * 4096, false);
            let aperture = aperture.unwrap();
            let mut data = vec![0; 16 * 4096];
            let mut error = None;
            while error.is_none() {
                error = memory.read(GuestAddress(BASE), &mut data).err();
                aperture.as_volatile_slice().copy_to(&mut data[..]);
                error = error.or(memory.write(GuestAddress(BASE), &data).err());
            }
            // It goes on as if nothing were: it cannot know yet.
            while !stop.load(Ordering::SeqCst) {
                aperture.as_volatile_slice().copy_from(&data[..]);
                assert!(memory.read(FAR, &mut data[..8]).is_err());
            }
            error
        });
        let other_device = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                other_memory.store(FAR, 5_u32).unwrap();
                assert_eq!(other_memory.load::<u32>(FAR), Ok(5));
            }
        });
        for _ in 0..100 {
            assert_eq!(read32(&mut client, BAR0, 0), 7);
        }
        shrink(&file, 3);
        // The VMM sees a stub, as soon as the device has met the end.
        wait_for("the stub", || read32(&mut client, BAR0, 0) == u32::MAX);
        let calls = served.record.calls().len();
        assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
        write32(&mut client, BAR0, 4, 1);
        write32(&mut client, CONFIG, 4, 0);
        client.reset().unwrap();
        client.dma_unmap_all().unwrap();
        let whole = memfd(PAGE);
        client
            .dma_map(BASE, PAGE, READ_WRITE, Some((whole.as_fd(), 0)))
            .unwrap();
        assert!(memory.read(GuestAddress(BASE), &mut [0]).is_err());
        assert_eq!(read32(&mut client, BAR0, 4), u32::MAX);
        assert_eq!(served.record.calls().len(), calls, "it was called");
        assert_eq!(served.record.count(Call::Stop), 1);
        for value in 0..100 {
            write32(&mut other_client, BAR0, 0, value);
            assert_eq!(read32(&mut other_client, BAR0, 0), value);
        }
        stop.store(true, Ordering::SeqCst);
        let error = device.join().unwrap();
        assert_eq!(error, Some(MemoryError::Lost(GuestAddress(BASE))));
        other_device.join().unwrap();
    });
    // The next client finds a device as new.
    served.record.forget();
    drop(client);
    wait_for("end", || memory.ranges().is_empty());
    let (mut client, _file, memory) = with_memory(&served);
    write32(&mut client, BAR0, 0, 9);
    assert_eq!(read32(&mut client, BAR0, 0), 9);
    memory.store(FAR, 5_u32).unwrap();
    assert_eq!(served.record.count(Call::Stop), 0, "it was stopped before");
    assert_eq!(served.record.count(Call::Start), 1);
}

#[test]
fn every_kind_of_access_says_that_memory_is_lost() {
    type Access = fn(&GuestMemory) -> Result<(), MemoryError>;
    let accesses: [Access; 6] = [
        |memory| memory.read(FAR, &mut [0; 5]),
        |memory| memory.write(FAR, &[1; 5]),
        |memory| memory.load::<u64>(FAR).map(|_| ()),
        |memory| memory.store(FAR, 1_u64),
        |memory| memory.read_obj::<u16>(FAR).map(|_| ()),
        |memory| {
            // An aperture has no errors of its own.
            let aperture = memory.aperture(FAR, 4096, true)?;
            aperture.as_volatile_slice().copy_to(&mut [0_u8; 16]);
            memory.aperture(FAR, 4096, true).map(|_| ())
        },
    ];
    for access in accesses {
        let served = serve(Recorder::default());
        let (mut client, file, memory) = with_memory(&served);
        assert_eq!(access(&memory), Ok(()));
        shrink(&file, 8);
        // What is still there can be used until the end is met.
        assert_eq!(memory.read(GuestAddress(BASE), &mut [0; 8]), Ok(()));
        assert_eq!(read32(&mut client, BAR0, 0), 0);
        assert_eq!(access(&memory), Err(MemoryError::Lost(FAR)));
        let before = GuestAddress(BASE);
        assert_eq!(
            memory.read(before, &mut [0; 8]),
            Err(MemoryError::Lost(before))
        );
        assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
        assert_eq!(served.record.count(Call::Stop), 1);
    }
}

#[test]
fn clients_that_shrink_their_memory_come_and_go() {
    let served = serve(Recorder::default());
    let memory = served.record.context().memory;
    let (stop, losses) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut data = vec![0; 16 * 4096];
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(aperture) = memory.aperture(GuestAddress(BASE), 16 * 4096, false) {
                        aperture.as_volatile_slice().copy_to(&mut data[..]);
                        aperture.as_volatile_slice().copy_from(&data[..]);
                    }
                    if let Err(MemoryError::Lost(_)) = memory.read(GuestAddress(BASE), &mut data) {
                        losses.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for round in 0..50 {
            let (mut client, file, memory) = with_memory(&served);
            write32(&mut client, BAR0, 0, round);
            assert_eq!(read32(&mut client, BAR0, 0), round);
            let before = losses.load(Ordering::SeqCst);
            shrink(&file, u64::from(round % 16));
            wait_for("the stub", || read32(&mut client, BAR0, 0) == u32::MAX);
            wait_for("a loss", || losses.load(Ordering::SeqCst) > before);
            drop(client);
            wait_for("end", || memory.ranges().is_empty());
        }
        stop.store(true, Ordering::SeqCst);
    });
}

/// Tells [`helper_signals`] what to do.
const WHAT: &str = "HDV_TEST_SIGBUS";

fn child(what: &str) -> (ExitStatus, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_signals", "--nocapture"])
        .env(WHAT, what)
        .output()
        .unwrap();
    (
        output.status,
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// How often the earlier handler ran, and the address that it was told.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn earlier(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    assert_eq!(signal, SIGBUS);
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: it is installed with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code <= 0 {
        return;
    }
    ADDRESS.store(address, Ordering::SeqCst);
    // SAFETY: the page is that of `stranger`, whose value nobody else uses.
    unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::without_provenance_mut(address & !4095),
            4096,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::FIXED,
        )
        .unwrap();
    }
}

fn install(handler: usize, flags: i32) {
    // SAFETY: the handler is one of this file, or a special value, as the flags say.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        let done = libc::sigaction(SIGBUS, &raw const action, std::ptr::null_mut());
        assert_eq!(done, 0);
    }
}

/// Touches a mapping of somebody else's that has no file behind it any more.
fn touch_a_stranger() -> usize {
    let file = memfd(PAGE);
    // SAFETY: at an address of the kernel's choice, and never unmapped.
    let base = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            4096,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::SHARED,
            &file,
            0,
        )
    }
    .unwrap()
    .cast::<u8>();
    shrink(&file, 0);
    // SAFETY: mapped for reading; what SIGBUS brings is what the test is about.
    let byte = unsafe { base.add(17).read_volatile() };
    assert_eq!(byte, 0);
    base.addr() + 17
}

/// Our own loss, before and after everything else.
fn lose() {
    let served = serve(Recorder::default());
    let (_client, file, memory) = with_memory(&served);
    shrink(&file, 8);
    assert_eq!(memory.load::<u32>(FAR), Err(MemoryError::Lost(FAR)));
}

/// A section's file shrinks, as a client that maps it can see to, and the session's thread meets its end
/// without having mapped anything itself.
fn lose_section() {
    let served = serve(Recorder::default());
    let file = memfd(PAGE);
    let section = Section {
        bar: BarIndex::BAR0,
        offset: 0,
        length: PAGE,
        file_offset: 0,
        flags: SectionFlags::WRITEABLE,
    };
    let mmio = served.record.context().mmio;
    // On a thread of its own, so that this one is left as it is.
    std::thread::scope(|scope| {
        scope.spawn(|| mmio.create_section(section, file.as_fd()).unwrap());
    });
    let mut client = served.connect();
    shrink(&file, 0);
    assert_eq!(read32(&mut client, BAR0, 0), 0);
}

/// A thread of the device's own that does nothing but copy.
fn lose_on_own_thread() {
    for copy in 0..4 {
        let served = serve(Recorder::default());
        let (_client, file, memory) = with_memory(&served);
        shrink(&file, 8);
        let lost = std::thread::spawn(move || match copy {
            0 => memory.read(FAR, &mut [0; 8]),
            1 => memory.write(FAR, &[0; 8]),
            2 => memory.load::<u32>(FAR).map(|_| ()),
            _ => memory.store(FAR, 5_u32),
        });
        assert_eq!(lost.join().unwrap(), Err(MemoryError::Lost(FAR)));
    }
}

#[test]
fn helper_signals() {
    let Ok(what) = std::env::var(WHAT) else {
        return;
    };
    // Children that die on purpose leave no core behind.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
    let (before, act) = what.split_once(' ').unwrap();
    let handler = earlier as extern "C" fn(_, _, _) as *const () as usize;
    match before {
        // Of the Rust runtime, which takes the default action.
        "runtime" => {}
        "default" => install(libc::SIG_DFL, 0),
        "ignored" => install(libc::SIG_IGN, 0),
        "handler" => install(handler, libc::SA_SIGINFO),
        "once" => install(handler, libc::SA_SIGINFO | libc::SA_RESETHAND),
        "blocked" => {
            // As in a program that takes its signals by signalfd: all threads to come inherit it.
            //
            // SAFETY: the set is initialized.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigfillset(&raw mut set);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            }
        }
        other => panic!("{other}"),
    }
    if before == "blocked" {
        lose_section();
        lose_on_own_thread();
        // The session's thread meets the end.
        let served = serve(Recorder::default());
        let (mut client, file, memory) = with_memory(&served);
        let aperture = memory.aperture(FAR, 4096, false).unwrap();
        shrink(&file, 0);
        aperture.as_volatile_slice().copy_to(&mut [0_u8; 8]);
        assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
    } else {
        lose();
    }
    assert_eq!(CALLS.load(Ordering::SeqCst), 0, "it was ours");
    for act in act.split(' ') {
        let calls = CALLS.load(Ordering::SeqCst);
        match act {
            "touch" => {
                let address = touch_a_stranger();
                assert_eq!(ADDRESS.load(Ordering::SeqCst), address);
                assert_eq!(CALLS.load(Ordering::SeqCst), calls + 1);
            }
            // SAFETY: a signal to this thread.
            "raise" => assert_eq!(unsafe { libc::raise(SIGBUS) }, 0),
            "lose" => lose(),
            other => panic!("{other}"),
        }
    }
    println!("\ncalls {}, alive", CALLS.load(Ordering::SeqCst));
}

#[test]
fn a_sigbus_that_is_not_ours_does_what_it_did() {
    for what in [
        "runtime touch",
        // The first one makes the runtime take its handler away.
        "runtime raise raise",
        "default touch",
        "default raise",
        "ignored touch",
        "once touch touch",
        "once raise raise",
    ] {
        let (status, output) = child(what);
        assert_eq!(status.signal(), Some(SIGBUS), "{what}: {status}, {output}");
    }
    for (what, calls) in [
        ("handler touch lose touch raise lose", 3),
        ("ignored raise lose", 0),
        ("once touch lose", 1),
        ("blocked lose", 0),
    ] {
        let (status, output) = child(what);
        assert!(status.success(), "{what}: {status}, {output}");
        assert!(
            output.contains(&format!("calls {calls}, alive")),
            "{output}"
        );
    }
}

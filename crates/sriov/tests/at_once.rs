//! Everything that can be done to a PF and its VFs, by everybody at once, until it ends in one of the ways that there are:
//! whatever was made has ended then, and nobody waits for ever.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::Scope;

use hdv::{DeviceError, HostError};
use hdv_sriov::{EnableVirtualization, PciVirtualization, VirtualizationError as Error};
use support::*;

const VFS: u16 = 6;

/// Numbers that are the same in each run, each thread's its own.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % sides
    }

    fn vf(&mut self) -> u16 {
        u16::try_from(self.roll(VFS.into())).unwrap()
    }
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Remove,
    Close,
    Panic,
}

/// Does `deed` over and over in a thread of its own, until it says that there is no more to do.
fn again_and_again<'scope>(
    scope: &'scope Scope<'scope, '_>,
    seed: u32,
    over: &'scope AtomicBool,
    mut deed: impl FnMut(&mut Dice) + Send + 'scope,
) {
    scope.spawn(move || {
        let mut dice = Dice(seed);
        while !over.load(Ordering::SeqCst) {
            deed(&mut dice);
        }
    });
}

/// What anybody may be told at any time.
fn expected(error: &Error) -> bool {
    use HostError as H;
    match error {
        Error::Gone
        | Error::AlreadyEnabled { .. }
        | Error::AlreadyDisabled
        | Error::NotEnabled { .. } => true,
        // It was made to fail, or the PF is being removed.
        Error::Device(H::Brought { .. } | H::NotServed(_) | H::Device(_)) => true,
        Error::VirtualFunction { source, .. } => {
            matches!(source, H::Device(_) | H::NoSuchDevice(_))
        }
        _ => false,
    }
}

fn ok_or_expected<T>(result: Result<T, Error>) {
    if let Err(error) = result {
        assert!(expected(&error), "{error:?}");
    }
}

#[test]
fn whatever_is_done_at_once_everything_ends() {
    for (round, end) in (0..).zip([End::Remove, End::Close, End::Panic].repeat(2)) {
        let lab = Lab::default();
        let faults = AtomicU32::new(0);
        let panic_now = std::sync::Arc::new(AtomicBool::new(false));
        let panics = std::sync::Arc::clone(&panic_now);
        lab.hook(move |who, event| {
            let count = faults.fetch_add(1, Ordering::SeqCst);
            assert!(
                !(who == Pf && event == Write && panics.load(Ordering::SeqCst)),
                "on purpose"
            );
            // Some VFs cannot be made, some not be powered on, some panic.
            match event {
                Create if count.is_multiple_of(97) => Err(DeviceError::new("on purpose")),
                Initialize if who != Pf && count.is_multiple_of(13) => {
                    Err(DeviceError::new("on purpose"))
                }
                Read if who != Pf => {
                    assert!(!count.is_multiple_of(101), "on purpose");
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        let served = serve(Author::total(&lab, VFS), guest_controls());
        one_round(&served, round * 100, end, &panic_now);
        drop(served.host);
        let mut lives: HashMap<Who, [usize; 3]> = HashMap::new();
        for (who, event) in lab.log() {
            let [created, ended, dropped] = lives.entry(who).or_default();
            match event {
                Create => *created += 1,
                Teardown => *ended += 1,
                Dropped => *dropped += 1,
                _ => {}
            }
        }
        for (who, [created, ended, dropped]) in lives {
            assert_eq!(ended, dropped, "{who:?}, {end:?}");
            // Some of those that were asked for were refused.
            assert!(
                ended == 1 || who != Pf && ended <= created,
                "{who:?}, {end:?}"
            );
        }
        let left = std::fs::read_dir(served.directory.path()).unwrap().count();
        assert_eq!(left, 0, "{end:?}");
        assert!(matches!(served.pf.location(0), Err(Error::Gone)));
        assert_eq!(served.pf.virtual_functions().count(), 0);
        assert_eq!(served.pf.registers().active_vfs(), 0, "{end:?}");
    }
}

fn one_round(served: &Served, seed: u32, end: End, panic_now: &AtomicBool) {
    let (pf, host) = (&served.pf, &served.host);
    let over = &AtomicBool::new(false);
    let changes = &AtomicU32::new(0);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            again_and_again(scope, seed + worker, over, move |dice| {
                let num_vfs = dice.vf() + 1;
                ok_or_expected(pf.enable_virtualization(EnableVirtualization::enable(num_vfs)));
                ok_or_expected(pf.enable_virtualization(EnableVirtualization::disable()));
                changes.fetch_add(1, Ordering::SeqCst);
            });
        }
        again_and_again(scope, seed + 10, over, move |dice| {
            let vf = dice.vf();
            let mut data = vec![0; 1 + dice.roll(64) as usize];
            ok_or_expected(pf.virtual_function_data(vf, dice.roll(4096), &mut data));
            ok_or_expected(pf.set_virtual_function_data(vf, dice.roll(4096), &data));
            ok_or_expected(pf.location(vf));
            let bus = u8::try_from(dice.roll(200)).unwrap();
            pf.renumber(bus, bus + 1).unwrap();
        });
        // The owner's registers, whatever they are.
        again_and_again(scope, seed + 20, over, move |dice| {
            let offset = 0xf0 + u16::try_from(dice.roll(0x70)).unwrap();
            let mut data = [0; 16];
            let length = 1 + dice.roll(16) as usize;
            ok_or_expected(pf.config_read(offset, &mut data[..length]));
            data.fill_with(|| dice.roll(256).to_le_bytes()[0]);
            ok_or_expected(pf.config_write(offset, &data[..length]));
            if dice.roll(8) == 0 {
                ok_or_expected(pf.reset());
            }
        });
        // The VM that has the PF.
        let mut guest = connect(&served.pf_socket());
        again_and_again(scope, seed + 30, over, move |dice| {
            let offset = u64::from(0x100 + dice.roll(0x60));
            let data: [u8; 8] = std::array::from_fn(|_| dice.roll(256).to_le_bytes()[0]);
            let length = 1 + dice.roll(8) as usize;
            guest
                .region_write(CONFIG, offset, &data[..length])
                .expect("answered");
            write64(&mut guest, PLAIN, 1);
            if dice.roll(16) == 0 {
                guest.reset().expect("answered");
            }
        });
        // VMs that have VFs, or want to.
        for worker in 0..3 {
            again_and_again(scope, seed + 40 + worker, over, move |dice| {
                let options = hdv_vfio_user::client::ClientOptions::default()
                    .with_reply_timeout(Some(PATIENCE));
                let socket = served.vf_socket(dice.vf());
                let Ok(mut client) = hdv_vfio_user::client::Client::connect(&socket, options)
                else {
                    return;
                };
                for _ in 0..dice.roll(20) {
                    read64(&mut client, PLAIN);
                    write64(&mut client, PLAIN, 7);
                    client.reset().expect("answered");
                }
            });
        }
        // Somebody who takes VFs away one by one.
        again_and_again(scope, seed + 50, over, move |dice| {
            if let Some(vf) = pf.virtual_functions().get(dice.vf()) {
                match host.remove(vf.instance().id()) {
                    Ok(()) | Err(HostError::NoSuchDevice(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(host.devices().len() <= 1 + usize::from(VFS));
        });
        wait_for("changes", || changes.load(Ordering::SeqCst) >= 30);
        match end {
            End::Remove => host.remove(pf.instance().id()).unwrap(),
            End::Close => host.close().unwrap(),
            End::Panic => {
                panic_now.store(true, Ordering::SeqCst);
                wait_for("a panic", || {
                    pf.instance().state() == hdv::DeviceState::Failed
                });
            }
        }
        over.store(true, Ordering::SeqCst);
    });
}

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use hdv_vfio_user::backend::DmaMap;
use proptest::prelude::*;
use rustix::fs::MemfdFlags;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{Aperture, MemoryError};

const PAGE: u64 = 4096;
const BOTH: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);

fn memfd(pages: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("follow", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, pages * PAGE).unwrap();
    file
}

fn map(memory: &GuestMemory, page: u64, pages: u64, flags: DmaFlags, file: Option<&OwnedFd>) {
    assert_eq!(try_map(memory, page, pages, flags, file), Ok(()));
}

fn try_map(
    memory: &GuestMemory,
    page: u64,
    pages: u64,
    flags: DmaFlags,
    file: Option<&OwnedFd>,
) -> Result<(), Errno> {
    memory.map(&DmaMap {
        address: page * PAGE,
        size: pages * PAGE,
        flags,
        offset: 0,
        file: file.map(|file| file.try_clone().unwrap()),
    })
}

fn at(page: u64) -> GuestAddress {
    GuestAddress(page * PAGE)
}

fn byte(memory: &GuestMemory, page: u64) -> Result<u8, MemoryError> {
    memory.read_obj(at(page))
}

fn shown(aperture: &Aperture) -> u8 {
    aperture.as_volatile_slice().read_obj(0).unwrap()
}

/// A leader and one that follows it; the last is a clone from before.
fn pair() -> (GuestMemory, GuestMemory, GuestMemory) {
    let (leader, follower) = (GuestMemory::new(), GuestMemory::new());
    let earlier = follower.clone();
    follower.follow(&leader).unwrap();
    (leader, follower, earlier)
}

#[test]
fn clones_from_before_see_what_the_leader_has() {
    let (leader, follower) = (GuestMemory::new(), GuestMemory::new());
    let earlier = follower.clone();
    let (own, file) = (memfd(1), memfd(2));
    map(&follower, 9, 1, BOTH, Some(&own));
    follower.follow(&leader).unwrap();
    assert_eq!(byte(&earlier, 9), Err(MemoryError::NoMemory), "forgotten");
    map(&leader, 0, 2, BOTH, Some(&file));
    for memory in [&follower, &earlier] {
        memory.write_obj(at(1), 7_u8).unwrap();
        assert_eq!(byte(&leader, 1), Ok(7));
        memory.store(at(1), 8_u32).unwrap();
        assert_eq!(memory.load::<u32>(at(1)), Ok(8));
        assert_eq!(memory.check_writeable(at(0), 2 * PAGE), Ok(()));
        assert_eq!(memory.ranges(), leader.ranges());
    }
    leader.unmap(0, 2 * PAGE).unwrap();
    assert_eq!(byte(&earlier, 1), Err(MemoryError::NoMemory));
}

#[test]
fn a_follower_is_not_mapped_into_and_is_one_for_good() {
    let (leader, follower, _) = pair();
    let file = memfd(1);
    assert_eq!(
        try_map(&follower, 0, 1, BOTH, Some(&file)),
        Err(Errno::BUSY)
    );
    map(&leader, 0, 1, BOTH, Some(&file));
    assert_eq!(follower.unmap(0, PAGE), Err(Errno::BUSY));
    follower.unmap_all();
    follower.clear();
    assert_eq!(byte(&follower, 0), Ok(0));
    assert_eq!(follower.follow(&leader), Ok(()));
    assert_eq!(follower.follow(&GuestMemory::new()), Err(Errno::BUSY));
    assert_eq!(leader.follow(&follower), Err(Errno::LOOP));
    assert_eq!(leader.follow(&leader), Err(Errno::LOOP));
    assert_eq!(byte(&follower, 0), Ok(0));
}

#[test]
fn apertures_of_followers_go_and_come_with_the_leaders_memory() {
    let (leader, follower, _) = pair();
    let inner = GuestMemory::new();
    inner.follow(&follower).unwrap();
    let file = memfd(1);
    map(&leader, 3, 1, BOTH, Some(&file));
    leader.write_obj(at(3), 5_u8).unwrap();
    let apertures = [&leader, &follower, &inner].map(|one| one.aperture(at(3), 8, false).unwrap());
    let all = |value: u8| apertures.iter().all(|one| shown(one) == value);
    assert!(all(5));
    leader.unmap(3 * PAGE, PAGE).unwrap();
    assert!(all(0), "private pages");
    map(&leader, 3, 1, BOTH, Some(&file));
    assert!(all(5));
    // The one in the middle ends its followers' too, and nobody else's.
    follower.close();
    assert_eq!(apertures.each_ref().map(shown), [5, 0, 0]);
    assert_eq!(byte(&inner, 3), Err(MemoryError::NoMemory));
    assert!(inner.aperture(at(3), 8, false).is_err());
    assert_eq!(byte(&leader, 3), Ok(5));
    leader.unmap(3 * PAGE, PAGE).unwrap();
    map(&leader, 3, 1, BOTH, Some(&file));
    assert_eq!(apertures.each_ref().map(shown), [5, 0, 0]);
}

#[test]
fn a_follower_that_is_barred_reaches_nothing_until_it_is_let_in() {
    let (leader, follower, _) = pair();
    let files = [memfd(1), memfd(1)];
    map(&leader, 1, 1, BOTH, Some(&files[0]));
    leader.write_obj(at(1), 7_u8).unwrap();
    let aperture = follower.aperture(at(1), 1, false).unwrap();
    follower.set_barred(true);
    assert_eq!(byte(&follower, 1), Err(MemoryError::NotBusMaster));
    let store = follower.store(at(1), 1_u8);
    assert_eq!(store, Err(MemoryError::NotBusMaster));
    assert_eq!((shown(&aperture), byte(&leader, 1)), (0, Ok(7)));
    assert_eq!(
        try_map(&follower, 9, 1, BOTH, None),
        Err(Errno::BUSY),
        "still the leader's"
    );
    // What the leader gets meanwhile is not shown either, until then.
    leader.unmap(PAGE, PAGE).unwrap();
    map(&leader, 1, 1, BOTH, Some(&files[0]));
    map(&leader, 2, 1, BOTH, Some(&files[1]));
    assert_eq!(shown(&aperture), 0);
    follower.clear();
    assert_eq!(byte(&follower, 2), Err(MemoryError::NotBusMaster));
    follower.set_barred(false);
    assert_eq!((byte(&follower, 1), byte(&follower, 2)), (Ok(7), Ok(0)));
    assert_eq!(shown(&aperture), 0, "of a client that was cleared");
    let aperture = follower.aperture(at(1), 1, false).unwrap();
    for barred in [true, true, false, false] {
        follower.set_barred(barred);
        assert_eq!(shown(&aperture), if barred { 0 } else { 7 });
    }
    follower.set_barred(true);
    follower.close();
    follower.set_barred(false);
    assert_eq!(byte(&follower, 1), Err(MemoryError::NoMemory));
}

#[test]
fn who_is_barred_first_follows_without_a_look() {
    let (leader, follower) = (GuestMemory::new(), GuestMemory::new());
    map(&leader, 1, 1, BOTH, Some(&memfd(1)));
    follower.set_barred(true);
    follower.follow(&leader).unwrap();
    assert_eq!(byte(&follower, 1), Err(MemoryError::NotBusMaster));
    follower.set_barred(false);
    assert_eq!(byte(&follower, 1), Ok(0));
}

#[test]
fn a_next_client_of_the_leaders_has_none_of_the_followers_apertures() {
    let (leader, follower, _) = pair();
    let file = memfd(1);
    map(&leader, 0, 1, BOTH, Some(&file));
    leader.write_obj(at(0), 5_u8).unwrap();
    let aperture = follower.aperture(at(0), 8, true).unwrap();
    leader.clear();
    map(&leader, 0, 1, BOTH, Some(&file));
    assert_eq!(shown(&aperture), 0);
    assert_eq!(byte(&follower, 0), Ok(5));
}

#[test]
fn what_the_leader_loses_is_lost_for_all() {
    let (leader, follower, earlier) = pair();
    let file = memfd(2);
    map(&leader, 0, 2, BOTH, Some(&file));
    let aperture = follower.aperture(at(1), 8, false).unwrap();
    rustix::fs::ftruncate(&file, PAGE).unwrap();
    assert!(!follower.is_lost());
    // Met in a follower's aperture.
    assert_eq!(shown(&aperture), 0);
    for memory in [&leader, &follower, &earlier] {
        assert!(memory.is_lost());
        assert_eq!(byte(memory, 0), Err(MemoryError::Lost(at(0))));
        assert_eq!(memory.load::<u32>(at(0)), Err(MemoryError::Lost(at(0))));
    }
    leader.clear();
    assert!(!follower.is_lost());
}

#[test]
fn messages_are_those_of_the_leader_s_client() {
    let (leader, follower, _) = pair();
    map(&leader, 0, 1, BOTH, None);
    // There is no client, and it is not its own that is asked.
    let error = byte(&follower, 0);
    assert_eq!(error, byte(&leader, 0));
    assert!(matches!(error, Err(MemoryError::Client { .. })));
}

#[test]
fn closing_ends_a_followers_access_and_nobody_else_s() {
    let (leader, follower, earlier) = pair();
    let other = GuestMemory::new();
    other.follow(&leader).unwrap();
    let file = memfd(1);
    map(&leader, 0, 1, BOTH, Some(&file));
    follower.close();
    assert_eq!(byte(&earlier, 0), Err(MemoryError::NoMemory));
    assert_eq!(earlier.follow(&leader), Ok(()), "ignored");
    assert_eq!(byte(&earlier, 0), Err(MemoryError::NoMemory));
    assert_eq!((byte(&leader, 0), byte(&other, 0)), (Ok(0), Ok(0)));
    // A leader keeps no follower.
    let before = Arc::weak_count(&leader.shared);
    drop(other);
    let gone = GuestMemory::new();
    gone.follow(&leader).unwrap();
    drop(gone);
    leader.unmap_all();
    assert_eq!(leader.upkeep().followers.len(), 0);
    assert_eq!(Arc::weak_count(&leader.shared), before);
}

#[test]
fn a_follower_s_copy_is_waited_for_by_its_end_and_by_the_leader() {
    let ends: [fn(&GuestMemory, &GuestMemory); 2] = [
        |_, follower| follower.close(),
        |leader, _| leader.unmap(0, PAGE).unwrap(),
    ];
    for end in ends {
        let (leader, follower, _) = pair();
        map(&leader, 0, 1, BOTH, Some(&memfd(1)));
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            follower.with_map(|owner, map| {
                assert!(Arc::ptr_eq(&owner.shared, &leader.shared));
                scope.spawn(|| {
                    end(&leader, &follower);
                    ended.store(true, Ordering::SeqCst);
                });
                // Nobody begins to copy any more, and who has begun goes on.
                while !follower.ranges().is_empty() {
                    std::thread::yield_now();
                }
                assert!(!ended.load(Ordering::SeqCst));
                assert_eq!(map.regions().len(), 1);
            });
        });
        assert!(ended.load(Ordering::SeqCst));
    }
}

/// Threads copy through followers, which are closed and made anew, while the leader's memory goes and
/// comes: what they read is guest memory or nothing. A copy into what is unmapped already would end the
/// process.
#[test]
fn copies_of_followers_end_before_their_memory_goes() {
    let leader = GuestMemory::new();
    let file = memfd(64);
    rustix::io::pwrite(file.as_fd(), &[7; 64 * 4096], 0).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut data = vec![0; 64 * 4096];
                while !stop.load(Ordering::Relaxed) {
                    let follower = GuestMemory::new();
                    follower.follow(&leader).unwrap();
                    for _ in 0..20 {
                        if follower.read(at(0), &mut data).is_ok() {
                            assert!(data.iter().all(|&byte| byte == 7));
                        }
                    }
                    follower.close();
                    assert_eq!(byte(&follower, 0), Err(MemoryError::NoMemory));
                }
            });
        }
        for _ in 0..500 {
            map(&leader, 0, 64, BOTH, Some(&file));
            leader.unmap_all();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, bool, usize),
    Unmap(u64, u64),
    Clear,
    Write(u64, u8),
    Show(u64, u64, bool),
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    let page = 0..12_u64;
    prop_oneof![
        4 => (page.clone(), 1..4_u64, any::<bool>(), 0..4_usize)
            .prop_map(|(page, pages, write, file)| Step::Map(page, pages, write, file)),
        3 => (page.clone(), 1..6_u64).prop_map(|(page, pages)| Step::Unmap(page, pages)),
        1 => Just(Step::Clear),
        3 => (page.clone(), any::<u8>()).prop_map(|(page, value)| Step::Write(page, value)),
        2 => (page, 1..4_u64, any::<bool>())
            .prop_map(|(page, pages, protected)| Step::Show(page, pages, protected)),
        1 => Just(Step::Follow),
    ]
}

proptest! {
    /// Whatever happens to the leader, those that follow it, some since later, some through another, see the same.
    #[test]
    fn followers_see_exactly_the_leaders_memory(steps in prop::collection::vec(step(), 1..40)) {
        let files = [memfd(4), memfd(4), memfd(4)];
        let leader = GuestMemory::new();
        let mut followers = vec![GuestMemory::new()];
        followers[0].follow(&leader).unwrap();
        let mut shows: Vec<Vec<Aperture>> = Vec::new();
        for step in steps {
            match step {
                Step::Map(page, pages, write, file) => {
                    let flags = if write { BOTH } else { DmaFlags::READ };
                    // The last kind is memory without a descriptor.
                    let _ = try_map(&leader, page, pages, flags, files.get(file));
                }
                Step::Unmap(page, pages) => {
                    let _ = leader.unmap(page * PAGE, pages * PAGE);
                }
                Step::Clear => leader.clear(),
                Step::Write(page, value) => {
                    let one = &followers[usize::from(value) % followers.len()];
                    let _ = one.write_obj(GuestAddress(page * PAGE + 1), value);
                }
                Step::Show(page, pages, protected) => {
                    let length = usize::try_from(pages * PAGE).unwrap();
                    let show = |one: &GuestMemory| one.aperture(at(page), length, protected);
                    let of_leader = show(&leader);
                    let mut all = Vec::new();
                    for one in &followers {
                        let of_follower = show(one);
                        prop_assert_eq!(
                            of_follower.as_ref().err(),
                            of_leader.as_ref().err()
                        );
                        all.extend(of_follower);
                    }
                    all.extend(of_leader);
                    shows.push(all);
                }
                Step::Follow => {
                    let new = GuestMemory::new();
                    let of = followers.last().filter(|_| followers.len() % 2 == 0);
                    new.follow(of.unwrap_or(&leader)).unwrap();
                    followers.push(new);
                }
            }
            for one in &followers {
                prop_assert_eq!(one.ranges(), leader.ranges());
                for start in 0..15 {
                    for length in [1_u64, 2 * PAGE] {
                        let mut seen = [vec![0; 2 * 4096], vec![1; 2 * 4096]];
                        let length = usize::try_from(length).unwrap();
                        let results = [one, &leader]
                            .iter()
                            .zip(&mut seen)
                            .map(|(memory, seen)| memory.read(at(start), &mut seen[..length]))
                            .collect::<Vec<_>>();
                        prop_assert_eq!(results[0], results[1]);
                        if results[0].is_ok() {
                            prop_assert_eq!(&seen[0][..length], &seen[1][..length]);
                        }
                    }
                    let address = GuestAddress(start * PAGE + 4);
                    prop_assert_eq!(one.load::<u32>(address), leader.load::<u32>(address));
                    prop_assert_eq!(
                        one.check_writeable(at(start), 2 * PAGE),
                        leader.check_writeable(at(start), 2 * PAGE)
                    );
                }
            }
            for same in &shows {
                let mut seen = same.iter().map(|one| {
                    let mut data = vec![0; one.len()];
                    one.as_volatile_slice().copy_to(&mut data);
                    data
                });
                let first = seen.next();
                prop_assert!(seen.all(|one| Some(&one) == first.as_ref()));
            }
        }
    }
}

#[test]
fn who_is_let_in_looks_at_regions_with_apertures_only() {
    let (leader, follower, _) = pair();
    let behind = GuestMemory::new();
    behind.follow(&follower).unwrap();
    let file = memfd(64);
    for page in 0..64 {
        map(&leader, 2 * page, 1, BOTH, Some(&file));
    }
    let looked_at = || {
        let settled = follower.settled();
        let regions = follower.watched_regions(&settled.own);
        regions
            .iter()
            .map(|region| region.start / PAGE)
            .collect::<Vec<_>>()
    };
    assert!(looked_at().is_empty());
    let own = follower.aperture(at(6), 4096, true).unwrap();
    assert_eq!(looked_at(), [6]);
    let behind = behind.aperture(at(10), 4096, true).unwrap();
    assert_eq!(looked_at(), [6, 10]);
    follower.set_barred(true);
    leader.write_obj(at(6), 7_u8).unwrap();
    leader.write_obj(at(10), 8_u8).unwrap();
    assert_eq!((shown(&own), shown(&behind)), (0, 0));
    follower.set_barred(false);
    assert_eq!(
        (shown(&own), shown(&behind)),
        (8, 8),
        "the same page of the file"
    );
    drop(own);
    assert_eq!(looked_at(), [10]);
}

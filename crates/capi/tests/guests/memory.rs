//! Guest memory and apertures.

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};

use computecore::types::{HdvDevice, Hresult};
use computecore::{
    HdvCreateGuestMemoryAperture, HdvDestroyGuestMemoryAperture, HdvReadGuestMemory,
    HdvTeardownDeviceHost, HdvWriteGuestMemory, codes,
};
use hdv::Uuid;
use hdv_vfio_user::DmaFlags;
use std::os::fd::AsFd;

use crate::device::{Call, Served, create, lock, serve};
use crate::guest::{BAR0, READ_WRITE, connect, enable, give_memory, memfd, read, wait_for};

const AT: u64 = 0x10_0000;
const SIZE: u64 = 0x4000;

pub(crate) fn read_memory(device: HdvDevice, address: u64, data: &mut [u8]) -> Hresult {
    let count = u32::try_from(data.len()).expect("small");
    // SAFETY: the buffer has that length.
    unsafe { HdvReadGuestMemory(device, address, count, data.as_mut_ptr()) }
}

pub(crate) fn write_memory(device: HdvDevice, address: u64, data: &[u8]) -> Hresult {
    let count = u32::try_from(data.len()).expect("small");
    // SAFETY: the buffer has that length.
    unsafe { HdvWriteGuestMemory(device, address, count, data.as_ptr()) }
}

pub(crate) fn aperture(
    device: HdvDevice,
    address: u64,
    count: u32,
    write_protected: bool,
) -> (Hresult, *mut u8) {
    let mut mapped: *mut c_void = null_mut();
    // SAFETY: a valid place.
    let result = unsafe {
        HdvCreateGuestMemoryAperture(
            device,
            address,
            count,
            i32::from(write_protected),
            &raw mut mapped,
        )
    };
    (result, mapped.cast())
}

fn guest_write(file: &OwnedFd, offset: u64, data: &[u8]) {
    assert_eq!(rustix::io::pwrite(file, data, offset), Ok(data.len()));
}

fn guest_read<const N: usize>(file: &OwnedFd, offset: u64) -> [u8; N] {
    let mut data = [0; N];
    assert_eq!(rustix::io::pread(file, &mut data, offset), Ok(N));
    data
}

/// Where a mapping of this process is, as the kernel tells it.
fn permissions(address: *mut u8) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (first, end) = range.split_once('-')?;
        let first = usize::from_str_radix(first, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (first..end)
            .contains(&address.addr())
            .then(|| rest[..3].to_owned())
    })
}

#[test]
fn hdv_read_guest_memory_success() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_memory(&mut client, AT, SIZE);
    guest_write(&memory, 0x123, b"from the guest");
    let mut data = [0; 14];
    assert_eq!(
        read_memory(served.device(), AT + 0x123, &mut data),
        codes::S_OK
    );
    assert_eq!(&data, b"from the guest");
}

#[test]
fn hdv_write_guest_memory_success() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_memory(&mut client, AT, SIZE);
    assert_eq!(
        write_memory(served.device(), AT + 0x321, b"to the guest"),
        codes::S_OK
    );
    assert_eq!(&guest_read(&memory, 0x321), b"to the guest");
}

#[test]
fn hdv_write_guest_memory_across_regions() {
    let served = serve();
    let mut client = served.guest();
    let low = give_memory(&mut client, AT, SIZE);
    let high = give_memory(&mut client, AT + SIZE, SIZE);
    assert_eq!(
        write_memory(served.device(), AT + SIZE - 2, b"abcd"),
        codes::S_OK
    );
    assert_eq!(&guest_read(&low, SIZE - 2), b"ab");
    assert_eq!(&guest_read(&high, 0), b"cd");
    let mut data = [0; 4];
    assert_eq!(
        read_memory(served.device(), AT + SIZE - 2, &mut data),
        codes::S_OK
    );
    assert_eq!(&data, b"abcd");
}

#[test]
fn hdv_read_guest_memory_invalid_address() {
    let served = serve();
    let mut client = served.guest();
    // A client without memory has none at any address.
    let result = read_memory(served.device(), AT, &mut [0; 4]);
    assert!([codes::INVALID_ADDRESS, codes::NOT_READY].contains(&result));
    let _memory = give_memory(&mut client, AT, SIZE);
    for address in [AT - 1, AT + SIZE - 3, AT + SIZE, 0, u64::MAX - 3] {
        assert_eq!(
            read_memory(served.device(), address, &mut [0; 4]),
            codes::INVALID_ADDRESS,
            "{address:#x}"
        );
    }
}

#[test]
fn hdv_write_guest_memory_invalid_address() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_memory(&mut client, AT, SIZE);
    let result = write_memory(served.device(), AT + SIZE - 2, b"abcd");
    assert_eq!(result, codes::INVALID_ADDRESS);
    // All or nothing.
    assert_eq!(guest_read(&memory, SIZE - 2), [0; 2]);
}

/// Memory that the guest may not be written to.
fn give_read_only(client: &mut hdv_vfio_user::client::Client) -> OwnedFd {
    let file = memfd(SIZE);
    client
        .dma_map(AT, SIZE, DmaFlags::READ, Some((file.as_fd(), 0)))
        .expect("mapped");
    file
}

#[test]
fn hdv_write_guest_memory_read_only() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_read_only(&mut client);
    assert_eq!(
        write_memory(served.device(), AT, b"abcd"),
        codes::E_ACCESSDENIED
    );
    assert_eq!(guest_read(&memory, 0), [0; 4]);
    assert_eq!(read_memory(served.device(), AT, &mut [0; 4]), codes::S_OK);
}

/// What a function gives inside a callback, for memory that came without a descriptor.
fn inside_callback(call: impl Fn(HdvDevice) -> Hresult + Send + 'static) -> Hresult {
    let served = serve();
    let mut client = served.guest();
    client.dma_map(AT, SIZE, READ_WRITE, None).expect("mapped");
    let result = Arc::new(Mutex::new(0));
    let noted = Arc::clone(&result);
    served.state.hook(Call::Read(0, 8, 4), move |device| {
        *lock(&noted) = call(device);
    });
    read::<4>(&mut client, BAR0, 8);
    *lock(&result)
}

#[test]
fn hdv_read_guest_memory_retry() {
    let result = inside_callback(|device| read_memory(device, AT, &mut [0; 4]));
    assert_eq!(result, codes::RETRY);
}

#[test]
fn hdv_write_guest_memory_retry() {
    let result = inside_callback(|device| write_memory(device, AT, &[0; 4]));
    assert_eq!(result, codes::RETRY);
}

#[test]
fn hdv_create_guest_memory_aperture_no_descriptor() {
    let result = inside_callback(|device| aperture(device, AT, 4096, false).0);
    assert_eq!(result, codes::E_OUTOFMEMORY);
}

#[test]
fn hdv_read_guest_memory_inside_callback() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_memory(&mut client, AT, SIZE);
    guest_write(&memory, 0, b"data");
    let seen = Arc::new(Mutex::new((0, [0; 4])));
    let noted = Arc::clone(&seen);
    served.state.hook(Call::Read(0, 8, 4), move |device| {
        let mut data = [0; 4];
        let result = read_memory(device, AT, &mut data);
        *lock(&noted) = (result, data);
    });
    read::<4>(&mut client, BAR0, 8);
    assert_eq!(*lock(&seen), (codes::S_OK, *b"data"));
}

#[test]
fn hdv_read_guest_memory_client_left() {
    let served = serve();
    let mut client = served.guest();
    let _memory = give_memory(&mut client, AT, SIZE);
    assert_eq!(read_memory(served.device(), AT, &mut [0; 4]), codes::S_OK);
    drop(client);
    wait_for("end of the client", || {
        read_memory(served.device(), AT, &mut [0; 4]) == codes::NOT_READY
    });
}

#[test]
fn hdv_create_guest_memory_aperture_success() {
    let served = serve();
    let mut client = served.guest();
    let low = give_memory(&mut client, AT, SIZE);
    let high = give_memory(&mut client, AT + SIZE, SIZE);
    // Contiguous over both, from the middle of a page.
    let (result, mapped) = aperture(served.device(), AT + 0x10, 0x7000, false);
    assert_eq!(result, codes::S_OK);
    guest_write(&low, 0x10, b"L");
    guest_write(&high, 0x20, b"H");
    let beyond = usize::try_from(SIZE + 0x10).expect("small");
    // SAFETY: within the aperture.
    unsafe {
        assert_eq!(mapped.read_volatile(), b'L');
        assert_eq!(mapped.add(beyond).read_volatile(), b'H');
        mapped.add(1).write_volatile(b'l');
        mapped.add(beyond + 1).write_volatile(b'h');
    }
    assert_eq!(&guest_read(&low, 0x10), b"Ll");
    assert_eq!(&guest_read(&high, 0x20), b"Hh");
    assert_eq!(permissions(mapped).as_deref(), Some("rw-"));
    assert_eq!(
        HdvDestroyGuestMemoryAperture(served.device(), mapped.cast()),
        codes::S_OK
    );
}

#[test]
fn hdv_create_guest_memory_aperture_write_protected() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_read_only(&mut client);
    let (result, mapped) = aperture(served.device(), AT, 4096, false);
    assert_eq!((result, mapped), (codes::E_ACCESSDENIED, null_mut()));
    let (result, mapped) = aperture(served.device(), AT, 4096, true);
    assert_eq!(result, codes::S_OK);
    guest_write(&memory, 0, b"x");
    // SAFETY: within the aperture.
    assert_eq!(unsafe { mapped.read_volatile() }, b'x');
    assert_eq!(permissions(mapped).as_deref(), Some("r--"));
}

#[test]
fn hdv_create_guest_memory_aperture_invalid_address() {
    let served = serve();
    let mut client = served.guest();
    let _memory = give_memory(&mut client, AT, SIZE);
    for (address, count) in [(AT - 1, 2), (AT + SIZE, 1), (AT, 0x4001), (0, 4096)] {
        let (result, mapped) = aperture(served.device(), address, count, false);
        assert_eq!(
            (result, mapped),
            (codes::INVALID_ADDRESS, null_mut()),
            "{address:#x}"
        );
    }
}

#[test]
fn hdv_destroy_guest_memory_aperture_success() {
    let served = serve();
    let mut client = served.guest();
    let _memory = give_memory(&mut client, AT, SIZE);
    let (_, first) = aperture(served.device(), AT, 4096, false);
    let (_, second) = aperture(served.device(), AT, 4096, false);
    assert_ne!(first, second);
    let destroy = |mapped: *mut u8| HdvDestroyGuestMemoryAperture(served.device(), mapped.cast());
    assert_eq!(destroy(first), codes::S_OK);
    assert_eq!(destroy(first), codes::NOT_FOUND);
    // SAFETY: this one is still there.
    assert_eq!(unsafe { second.read_volatile() }, 0);
    assert_eq!(destroy(second.wrapping_add(1)), codes::NOT_FOUND);
    assert_eq!(destroy(second), codes::S_OK);
}

#[test]
fn hdv_destroy_guest_memory_aperture_of_another_device() {
    let served = serve();
    let mut client = served.guest();
    let _memory = give_memory(&mut client, AT, SIZE);
    let other = create(served.host, Uuid::from_u128(2));
    let (_, mapped) = aperture(served.device(), AT, 4096, false);
    let of_another = HdvDestroyGuestMemoryAperture(
        other.handle.load(std::sync::atomic::Ordering::SeqCst),
        mapped.cast(),
    );
    assert_eq!(of_another, codes::NOT_FOUND);
    assert_eq!(
        HdvDestroyGuestMemoryAperture(served.device(), mapped.cast()),
        codes::S_OK
    );
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
}

#[test]
fn hdv_teardown_device_host_releases_apertures() {
    let served = serve();
    let mut client = served.guest();
    let memory = give_memory(&mut client, AT, SIZE);
    guest_write(&memory, 0, b"z");
    let (_, mapped) = aperture(served.device(), AT, 4096, false);
    let (_, destroyed) = aperture(served.device(), AT, 4096, false);
    let seen = Arc::new(Mutex::new((0, 0)));
    let noted = Arc::clone(&seen);
    let (address, destroyed) = (mapped.expose_provenance(), destroyed.expose_provenance());
    served.state.hook(Call::Teardown, move |device| {
        // The device's handle and its apertures are still good.
        let mapped: *mut u8 = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the aperture ends after this callback.
        let _still_memory = unsafe { mapped.read_volatile() };
        let destroyed = std::ptr::with_exposed_provenance_mut(destroyed);
        *lock(&noted) = (1, HdvDestroyGuestMemoryAperture(device, destroyed));
    });
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
    assert_eq!(*lock(&seen), (1, codes::S_OK));
    assert_eq!(
        HdvDestroyGuestMemoryAperture(served.device(), mapped.cast()),
        codes::E_HANDLE
    );
}

#[test]
fn two_devices_see_their_own_memory() {
    let served: Served = serve();
    let other_id = Uuid::from_u128(3);
    let other = create(served.host, other_id);
    let mut first = served.guest();
    let mut second = connect(&served.socket_of(other_id));
    enable(&mut second);
    let first_memory = give_memory(&mut first, AT, SIZE);
    let second_memory = give_memory(&mut second, AT, SIZE);
    assert_eq!(write_memory(served.device(), AT, b"1"), codes::S_OK);
    let handle = other.handle.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(write_memory(handle, AT, b"2"), codes::S_OK);
    assert_eq!(&guest_read(&first_memory, 0), b"1");
    assert_eq!(&guest_read(&second_memory, 0), b"2");
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
}

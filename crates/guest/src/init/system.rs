//! The system around the checks, made from nothing: file systems, console, kernel modules,
//! drivers, power.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::platform::sysfs::DEVICES;
use crate::platform::{Error, Result};

/// The list of kernel modules: a file name in [`MODULES`] per line, in the order to load, each
/// with parameters behind it if it has any.
pub const MODULES_ORDER: &str = "/modules/order";
/// Where the modules are, not compressed.
pub const MODULES: &str = "/modules";

/// How long the kernel may take to bind a driver and make its device file.
const BIND_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Mounts what a program needs to see the kernel, and makes the console its input and output.
///
/// # Errors
/// When a file system cannot be mounted or the console not be opened.
pub fn mount_all() -> Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(place).map_err(|error| Error::file(place, "create", error))?;
        match mount(kind, place, kind, MountFlags::empty(), None) {
            // Mounted already by the kernel.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => return Err(Error::file(place, "mount", errno)),
        }
    }
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/console")
        .map_err(|error| Error::file("/dev/console", "open", error))?;
    rustix::stdio::dup2_stdin(&console)
        .and_then(|()| rustix::stdio::dup2_stdout(&console))
        .and_then(|()| rustix::stdio::dup2_stderr(&console))
        .map_err(|errno| Error::call("dup2 of the console", errno))?;
    Ok(())
}

/// Keeps the kernel from writing into our lines, but for emergencies.
///
/// # Errors
/// When the setting cannot be written.
pub fn quiet_kernel() -> Result<()> {
    write("/proc/sys/kernel/printk", "1")
}

/// Loads the modules of [`MODULES_ORDER`]; no list means none. Returns how many.
///
/// # Errors
/// When a module cannot be loaded; one that is loaded already is no error.
pub fn load_modules() -> Result<usize> {
    let list = match fs::read_to_string(MODULES_ORDER) {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::file(MODULES_ORDER, "read", error)),
    };
    let mut count = 0;
    for line in list.lines() {
        let (name, parameters) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if name.is_empty() {
            continue;
        }
        let path = Path::new(MODULES).join(name);
        let file = File::open(&path).map_err(|error| Error::file(&path, "open", error))?;
        let parameters = CString::new(parameters.trim())
            .map_err(|_| Error::file(&path, "pass parameters to", Errno::INVAL))?;
        match finit_module(&file, &parameters, 0) {
            Ok(()) => count += 1,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::file(&path, "load", errno)),
        }
    }
    Ok(count)
}

/// Takes the function at `address` from its driver, if it has one, and binds it to `driver`.
///
/// # Errors
/// When a file in sysfs refuses, or the driver does not take the function in time.
pub fn bind(address: &str, driver: &str) -> Result<()> {
    let device = Path::new(DEVICES).join(address);
    write(device.join("driver_override"), driver)?;
    if bound(&device, driver) {
        return Ok(());
    }
    let unbind = device.join("driver/unbind");
    if unbind.exists() {
        write(unbind, address)?;
    }
    write("/sys/bus/pci/drivers_probe", address)?;
    wait_until(|| bound(&device, driver)).ok_or_else(|| {
        Error::Missing(format!(
            "{address} was not taken by {driver} within {} s; is the module loaded?",
            BIND_LIMIT.as_secs()
        ))
    })
}

/// Takes the function at `address` from its driver, if it has one.
///
/// # Errors
/// When sysfs refuses.
pub fn unbind(address: &str) -> Result<()> {
    let device = Path::new(DEVICES).join(address);
    let unbind = device.join("driver/unbind");
    if unbind.exists() {
        write(unbind, address)?;
    }
    Ok(())
}

/// Waits for the group file of a function that is bound to vfio-pci.
///
/// # Errors
/// When the function has no IOMMU group or the file does not appear in time.
pub fn wait_for_group(address: &str) -> Result<()> {
    let link = Path::new(DEVICES).join(address).join("iommu_group");
    let group = fs::read_link(&link).map_err(|error| Error::file(&link, "follow", error))?;
    let file = Path::new("/dev/vfio").join(group.file_name().unwrap_or_default());
    wait_until(|| file.exists()).ok_or_else(|| Error::file(&file, "wait for", Errno::TIMEDOUT))
}

fn bound(device: &Path, driver: &str) -> bool {
    fs::read_link(device.join("driver"))
        .is_ok_and(|link| link.file_name().is_some_and(|name| name == driver))
}

fn wait_until(condition: impl Fn() -> bool) -> Option<()> {
    let deadline = Instant::now() + BIND_LIMIT;
    while !condition() {
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    Some(())
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, text).map_err(|error| Error::file(path, "write", error))
}

/// The kernel's release, as `uname -r` has it.
#[must_use]
pub fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Whether this process is the system's first, so that its end is the system's.
#[must_use]
pub fn is_first_process() -> bool {
    rustix::process::getpid().is_init()
}

/// Ends the system: powers off, or boots it again. Returns only when the kernel refuses.
pub fn end(again: bool) -> Errno {
    let command = if again {
        RebootCommand::Restart
    } else {
        RebootCommand::PowerOff
    };
    reboot(command).err().unwrap_or(Errno::NOSYS)
}

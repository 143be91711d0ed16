//! The errors of this crate: each names the thing at fault, its value, and the remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while QEMU or a guest kernel is found, fetched, tried or driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No QEMU that suits was found anywhere.
    #[error(
        "no QEMU of version {minimum} or newer with the device {device} was found: {}; \
         install one, or set OPENHDV_QEMU to one; in a checkout of OpenHDV `cargo xtask lab` unpacks one into the user's cache",
        tried.join("; ")
    )]
    NoQemu {
        /// The oldest version that would do.
        minimum: crate::version::Version,
        /// The device it must have.
        device: &'static str,
        /// Where one was looked for and what was found there.
        tried: Vec<String>,
    },

    /// The QEMU that was named does not suit.
    #[error("{origin}: {} does not suit: {reason}", path.display())]
    UnsuitableQemu {
        /// Who named it, for example `OPENHDV_QEMU`.
        origin: &'static str,
        /// The program.
        path: PathBuf,
        /// Why not, with the remedy.
        reason: String,
    },

    /// Neither `XDG_CACHE_HOME` nor `HOME` says where the user's cache is.
    #[error(
        "no cache directory: neither XDG_CACHE_HOME nor HOME is set to an absolute path; set one of them"
    )]
    NoCacheDirectory,

    /// A program that fetching needs is not on this machine.
    #[error(
        "{program} was not found on this machine, and packages are fetched with apt and dpkg; install a QEMU of \
         version 10.1 or newer and set OPENHDV_QEMU to it, or run this on Debian or one of its derivatives"
    )]
    NoApt {
        /// The program, for example `apt-get`.
        program: &'static str,
    },

    /// The machine's apt configuration names no Debian archive.
    #[error(
        "no Debian archive is configured in {}; add one there (its packages need not be installed), or install a \
         QEMU of version 10.1 or newer and set OPENHDV_QEMU to it",
        read.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoDebianArchive {
        /// The files and directories that were read.
        read: Vec<PathBuf>,
    },

    /// The keys that sign Debian's archive are missing.
    #[error("{} is missing, so packages could not be verified; install the package debian-archive-keyring", path.display())]
    NoKeyring {
        /// Where the keyring is expected.
        path: PathBuf,
    },

    /// The machine is of an architecture whose packages are not known here.
    #[error(
        "packages can be unpacked on x86_64 only and this machine is {architecture}; set OPENHDV_QEMU to a QEMU of version 10.1 or newer"
    )]
    Architecture {
        /// The architecture of this machine.
        architecture: &'static str,
    },

    /// The archive could not be reached.
    #[error(
        "the package archive could not be reached while {doing}; check the network and the proxy, then try again. apt said: {said}"
    )]
    Network {
        /// What was being done.
        doing: String,
        /// What apt said.
        said: String,
    },

    /// A package tool failed for another reason than the network.
    #[error("{doing} failed: {said}")]
    PackageTool {
        /// What was being done.
        doing: String,
        /// What the tool said.
        said: String,
    },

    /// A bundle is not in the cache.
    #[error("the bundle {bundle} is not in {}; in a checkout of OpenHDV `cargo xtask lab` fetches it", cache.display())]
    NotFetched {
        /// The bundle's name.
        bundle: &'static str,
        /// The cache directory.
        cache: PathBuf,
    },

    /// A manifest in the cache cannot be read as one.
    #[error("{} is not a manifest of this cache ({reason}); remove its directory and fetch again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A directory holds no guest kernel, or several.
    #[error("{} holds no single guest kernel: {reason}; remove it and fetch again", root.display())]
    NoKernel {
        /// The directory that was searched.
        root: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The guest kernel has no such module.
    #[error("the guest kernel {kernel} has no module {module}, neither loadable nor built in")]
    NoModule {
        /// The module's name.
        module: String,
        /// The kernel's release.
        kernel: String,
    },

    /// A module's file is damaged or of a form that is not known here.
    #[error("the kernel module {} cannot be used: {reason}", path.display())]
    BadModule {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// An entry that an initramfs cannot hold.
    #[error("{path:?} cannot be put into an initramfs: {reason}")]
    Initramfs {
        /// The entry's path.
        path: String,
        /// Why not.
        reason: &'static str,
    },

    /// A value of the machine's description that QEMU cannot take.
    #[error("the machine's {what} cannot be {value:?}: {reason}")]
    Machine {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
    },

    /// QEMU refused a command.
    #[error("QEMU refused {command}: {class}: {description}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QMP's error class, for example `GenericError`.
        class: String,
        /// QEMU's words.
        description: String,
    },

    /// What came over the control socket is not QMP.
    #[error("QEMU's control socket sent what is not QMP: {reason}")]
    Protocol {
        /// What is wrong.
        reason: String,
    },

    /// The control socket was closed: QEMU has ended or its monitor has.
    #[error("QEMU closed its control socket while {doing}")]
    Closed {
        /// What was waited for.
        doing: String,
    },

    /// Something did not happen in time.
    #[error("{doing} did not happen within {} s{}", limit.as_secs_f32(), context(detail))]
    TimedOut {
        /// What was waited for.
        doing: String,
        /// The limit.
        limit: Duration,
        /// What was seen meanwhile; empty when there is nothing to show.
        detail: String,
    },

    /// The guest ended while something was expected of it.
    #[error("QEMU ended ({status}) while {doing}{}", context(detail))]
    Ended {
        /// What was waited for.
        doing: String,
        /// Its exit status.
        status: String,
        /// The last that was seen; empty when there is nothing to show.
        detail: String,
    },

    /// The system refused an operation.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
}

fn context(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!("; last seen:\n{detail}")
    }
}

/// Wraps an I/O error with what was being done to which path.
pub(crate) fn at<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing: format!("{doing} {}", path.display()),
        source,
    }
}

/// Wraps an I/O error with what was being done.
pub(crate) fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        doing: doing.into(),
        source,
    }
}

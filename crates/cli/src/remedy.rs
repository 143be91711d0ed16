//! What to do about errors that can come from anywhere, because the system gives them to any
//! call.

use std::error::Error;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// What to do, if the error comes down to one of these.
pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    let errno = loop {
        let error = next?;
        if let Some(errno) = errno(error) {
            break errno;
        }
        next = error.source();
    };
    match errno {
        Errno::MFILE => {
            let limit = getrlimit(Resource::Nofile)
                .maximum
                .map_or_else(|| "none".to_owned(), |limit| limit.to_string());
            Some(format!(
                "This process has as many open files as it may have (hard limit: {limit}). Raise the \
                 limit (as root `prlimit --nofile=65536 --pid $$` for a shell; LimitNOFILE= in a systemd \
                 unit; /etc/security/limits.conf for logins), or divide the devices among several \
                 processes."
            ))
        }
        Errno::NFILE => Some(
            "All open files of this machine are in use. End other programs, or raise the sysctl \
             fs.file-max."
                .to_owned(),
        ),
        _ => None,
    }
}

fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    error.downcast_ref::<Errno>().copied().or_else(|| {
        let error = error.downcast_ref::<io::Error>()?;
        Errno::from_io_error(error)
    })
}

#[cfg(test)]
mod tests {
    use hdv_control::BindError;

    use super::*;

    #[test]
    fn the_limit_of_open_files_is_found_inside_other_errors() {
        let bind = |errno: Errno| BindError::Io {
            action: "lock",
            path: "/s".into(),
            source: errno.into(),
        };
        let remedy = of(&bind(Errno::MFILE)).unwrap();
        assert!(remedy.contains("LimitNOFILE"), "{remedy}");
        assert!(of(&bind(Errno::NFILE)).unwrap().contains("fs.file-max"));
        assert_eq!(of(&bind(Errno::ACCESS)), None);
        assert!(of(&Errno::MFILE).is_some());
    }
}

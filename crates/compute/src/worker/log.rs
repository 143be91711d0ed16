//! Logs of the worker and of the process of our own devices: files in its directory, of bounded size.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

/// Says what is logged, in the form of `tracing_subscriber`'s `EnvFilter`: `debug`, `info` (the default), ...
const VARIABLE: &str = "OPENHDV_WORKER_LOG";
/// How large the file grows at most, in bytes. What comes later is lost.
const LIMIT: usize = 1 << 20;

#[derive(Clone)]
struct Bounded {
    shared: Arc<Mutex<(File, usize)>>,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, left) = &mut *shared;
        if *left >= bytes.len() {
            *left -= bytes.len();
            file.write_all(bytes)?;
        } else {
            *left = 0;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs to a file in the worker's directory from now on.
///
/// # Errors
/// It cannot be made.
pub(super) fn start(directory: &Path, name: &str) -> io::Result<()> {
    let file = File::create(directory.join(name))?;
    let writer = Bounded {
        shared: Arc::new(Mutex::new((file, LIMIT))),
    };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    // A second one is not made.
    let _ = subscriber.try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = Bounded {
            shared: Arc::new(Mutex::new((File::create(&path).unwrap(), 10))),
        };
        for text in ["12345678", "9", "too long", "x"] {
            assert_eq!(writer.write(text.as_bytes()).unwrap(), text.len());
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "123456789");
    }
}

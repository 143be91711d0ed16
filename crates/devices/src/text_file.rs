//! Files of text that somebody names: ordinary ones of a bounded size. What they mean is their readers'.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Reads the text of a regular file of at most `limit` bytes.
///
/// # Errors
/// The system's; `path` is no regular file (a device or a pipe may have no end), there is more in it, or it is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    // Before it is opened: that alone would wait for the other end of a pipe.
    if !std::fs::metadata(path)?.is_file() {
        let message = "it is no regular file; copy what it gives into one";
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    let mut text = String::new();
    // One more shows that there is more. Its metadata may say nothing of that, as in /proc.
    let mut file = File::open(path)?.take(limit.saturating_add(1));
    let length = file.read_to_string(&mut text)?;
    if u64::try_from(length).is_ok_and(|length| length <= limit) {
        return Ok(text);
    }
    let message = format!("it has more than {limit} bytes, which is the limit");
    Err(io::Error::new(ErrorKind::FileTooLarge, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_the_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_text(file.path(), 5).unwrap(), "12345");
        let error = read_text(file.path(), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        // Its metadata says that it is empty.
        let error = read_text("/proc/self/status".as_ref(), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_may_have_no_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe.as_path(), "/dev/zero".as_ref(), directory.path()] {
            let error = read_text(path, 1 << 20).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
    }
}

//! Asking whoever started the guest: what happens to a device from outside is done there. A line of the report says what is
//! wanted, a line on the console what became of it.
//!
//! | line on the console | what became of it |
//! | --- | --- |
//! | `yes TEXT` | it is done; what there is to tell of it |
//! | `no TEXT` | it is not; why |

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

use crate::checks::Failure;
use crate::platform::{Error, Result};
use crate::report::Line;

/// The longest answer that is taken, in bytes.
const ANSWER_BYTES: usize = 4096;
/// What the answer to something done begins with.
const YES: &str = "yes";
/// What the answer to something not done begins with.
const NO: &str = "no";

/// How an answer is written, in one line.
#[must_use]
pub fn answer(done: &std::result::Result<String, String>) -> String {
    let (word, text) = match done {
        Ok(text) => (YES, text),
        Err(why) => (NO, why),
    };
    let line: Vec<_> = text.split_whitespace().collect();
    let mut line = format!("{word} {}", line.join(" "));
    let mut end = line.len().min(ANSWER_BYTES - 1);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line.push('\n');
    line
}

/// Asks for something and waits for it to be done; what there is to tell of it.
///
/// # Errors
/// It is not done, or there is no answer within `limit`.
pub fn ask(words: &str, limit: Duration) -> std::result::Result<String, Failure> {
    let line = Line::Ask {
        words: words.to_owned(),
    };
    let mut console = std::io::stdout().lock();
    console
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| console.flush())
        .map_err(|error| Error::file("/dev/console", "write", error))?;
    drop(console);
    let answer = next_line(words, limit)?;
    match answer.trim().split_once(' ').unwrap_or((answer.trim(), "")) {
        (YES, text) => Ok(text.to_owned()),
        (NO, why) => Err(Failure::new(format!("asked for {words:?}: {why}"))),
        _ => Err(Failure::new(format!(
            "asked for {words:?}, the answer is {answer:?}"
        ))),
    }
}

/// A whole line of the console.
fn next_line(words: &str, limit: Duration) -> Result<String> {
    let console = std::io::stdin();
    let deadline = Instant::now() + limit;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() >= ANSWER_BYTES {
            return Err(Error::Missing(format!(
                "the answer to {words:?} has more than {ANSWER_BYTES} bytes"
            )));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Missing(format!(
                "nobody answered to {words:?} within {} s",
                limit.as_secs()
            )));
        }
        let left = Timespec::try_from(left).map_err(|_| Error::call("poll", Errno::INVAL))?;
        let mut files = [PollFd::from_borrowed_fd(console.as_fd(), PollFlags::IN)];
        match poll(&mut files, Some(&left)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(Error::call("poll of the console", errno)),
        }
        // Byte by byte: what is behind the line is not for us.
        let mut byte = [0];
        match read(console.as_fd(), &mut byte) {
            Ok(0) => return Err(Error::call("read of the console", Errno::PIPE)),
            Ok(_) => line.extend(byte),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(Error::call("read of the console", errno)),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_one_line_of_bounded_length() {
        assert_eq!(answer(&Ok(String::new())), "yes \n");
        assert_eq!(
            answer(&Err("no\nsuch  port".to_owned())),
            "no no such port\n"
        );
        let long = answer(&Ok("é".repeat(ANSWER_BYTES)));
        assert!(
            long.len() <= ANSWER_BYTES && long.ends_with("é\n"),
            "{}",
            long.len()
        );
    }
}

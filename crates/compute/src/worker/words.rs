//! What QEMU says on its standard error: the last lines of it, for errors.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many lines are kept.
const LINES: usize = 20;
/// The longest line that is kept, in bytes; a longer one is cut into several.
const LINE_LIMIT: u64 = 1 << 10;

/// The last words of a child.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    shared: Arc<(Mutex<Kept>, Condvar)>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    ended: bool,
}

impl Words {
    /// Reads a stream to its end, on a thread.
    pub(super) fn of(stream: impl Read + Send + 'static) -> std::io::Result<Self> {
        let words = Self::default();
        let reading = words.clone();
        std::thread::Builder::new()
            .name("qemu-stderr".to_owned())
            .spawn(move || reading.read(stream))?;
        Ok(words)
    }

    fn read(&self, stream: impl Read) {
        let mut stream = BufReader::with_capacity(512, stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut stream).take(LINE_LIMIT).read_until(b'\n', &mut line);
            if !matches!(read, Ok(length) if length > 0) {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if text.is_empty() {
                continue;
            }
            tracing::warn!("QEMU: {text}");
            let mut kept = self.kept();
            if kept.lines.len() == LINES {
                kept.lines.pop_front();
            }
            kept.lines.push_back(text.to_owned());
        }
        self.kept().ended = true;
        self.shared.1.notify_all();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines, once the stream has ended or `limit` has passed.
    pub(super) fn last(&self, limit: Duration) -> String {
        let waited = self
            .shared
            .1
            .wait_timeout_while(self.kept(), limit, |kept| !kept.ended);
        let kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        kept.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let text: String = (0..50).map(|line| format!("line {line}\r\n\n")).collect();
        let words = Words::of(std::io::Cursor::new(text)).unwrap();
        let last = words.last(Duration::from_secs(60));
        assert_eq!(last.lines().count(), LINES);
        assert!(
            last.starts_with("line 30\n") && last.ends_with("line 49"),
            "{last}"
        );
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let words = Words::of(std::io::repeat(b'x').take(LINE_LIMIT * 100)).unwrap();
        let last = words.last(Duration::from_secs(60));
        assert_eq!(last.lines().count(), LINES);
    }
}

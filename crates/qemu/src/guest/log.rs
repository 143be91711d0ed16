//! The lines of one stream of a child, kept and waited for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most lines that are kept; the oldest go first.
const LINES_LIMIT: usize = 20_000;

/// The longest line; a longer one is cut into several.
const LINE_LIMIT: u64 = 64 << 10;

/// How long to wait for the rest of a stream whose process has ended: somebody else may hold its
/// other end.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The lines of a stream; a thread reads them as they come, so the writer never waits for long.
#[derive(Clone, Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    /// The number of the first line that is kept.
    first: u64,
    ended: bool,
}

impl State {
    fn push(&mut self, line: String) {
        if self.lines.len() == LINES_LIMIT {
            self.lines.pop_front();
            self.first += 1;
        }
        self.lines.push_back(line);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and lines are whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// The log of a stream; one that is not there has ended.
    pub(super) fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let shared = Arc::new(Shared::default());
        match stream {
            Some(stream) => {
                let shared = Arc::clone(&shared);
                thread::spawn(move || follow(stream, &shared));
            }
            None => shared.lock().ended = true,
        }
        Self { shared }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.shared.lock().lines.iter().cloned().collect()
    }

    pub(super) fn reader(&self) -> LineReader {
        LineReader {
            shared: Arc::clone(&self.shared),
            next: 0,
        }
    }

    /// Waits until the stream has ended.
    pub(super) fn drained(&self) {
        let state = self.shared.lock();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, DRAIN_LIMIT, |state| !state.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

fn follow(stream: impl Read, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = stream
            .by_ref()
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line);
        let more = matches!(read, Ok(length) if length > 0);
        let mut state = shared.lock();
        if more {
            state.push(
                String::from_utf8_lossy(&line)
                    .trim_end_matches(['\r', '\n'])
                    .to_owned(),
            );
        } else {
            state.ended = true;
        }
        drop(state);
        shared.changed.notify_all();
        if !more {
            return;
        }
    }
}

/// What a reader got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Line(String),
    TimedOut,
    Ended,
}

/// A reader of a guest's serial port with a place of its own.
#[derive(Clone, Debug)]
pub struct LineReader {
    shared: Arc<Shared>,
    next: u64,
}

impl LineReader {
    /// The next line, waiting at most `limit`; `None` when none came or none will.
    pub fn next_within(&mut self, limit: Duration) -> Option<String> {
        match self.next(limit) {
            Next::Line(line) => Some(line),
            Next::TimedOut | Next::Ended => None,
        }
    }

    /// Whether the stream has ended and every line was read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let state = self.shared.lock();
        state.ended && self.next >= state.first + state.lines.len() as u64
    }

    pub(super) fn next(&mut self, limit: Duration) -> Next {
        let deadline = crate::deadline::after(limit);
        let mut state = self.shared.lock();
        loop {
            // Lines that were dropped before this reader came to them are skipped.
            let at = self.next.max(state.first);
            let line = usize::try_from(at - state.first)
                .ok()
                .and_then(|index| state.lines.get(index));
            if let Some(line) = line {
                self.next = at + 1;
                return Next::Line(line.clone());
            }
            if state.ended {
                return Next::Ended;
            }
            let left = crate::deadline::left(deadline);
            if left.is_zero() {
                return Next::TimedOut;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn lines_come_as_they_are_written_and_each_reader_has_its_place() {
        let (stream, mut writer) = io::pipe().unwrap();
        let log = Log::of(Some(stream));
        let mut reader = log.reader();
        writer.write_all(b"one\r\ntw").unwrap();
        assert_eq!(reader.next(LIMIT), Next::Line("one".into()));
        assert_eq!(reader.next(Duration::from_millis(5)), Next::TimedOut);
        writer.write_all(b"o\n\xff").unwrap();
        assert_eq!(reader.next(LIMIT), Next::Line("two".into()));
        drop(writer);
        assert_eq!(reader.next(LIMIT), Next::Line("\u{fffd}".into()));
        assert_eq!(reader.next(LIMIT), Next::Ended);
        assert!(reader.is_at_end());
        assert_eq!(log.reader().next_within(LIMIT).as_deref(), Some("one"));
        log.drained();
        assert_eq!(log.lines().len(), 3);
    }

    #[test]
    fn a_flood_keeps_the_last_lines_and_costs_no_more() {
        let text: Vec<u8> = (0..LINES_LIMIT + 5)
            .flat_map(|line| format!("{line}\n").into_bytes())
            .collect();
        let log = Log::of(Some(io::Cursor::new(text)));
        let mut early = log.reader();
        log.drained();
        assert_eq!(log.lines().len(), LINES_LIMIT);
        assert_eq!(early.next(LIMIT), Next::Line("5".into()));
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let text = vec![b'x'; usize::try_from(LINE_LIMIT).unwrap() + 1];
        let log = Log::of(Some(io::Cursor::new(text)));
        log.drained();
        let lengths: Vec<_> = log.lines().iter().map(String::len).collect();
        assert_eq!(lengths, [usize::try_from(LINE_LIMIT).unwrap(), 1]);
    }
}

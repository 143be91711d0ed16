//! The log, to a callback of the caller's.
//!
//! In a Rust program that has set a subscriber of its own, that one has the log.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{fmt, reload};

use crate::error::{Failure, codes};
use crate::guard::{self, call_out};
use crate::types::{Hresult, LogCallback};

/// By `OPENHDV_LOG_LEVEL`.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Where the log goes. Never held while a callback runs: one that waits for another thread would wait for
/// what that thread logs, and that for whoever sets another callback.
static SINK: RwLock<Option<Arc<Sink>>> = RwLock::new(None);

static FILTER: OnceLock<Option<reload::Handle<LevelFilter, Registry>>> = OnceLock::new();

thread_local! {
    /// This thread is inside the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Sink {
    callback: LogCallback,
    context: *mut c_void,
    /// Held for reading during each call, so that whoever has set another can wait for the last of them.
    calls: RwLock<()>,
}

// SAFETY: the context is only handed to the callback, which takes calls from any thread by the
// contract of `OpenHdvSetLogCallback`.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

/// One event's line, delivered when it is whole.
struct Line {
    level: Level,
    text: Vec<u8>,
}

impl io::Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.retain(|&byte| byte != 0);
        while text.last() == Some(&b'\n') {
            text.pop();
        }
        let Ok(text) = CString::new(text) else { return };
        // Neither for a line that the callback itself brings about, nor while the thread ends.
        if INSIDE.try_with(|inside| inside.replace(true)) != Ok(false) {
            return;
        }
        let level = match self.level {
            Level::ERROR => 1,
            Level::WARN => 2,
            Level::INFO => 3,
            Level::DEBUG => 4,
            Level::TRACE => 5,
        };
        deliver(level, &text);
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }
}

fn deliver(level: i32, text: &CStr) {
    let current = SINK.read().unwrap_or_else(PoisonError::into_inner);
    let Some(sink) = current.as_ref().map(Arc::clone) else {
        return;
    };
    // Before the other lock is released; nobody waits for this one as long as the sink is the current one.
    let _calling = sink.calls.read().unwrap_or_else(PoisonError::into_inner);
    drop(current);
    // SAFETY: by the contract of `OpenHdvSetLogCallback`; the text lives until after the call.
    call_out("the log callback", || unsafe {
        (sink.callback)(sink.context, level, text.as_ptr());
    });
}

/// Sets where the log goes; returns when the callback before is not running and will not be called.
fn replace(sink: Option<Sink>) {
    let before = std::mem::replace(
        &mut *SINK.write().unwrap_or_else(PoisonError::into_inner),
        sink.map(Arc::new),
    );
    if let Some(before) = before {
        drop(before.calls.write().unwrap_or_else(PoisonError::into_inner));
    }
}

struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            level: Level::INFO,
            text: Vec::new(),
        }
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Line {
        Line {
            level: *metadata.level(),
            text: Vec::new(),
        }
    }
}

/// The subscriber's filter; `None` if the program has a subscriber of its own.
fn filter() -> Option<&'static reload::Handle<LevelFilter, Registry>> {
    let install = || {
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        let lines = fmt::layer()
            .with_writer(Lines)
            .with_ansi(false)
            .with_level(false)
            .without_time();
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        tracing::subscriber::set_global_default(subscriber)
            .is_ok()
            .then_some(handle)
    };
    FILTER.get_or_init(install).as_ref()
}

/// Sets where the log goes.
///
/// # Safety
/// `callback` is null or keeps to its type, and may be called with `context` on any thread until another is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvSetLogCallback(
    level: i32,
    callback: Option<LogCallback>,
    context: *mut c_void,
) -> Hresult {
    guard::result(|| {
        let filter_level = usize::try_from(level)
            .ok()
            .and_then(|level| LEVELS.get(level))
            .copied()
            .ok_or_else(|| {
                Failure::argument(format!("{level} is no OPENHDV_LOG_LEVEL: there are 0 to 5"))
            })?;
        if INSIDE.try_with(Cell::get).unwrap_or(false) {
            return Err(Failure::new(
                codes::POSSIBLE_DEADLOCK,
                "the log callback cannot be set from inside one",
            ));
        }
        let sink = callback.map(|callback| Sink {
            callback,
            context,
            calls: RwLock::new(()),
        });
        let filter_level = match sink {
            Some(_) => filter_level,
            None => LevelFilter::OFF,
        };
        let filter = filter().ok_or_else(|| {
            Failure::new(
                codes::ALREADY_EXISTS,
                "the program has a tracing subscriber already, which gets the log",
            )
        })?;
        replace(sink);
        filter
            .modify(|current| *current = filter_level)
            .map_err(|error| Failure::new(codes::E_FAIL, error.to_string()))
    })
}

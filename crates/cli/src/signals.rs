//! Waiting for the signals that ask this process to end: SIGINT, SIGTERM and SIGHUP.
//!
//! They are waited for on an ordinary thread, so that what follows can remove sockets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The signals that ask a process to end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Catches the ending signals from now on.
pub(crate) struct EndingSignals {
    signals: Signals,
    asked: Arc<AtomicBool>,
}

impl EndingSignals {
    /// Catches them.
    pub(crate) fn catch() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in ENDING {
            flag::register_conditional_default(signal, Arc::clone(&asked))?;
        }
        let signals = Signals::new(ENDING)?;
        Ok(Self { signals, asked })
    }

    /// Waits for one of them; from then on a further one ends the process at once. Returns its
    /// name.
    pub(crate) fn wait(mut self) -> &'static str {
        let signal = self.signals.forever().next();
        self.asked.store(true, Ordering::SeqCst);
        match signal {
            Some(SIGINT) => "SIGINT",
            Some(SIGTERM) => "SIGTERM",
            _ => "SIGHUP",
        }
    }
}

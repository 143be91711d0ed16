//! A line on standard error, if that is a terminal, while something takes long.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How long nobody needs to be told anything.
const QUIET: Duration = Duration::from_secs(1);
/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Does `work`, and says that it goes on if it takes more than a second.
pub(crate) fn during<T>(message: &str, work: impl FnOnce() -> T) -> T {
    let (ended, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(QUIET) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let spinner = ProgressBar::new_spinner()
                .with_style(ProgressStyle::default_spinner())
                .with_message(message.to_owned());
            spinner.enable_steady_tick(TICK);
            // An error: the sender is gone, as it is when the work panicked.
            let _ = end.recv();
            spinner.finish_and_clear();
        });
        let result = work();
        drop(ended);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_comes_through() {
        assert_eq!(during("Nothing", || 7), 7);
    }
}

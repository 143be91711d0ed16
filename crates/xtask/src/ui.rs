//! What the tasks show while they work: lines and a progress bar on standard error, so that
//! standard output holds results only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// Standard error as the tasks use it.
#[derive(Debug)]
pub(crate) struct Ui {
    begun: Instant,
    bar: ProgressBar,
    terminal: bool,
}

impl Ui {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            begun: Instant::now(),
            bar,
            terminal,
        }
    }

    /// Says what is being done now.
    pub(crate) fn doing(&self, what: &str) {
        if self.terminal {
            self.bar.reset_elapsed();
            self.bar.set_message(what.to_owned());
        } else {
            self.line(what);
        }
    }

    /// Says how far it is; only a terminal shows it.
    pub(crate) fn progress(&self, how_far: String) {
        self.bar.set_message(how_far);
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        let seconds = self.begun.elapsed().as_secs_f32();
        let line = format!("[{seconds:6.1} s] {text}");
        if self.terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// A result: good or bad, what it is about, and what was seen.
    pub(crate) fn verdict(&self, ok: bool, name: &str, detail: &str) {
        let (mark, color) = if ok {
            ("ok", AnsiColor::Green)
        } else {
            ("FAILED", AnsiColor::Red)
        };
        let style = if self.terminal && std::env::var_os("NO_COLOR").is_none() {
            Style::new().fg_color(Some(color.into()))
        } else {
            Style::new()
        };
        self.line(&format!("{style}{mark:>6}{style:#} {name}: {detail}"));
    }

    /// Takes the progress bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

//! A picture on a terminal that is drawn again every second, over itself, until a signal ends that. No mode of the terminal is
//! changed, so nothing is left behind however this ends; on a signal the picture goes, too.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use super::draw::Line;
use crate::Failure;
use crate::signals::EndingSignals;
use crate::style::{self, Paint};

/// How often it is drawn.
const PERIOD: Duration = Duration::from_secs(1);
/// The size of a terminal that does not say its own.
const USUAL: (usize, usize) = (24, 80);

pub(super) fn run(picture: impl Fn() -> Vec<Line>) -> Result<(), Failure> {
    let output = io::stdout();
    if !output.is_terminal() {
        return Err("--watch draws on a terminal, and standard output is none; leave it out, or call `hdv tree --json` \
                    again and again"
            .into());
    }
    let signals = EndingSignals::catch()?;
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let _ = sender.send(signals.wait());
    });
    let mut drawn = 0;
    loop {
        let size = tcgetwinsize(&output).ok();
        let size = size.map(|size| (size.ws_row.into(), size.ws_col.into()));
        let size = size.filter(|(rows, columns)| *rows > 1 && *columns > 1);
        let (text, lines) = frame(&picture(), drawn, size.unwrap_or(USUAL), Paint::stdout());
        style::print(&text)?;
        drawn = lines;
        match ended.recv_timeout(PERIOD) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    style::print(&erase(drawn))?;
    Ok(())
}

/// Goes to the beginning of the first of so many lines above the cursor and erases all from there on.
fn erase(lines: usize) -> String {
    match lines {
        0 => "\r\x1b[J".to_owned(),
        _ => format!("\r\x1b[{lines}A\x1b[J"),
    }
}

/// What draws the lines over the last picture, of `before` lines, and how many lines that are. What does not fit a terminal of so
/// many rows and columns is left out, and said to be.
fn frame(
    lines: &[Line],
    before: usize,
    (rows, columns): (usize, usize),
    paint: Paint,
) -> (String, usize) {
    let mut text = erase(before);
    // The cursor stands in the last row.
    let room = rows - 1;
    let fits = lines.len() <= room;
    let shown = if fits { lines.len() } else { room - 1 };
    for line in &lines[..shown] {
        // One less: a full line has the cursor wait at its end.
        let _ = writeln!(text, "{}", line.render(paint, columns - 1));
    }
    if !fits {
        let more = format!("... {} more lines", lines.len() - shown);
        let _ = writeln!(text, "{}", Line::text(&more).render(paint, columns - 1));
    }
    (text, shown + usize::from(!fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_drawn_over_the_last_one_and_cut_to_the_terminal() {
        let lines: Vec<Line> = ["one", "a long line", "three"].map(Line::text).into();
        let (text, drawn) = frame(&lines, 0, (24, 80), Paint::none());
        assert_eq!(text, "\r\x1b[Jone\na long line\nthree\n");
        assert_eq!(drawn, 3);
        let (text, drawn) = frame(&lines, drawn, (3, 7), Paint::none());
        assert_eq!(text, "\r\x1b[3A\x1b[Jone\n... 2\n");
        assert_eq!(drawn, 2);
    }
}

//! A picture on a terminal that is drawn again every second, over itself, until a signal ends that and leaves the last one. No mode
//! of the terminal is changed, so nothing else is left behind however this ends.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::mpsc;
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

/// What happens while it is watched.
enum Event<T> {
    /// It was looked at.
    Seen(T),
    Ended,
}

/// Draws what `look` sees; `draw` gives the lines of that for so many rows, if they suffice.
pub(super) fn run<T: Send + 'static>(
    look: impl Fn() -> T + Send + 'static,
    draw: impl Fn(&T, usize) -> Vec<Line>,
) -> Result<(), Failure> {
    let output = io::stdout();
    if !output.is_terminal() {
        return Err("--watch draws on a terminal, and standard output is none; leave it out, or call `hdv tree --json` \
                    again and again"
            .into());
    }
    let signals = EndingSignals::catch()?;
    let (sender, events) = mpsc::channel();
    let ended = sender.clone();
    thread::spawn(move || {
        signals.wait();
        let _ = ended.send(Event::Ended);
    });
    // On a thread of its own, which ends with the process: a host may not answer.
    thread::spawn(move || {
        while sender.send(Event::Seen(look())).is_ok() {
            thread::sleep(PERIOD);
        }
    });
    // Until the first picture.
    let asking = Line::text("Asking the device hosts");
    let (text, mut drawn) = frame(&[asking], 0, USUAL, Paint::stdout());
    style::print(&text)?;
    while let Ok(Event::Seen(seen)) = events.recv() {
        let size = tcgetwinsize(&output).ok();
        let size = size.map(|size| (size.ws_row.into(), size.ws_col.into()));
        let size = size.filter(|(rows, columns)| *rows > 1 && *columns > 1);
        let size = size.unwrap_or(USUAL);
        let (text, lines) = frame(&draw(&seen, room(size)), drawn, size, Paint::stdout());
        style::print(&text)?;
        drawn = lines;
    }
    Ok(())
}

/// Goes to the beginning of the first of so many lines above the cursor and erases all from there on.
fn erase(lines: usize) -> String {
    match lines {
        0 => "\r\x1b[J".to_owned(),
        _ => format!("\r\x1b[{lines}A\x1b[J"),
    }
}

/// Rows for a picture: the cursor stands in the last one.
fn room((rows, _): (usize, usize)) -> usize {
    rows - 1
}

/// What draws the lines over the last picture, of `before` lines, and how many lines that are. What does not fit a terminal of so
/// many rows and columns is left out, and said to be.
fn frame(lines: &[Line], before: usize, size: (usize, usize), paint: Paint) -> (String, usize) {
    let mut text = erase(before);
    let (room, columns) = (room(size), size.1);
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

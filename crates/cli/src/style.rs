//! How output looks: colours (on a terminal only), tables, sizes, and writing it all.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// Names of things that can be typed.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
/// What is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What wants attention.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Narrowest terminal for which tables are wrapped, in columns.
const WIDTH_MIN: u16 = 60;

/// The narrowest that a column gets in a narrow terminal.
const GIVEN_WAY_MIN: u16 = 12;

/// Whether an output gets colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self(wants_colour(&io::stdout()))
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self(wants_colour(&io::stderr()))
    }

    /// Without colours.
    pub(crate) fn none() -> Self {
        Self(false)
    }

    /// Whether there are colours.
    pub(crate) fn is_on(self) -> bool {
        self.0
    }

    /// `text` in `style`.
    pub(crate) fn paint(self, style: Style, text: impl Display) -> String {
        if self.0 {
            format!("{style}{text}{style:#}")
        } else {
            text.to_string()
        }
    }
}

/// <https://no-color.org>: any value but the empty one switches colours off.
fn wants_colour(output: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    output.is_terminal() && !set("NO_COLOR") && !dumb
}

/// An empty table with these headings, if any, as wide as the terminal.
pub(crate) fn table(paint: Paint, headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    // Without a terminal nothing is wrapped: programs read lines. Nor in one that is so
    // narrow, or says it has no width at all, that columns could not be read.
    if io::stdout().is_terminal() && table.width().is_some_and(|width| width >= WIDTH_MIN) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    if !headings.is_empty() {
        table.set_header(headings.iter().map(|heading| paint.paint(HEADING, heading)));
    }
    table
}

/// Lets only these columns give way in a narrow terminal: a path that is broken over lines cannot be copied.
pub(crate) fn give_way(table: &mut Table, columns: &[usize]) {
    let widths = table.column_max_content_widths();
    for column in table.column_iter_mut() {
        let is_wide = widths
            .get(column.index)
            .is_some_and(|width| *width > GIVEN_WAY_MIN);
        column.set_constraint(if is_wide && columns.contains(&column.index) {
            ColumnConstraint::LowerBoundary(Width::Fixed(GIVEN_WAY_MIN))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
}

/// The table's lines without the blanks around them.
pub(crate) fn lines(table: &Table, indent: &str) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        // The preset leaves one blank before the first column.
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        text.push_str(indent);
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Text that somebody else chose, without what would move a terminal's cursor, turn text around or not be seen.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The same of several lines, which stay lines; tabs become blanks.
pub(crate) fn printable_lines(text: &str) -> String {
    let shown = |c| match c {
        '\n' => '\n',
        '\t' => ' ',
        _ => shown(c),
    };
    text.chars().map(shown).collect()
}

fn shown(c: char) -> char {
    let is_unseen = matches!(
        c,
        // Soft hyphen, marks of direction, joiners and blanks without width, separators of lines, embeddings, overrides and
        // isolates, shapes, annotations, tags.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    if c.is_control() || is_unseen { '?' } else { c }
}

/// A size in bytes, in the largest unit that divides it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut number = bytes;
    let mut unit = 0;
    while number != 0 && number.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number} {}", UNITS[unit])
}

/// Writes to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(16), "16 bytes");
        assert_eq!(size(4096), "4 KiB");
        assert_eq!(size(4097), "4097 bytes");
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(1 << 63), "8 EiB");
    }

    #[test]
    fn what_others_wrote_cannot_steer_a_terminal() {
        let hostile = "a\u{1b}]0;b\u{9b}c\td\re\nf\u{202e}g\u{200b}h\u{2066}i\u{feff}\u{fc}";
        assert_eq!(printable(hostile), "a?]0;b?c?d?e?f?g?h?i?\u{fc}");
        assert_eq!(printable_lines(hostile), "a?]0;b?c d?e\nf?g?h?i?\u{fc}");
    }

    #[test]
    fn colours_are_off_or_closed_again() {
        assert_eq!(Paint(false).paint(BAD, "x"), "x");
        let text = Paint(true).paint(BAD, "x");
        assert!(
            text.starts_with("\u{1b}[") && text.ends_with("\u{1b}[0m"),
            "{text:?}"
        );
    }

    #[test]
    fn tables_have_no_blanks_around_their_lines() {
        let mut table = table(Paint::none(), &["a", "b"]);
        table.add_row(["1", "2"]);
        for line in lines(&table, "").lines() {
            assert_eq!(line, line.trim());
        }
    }
}

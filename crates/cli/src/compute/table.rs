//! Compute systems in a list.

use hdv_compute::Summary;
use hdv_compute::document::State;

use crate::style::{self, Paint, printable};

/// The lines for them; none for none.
pub(crate) fn render(systems: &[Summary], paint: Paint) -> String {
    if systems.is_empty() {
        return String::new();
    }
    let mut table = style::table(paint, &["VM", "STATE", "OWNER", "RUNTIME ID"]);
    for system in systems {
        table.add_row([
            paint.paint(style::NAME, printable(&system.id)),
            state(system.state, paint),
            printable(&system.owner),
            system.runtime_id.to_string(),
        ]);
    }
    style::lines(&table, "")
}

/// A state in words.
pub(super) fn state(state: State, paint: Paint) -> String {
    let (style, word) = match state {
        State::Created => (style::HEADING, "created"),
        State::Running => (style::GOOD, "running"),
        State::Paused => (style::WARNING, "paused"),
        State::Stopped => (style::BAD, "stopped"),
    };
    paint.paint(style, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_line_and_moves_no_cursor() {
        assert_eq!(render(&[], Paint::none()), "");
        let system = Summary {
            id: "a\u{1b}[2J".to_owned(),
            runtime_id: hdv::Uuid::nil(),
            owner: "me\n".to_owned(),
            state: State::Paused,
            socket: "/s".into(),
            vmm_process_id: None,
            devices: std::collections::BTreeMap::new(),
        };
        let text = render(&[system], Paint::none());
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("a?[2J") && text.contains("paused") && text.contains("me?"));
    }
}

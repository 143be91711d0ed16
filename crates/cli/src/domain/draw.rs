//! A domain in lines, as `lspci -tv` draws one.

use anstyle::Style;
use hdv::DeviceState;
use hdv::domain::{IndicatorState, InterruptMode, NodeKind, PortNode, SlotNode};

use super::node::{Domain, Node};
use crate::process;
use crate::style::{self, Paint, printable};

/// One line, in parts.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<(Option<Style>, String)>);

impl Line {
    pub(super) fn text(text: &str) -> Self {
        Self::default().plain(printable(text))
    }

    fn plain(mut self, text: impl Into<String>) -> Self {
        self.0.push((None, text.into()));
        self
    }

    fn styled(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((Some(style), text.into()));
        self
    }

    /// The line, in at most so many columns.
    pub(super) fn render(&self, paint: Paint, width: usize) -> String {
        let mut left = width;
        let mut out = String::new();
        for (style, text) in &self.0 {
            let cut: String = text
                .chars()
                .take_while(|c| {
                    let columns = columns(*c);
                    let fits = columns <= left;
                    left = if fits { left - columns } else { 0 };
                    fits
                })
                .collect();
            out += &match style {
                Some(style) if !cut.is_empty() => paint.paint(*style, cut),
                _ => cut,
            };
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// Columns that a character may take.
fn columns(c: char) -> usize {
    // Of what is not ASCII only the lines of the tree are known to take one.
    let is_line = ('\u{2500}'..='\u{257f}').contains(&c);
    if c.is_ascii() || is_line { 1 } else { 2 }
}

/// How VFs are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vfs {
    /// A line for each.
    Each,
    /// A line for those of a PF.
    Together,
}

/// All lines of a domain.
pub(super) fn lines(domain: &Domain, vfs: Vfs) -> Vec<Line> {
    let mut lines = vec![heading(domain)];
    // For each depth, whether more comes at it.
    let mut more: Vec<bool> = Vec::new();
    let names = domain.nodes.iter().map(|node| name(node).chars().count());
    let names = names.max().unwrap_or(0).min(NAME_WIDTH);
    let mut rest = &domain.nodes[..];
    while let Some(node) = rest.first() {
        let is_sibling =
            |other: &&Node| other.kind == NodeKind::VirtualFunction && other.depth == node.depth;
        let together = match vfs {
            Vfs::Each => 1,
            Vfs::Together => rest.iter().take_while(is_sibling).count().max(1),
        };
        let (nodes, after) = rest.split_at(together);
        let next = after.iter().find(|next| next.depth <= node.depth);
        more.truncate(node.depth);
        more.push(next.is_some_and(|next| next.depth == node.depth));
        lines.push(match nodes {
            [first, .., last] => together_line(first, last, nodes, &more),
            _ => line(node, &more, names),
        });
        rest = after;
    }
    lines
}

/// VFs of a PF.
fn together_line(first: &Node, last: &Node, all: &[Node], more: &[bool]) -> Line {
    let is_started = |vf: &&Node| vf.state == Some(DeviceState::Started);
    let started = all.iter().filter(is_started).count();
    at(first, more)
        .styled(style::NAME, format!("{} to {}", name(first), name(last)))
        .plain(format!("  {} VFs, {started} started", all.len()))
}

/// The widest that names are aligned to.
const NAME_WIDTH: usize = 24;

fn heading(domain: &Domain) -> Line {
    let line = Line::default().styled(style::NAME, printable(&domain.name));
    let Some(endpoint) = &domain.endpoint else {
        return line.plain("  its endpoint is gone");
    };
    let line = line.plain(format!("  {}:{}", endpoint.vendor, endpoint.device));
    let line = line.plain(format!("  {}", process::describe(domain.pid)));
    match &endpoint.client {
        None => line.styled(style::WARNING, "  nobody connected"),
        Some(client) => {
            let client = client
                .pid
                .map_or_else(|| "unknown process".to_owned(), process::describe);
            let line = line.styled(style::GOOD, format!("  connected: {client}"));
            match &endpoint.system {
                Some(system) => line.plain(format!(", VM {}", printable(system))),
                None => line,
            }
        }
    }
}

fn name(node: &Node) -> String {
    let is_vf = node.kind == NodeKind::VirtualFunction;
    // That of a VF says its PF's over again.
    let name = node.name.as_deref().filter(|_| !is_vf);
    let number = node.path.rsplit('/').next().unwrap_or_default();
    printable(name.unwrap_or(if is_vf { number } else { "" }))
}

/// The beginning of a node's line: where it is.
fn at(node: &Node, more: &[bool]) -> Line {
    let mut lines = String::new();
    if let Some((own, above)) = more.split_last() {
        for more in above {
            lines.push_str(if *more { "│  " } else { "   " });
        }
        lines.push_str(if *own { "├─ " } else { "└─ " });
    }
    // What the guest has not numbered is called by its way.
    let address = match &node.address {
        Some(address) => address.clone(),
        None => format!("--:{}", node.path.rsplit('/').next().unwrap_or_default()),
    };
    Line::default()
        .plain(lines)
        .plain(format!("{address:<7}  "))
}

fn line(node: &Node, more: &[bool], names: usize) -> Line {
    let name = name(node);
    let blanks = " ".repeat(names.saturating_sub(name.chars().count()));
    let line = at(node, more)
        .styled(style::NAME, name)
        .plain(blanks)
        .plain(format!("  {}:{}  ", node.vendor, node.device));
    match &node.port {
        Some(port) => of_port(node, port, line),
        None => of_function(node, line),
    }
}

fn of_port(node: &Node, port: &PortNode, line: Line) -> Line {
    let kind = match node.kind {
        NodeKind::RootPort => "root port",
        NodeKind::UpstreamPort => "upstream port",
        _ => "downstream port",
    };
    let mut line = line.plain(kind);
    if node.address.is_some() && port.secondary != 0 {
        let (first, last) = (port.secondary, port.subordinate);
        line = line.plain(if first == last {
            format!(", bus {first:02x}")
        } else {
            format!(", buses {first:02x}-{last:02x}")
        });
    }
    if let Some(slot) = &port.slot {
        line = line.plain(format!(", slot {} ", slot.number));
        let (style, word) = slot_word(slot);
        line = line.styled(style, word);
    }
    match (node.kind, port.link_up) {
        (NodeKind::UpstreamPort, _) => line,
        (_, true) => line.plain(", link ").styled(style::GOOD, "up"),
        (_, false) => line.plain(", link ").styled(style::WARNING, "down"),
    }
}

/// What a person at the slot sees.
fn slot_word(slot: &SlotNode) -> (Style, &'static str) {
    let is_attention = slot.attention_indicator != IndicatorState::Off;
    match slot {
        SlotNode {
            power_indicator: IndicatorState::Blinking,
            ..
        } => (style::WARNING, "blinking"),
        _ if is_attention => (style::BAD, "wants attention"),
        SlotNode {
            occupied: false, ..
        } => (Style::new(), "empty"),
        SlotNode { powered: true, .. } => (style::GOOD, "on"),
        _ => (style::WARNING, "off"),
    }
}

fn of_function(node: &Node, line: Line) -> Line {
    let state = node.state.map_or("", |state| match state {
        DeviceState::PoweredOff => "powered off",
        DeviceState::Stopped => "stopped",
        DeviceState::Started => "started",
        DeviceState::Failed => "failed",
        DeviceState::Gone => "gone",
    });
    let style = match node.state {
        Some(DeviceState::Failed) => style::BAD,
        Some(DeviceState::Started) => style::GOOD,
        _ => Style::new(),
    };
    let mut line = line.styled(style, state);
    let interrupts = match node.interrupts {
        InterruptMode::None => None,
        InterruptMode::Msi => Some("MSI"),
        InterruptMode::MsiX => Some("MSI-X"),
    };
    let has = [
        node.memory_enabled.then_some("memory"),
        node.bus_master.then_some("bus master"),
        interrupts,
    ];
    let has: Vec<_> = has.into_iter().flatten().collect();
    if !has.is_empty() {
        line = line.plain(format!(", {}", has.join(", ")));
    }
    if let Some(sriov) = &node.sriov {
        line = line.plain(format!(", {} of {} VFs", sriov.num_vfs, sriov.total_vfs));
    }
    line
}

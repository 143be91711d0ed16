//! What was measured, as a table for people and as JSON for machines.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::contest::Results;
use super::machine::Machine;
use super::statistics::Ratio;

/// What the values of a section are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    /// Nanoseconds for one repetition.
    Nanoseconds,
    /// Repetitions in a second. Ratios are of times all the same.
    PerSecond,
    /// Bytes of memory.
    Bytes,
}

/// How a row compares with another of its section.
#[derive(Clone, Debug, Serialize)]
struct Comparison {
    against: &'static str,
    ratio: Ratio,
    /// The median ratio that is wanted, at most.
    target: Option<f64>,
    reached: Option<bool>,
}

/// One contender.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    value: f64,
    comparisons: Vec<Comparison>,
    /// The value that is wanted, at most.
    target: Option<f64>,
    reached: Option<bool>,
}

/// Contenders that took turns.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    title: String,
    unit: Unit,
    rows: Vec<Row>,
}

impl Section {
    pub(super) fn new(title: impl Into<String>, unit: Unit) -> Self {
        Self {
            title: title.into(),
            unit,
            rows: Vec::new(),
        }
    }

    /// Adds a contender; what it is compared with follows by [`compare`](Self::compare).
    pub(super) fn row(&mut self, results: &Results, name: &'static str) -> &mut Self {
        let time = results.median(name);
        let value = match self.unit {
            Unit::PerSecond => 1e9 / time,
            Unit::Nanoseconds | Unit::Bytes => time,
        };
        self.value(name, value, None)
    }

    /// Adds a row that is no contender, with the value that is wanted at most.
    pub(super) fn value(
        &mut self,
        name: impl Into<String>,
        value: f64,
        target: Option<f64>,
    ) -> &mut Self {
        self.rows.push(Row {
            name: name.into(),
            value,
            comparisons: Vec::new(),
            target,
            reached: target.map(|target| value <= target),
        });
        self
    }

    /// Adds a contender and compares it.
    pub(super) fn compare(
        &mut self,
        results: &Results,
        name: &'static str,
        against: &[(&'static str, Option<f64>)],
    ) -> &mut Self {
        self.row(results, name);
        let comparisons = against.iter().map(|(against, target)| {
            let ratio = results.ratio(name, against);
            Comparison {
                against,
                ratio,
                target: *target,
                reached: target.map(|target| ratio.median <= target),
            }
        });
        if let Some(row) = self.rows.last_mut() {
            row.comparisons.extend(comparisons);
        }
        self
    }

    /// Each target: reached, or what was missed and by how much.
    fn verdicts(&self) -> Vec<Result<(), String>> {
        let of = |what: String, seen: String, target: Option<String>, reached: Option<bool>| {
            let verdict = if reached? {
                Ok(())
            } else {
                let target = at_most(target);
                Err(format!("{}: {what}: {seen}, wanted {target}", self.title))
            };
            Some(verdict)
        };
        let mut verdicts = Vec::new();
        for row in &self.rows {
            let target = row.target.map(|target| show(self.unit, target));
            let seen = show(self.unit, row.value);
            verdicts.extend(of(row.name.clone(), seen, target, row.reached));
            for comparison in &row.comparisons {
                let what = format!("{} against {}", row.name, comparison.against);
                let seen = format!("{:.3}", comparison.ratio.median);
                let target = comparison.target.map(|target| format!("{target:.2}"));
                verdicts.extend(of(what, seen, target, comparison.reached));
            }
        }
        verdicts
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_header([
            self.title.as_str(),
            "median",
            "against",
            "ratio",
            "spread",
            "target",
            "reached",
        ]);
        for row in &self.rows {
            let mut name = row.name.clone();
            let mut value = show(self.unit, row.value);
            if row.comparisons.is_empty() {
                let target = row.target.map(|target| show(self.unit, target));
                table.add_row([
                    name,
                    value,
                    String::new(),
                    String::new(),
                    String::new(),
                    at_most(target),
                    yes_or_no(row.reached),
                ]);
                continue;
            }
            for comparison in &row.comparisons {
                let Ratio { median, low, high } = comparison.ratio;
                table.add_row([
                    std::mem::take(&mut name),
                    std::mem::take(&mut value),
                    comparison.against.to_owned(),
                    format!("{median:.3}"),
                    format!("{low:.3} - {high:.3}"),
                    at_most(comparison.target.map(|target| format!("{target:.2}"))),
                    yes_or_no(comparison.reached),
                ]);
            }
        }
        for column in [1, 3, 4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

fn at_most(target: Option<String>) -> String {
    target.map_or_else(String::new, |target| format!("≤ {target}"))
}

fn yes_or_no(reached: Option<bool>) -> String {
    match reached {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    }
    .to_owned()
}

fn show(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds if value < 1e3 => format!("{value:.1} ns"),
        Unit::Nanoseconds if value < 1e6 => format!("{:.2} µs", value / 1e3),
        Unit::Nanoseconds => format!("{:.2} ms", value / 1e6),
        Unit::PerSecond => format!("{value:.0} /s"),
        Unit::Bytes if value < 1024.0 * 1024.0 => format!("{:.1} KiB", value / 1024.0),
        Unit::Bytes => format!("{:.2} MiB", value / 1024.0 / 1024.0),
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// What was measured could be measured. Targets that were missed do not change it.
    ok: bool,
    machine: Machine,
    rounds: u32,
    sections: Vec<Section>,
}

impl Report {
    pub(super) fn new(machine: Machine, rounds: u32, sections: Vec<Section>) -> Self {
        Self {
            ok: true,
            machine,
            rounds,
            sections,
        }
    }

    /// The report on one line.
    pub(super) fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The report for people, in Markdown.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}\n\nMedians of {} rounds. A ratio is the median of the rounds' quotients of times \
             (below 1 is faster), its spread their 10th to 90th percentile. \"Again\" is the same \
             thing once more in the same round: what differs there is noise.\n",
            self.machine, self.rounds
        );
        for section in &self.sections {
            text.push_str(&format!("\n{}\n", section.table()));
        }
        let verdicts: Vec<_> = self.sections.iter().flat_map(Section::verdicts).collect();
        let missed: Vec<_> = verdicts
            .iter()
            .filter_map(|verdict| verdict.as_ref().err())
            .collect();
        text.push_str(&format!(
            "\n{} of {} targets reached.\n",
            verdicts.len() - missed.len(),
            verdicts.len()
        ));
        for missed in missed {
            text.push_str(&format!("- missed: {missed}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_units_for_people() {
        assert_eq!(show(Unit::Nanoseconds, 12.34), "12.3 ns");
        assert_eq!(show(Unit::Nanoseconds, 12_345.0), "12.35 µs");
        assert_eq!(show(Unit::Nanoseconds, 12_345_678.0), "12.35 ms");
        assert_eq!(show(Unit::PerSecond, 1234.5), "1234 /s");
        assert_eq!(show(Unit::Bytes, 1536.0), "1.5 KiB");
        assert_eq!(show(Unit::Bytes, 1.5 * 1024.0 * 1024.0), "1.50 MiB");
    }

    #[test]
    fn a_target_is_reached_or_missed() {
        let mut section = Section::new("memory", Unit::Bytes);
        section
            .value("small", 1.0, Some(2.0))
            .value("large", 3.0, Some(2.0))
            .value("whatever", 4.0, None);
        let reached: Vec<_> = section.rows.iter().map(|row| row.reached).collect();
        assert_eq!(reached, [Some(true), Some(false), None]);
        assert_eq!(
            section.verdicts(),
            [
                Ok(()),
                Err("memory: large: 0.0 KiB, wanted ≤ 0.0 KiB".to_owned())
            ]
        );
        let table = section.table().to_string();
        assert!(table.contains("yes") && table.contains("NO"), "{table}");
    }
}

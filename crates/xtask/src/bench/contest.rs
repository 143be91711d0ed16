//! Runs contenders in turns, so that what disturbs the machine disturbs all of them alike.

use std::time::Instant;

use super::error::BenchError;
use super::statistics::{Ratio, median};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Turns of each contender.
    pub(super) rounds: u32,
    /// What a batch's number of repetitions is divided by.
    pub(super) divisor: u32,
}

impl Effort {
    /// Repetitions in one batch.
    pub(super) fn batch(self, full: u32) -> u32 {
        (full / self.divisor).max(2)
    }
}

/// One batch: returns what is compared, nanoseconds per repetition.
type Batch<'a> = Box<dyn FnMut() -> Result<f64, BenchError> + 'a>;

/// Several ways to do the same.
pub(super) struct Contest<'a> {
    contenders: Vec<(&'static str, Batch<'a>)>,
}

impl<'a> Contest<'a> {
    pub(super) fn new() -> Self {
        Self {
            contenders: Vec::new(),
        }
    }

    /// Adds a contender that times itself.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        batch: impl FnMut() -> Result<f64, BenchError> + 'a,
    ) {
        self.contenders.push((name, Box::new(batch)));
    }

    /// Runs the rounds. Every other one goes backwards, so that nobody always follows the same
    /// contender.
    pub(super) fn run(mut self, effort: Effort) -> Result<Results, BenchError> {
        // Caches, page tables and the processor's clock settle in a round that is not counted.
        for (_, batch) in &mut self.contenders {
            batch()?;
        }
        let mut values = vec![Vec::new(); self.contenders.len()];
        for round in 0..effort.rounds {
            let count = self.contenders.len();
            for turn in 0..count {
                let index = if round % 2 == 0 {
                    turn
                } else {
                    count - 1 - turn
                };
                values[index].push((self.contenders[index].1)()?);
            }
        }
        Ok(Results {
            names: self.contenders.iter().map(|(name, _)| *name).collect(),
            values,
        })
    }
}

/// What the rounds brought, in nanoseconds per repetition.
#[derive(Debug)]
pub(super) struct Results {
    names: Vec<&'static str>,
    values: Vec<Vec<f64>>,
}

impl Results {
    fn of(&self, name: &str) -> &[f64] {
        let index = self.names.iter().position(|known| *known == name);
        index.map_or(&[], |index| &self.values[index])
    }

    pub(super) fn median(&self, name: &str) -> f64 {
        median(self.of(name))
    }

    pub(super) fn ratio(&self, name: &str, against: &str) -> Ratio {
        Ratio::of(self.of(name), self.of(against))
    }
}

/// Nanoseconds per repetition of something that cannot fail half-way without the benchmark
/// failing.
pub(super) fn time(
    repetitions: u32,
    mut work: impl FnMut() -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let begun = Instant::now();
    for _ in 0..repetitions {
        work()?;
    }
    Ok(per_repetition(begun, repetitions))
}

/// Nanoseconds since `begun`, divided.
pub(super) fn per_repetition(begun: Instant, repetitions: u32) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(repetitions)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn contenders_take_turns() {
        let order = RefCell::new(String::new());
        let mut contest = Contest::new();
        for name in ["a", "b", "c"] {
            let order = &order;
            contest.add(name, move || {
                order.borrow_mut().push_str(name);
                Ok(if name == "b" { 3.0 } else { 1.0 })
            });
        }
        let effort = Effort {
            rounds: 3,
            divisor: 1,
        };
        let results = contest.run(effort).unwrap();
        assert_eq!(*order.borrow(), "abcabccbaabc");
        assert_eq!(results.median("b"), 3.0);
        assert_eq!(results.ratio("b", "a").median, 3.0);
    }
}

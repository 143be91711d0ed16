//! Medians and ratios. Where the numbers come from is not here.

use serde::Serialize;

/// The middle of `values`; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value below which `percent` of `values` lie, interpolated.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    #[expect(clippy::cast_precision_loss, reason = "a number of rounds is small")]
    let place = percent / 100.0 * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the number of rounds"
    )]
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// How two contenders compare: the quotient of each round, then over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Ratio {
    /// The middle quotient.
    pub(super) median: f64,
    /// A tenth of the quotients lie below.
    pub(super) low: f64,
    /// A tenth of the quotients lie above.
    pub(super) high: f64,
}

impl Ratio {
    /// `ours` over `theirs`, round by round.
    pub(super) fn of(ours: &[f64], theirs: &[f64]) -> Self {
        let quotients: Vec<_> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Self {
            median: median(&quotients),
            low: percentile(&quotients, 10.0),
            high: percentile(&quotients, 90.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // Each round is twice as slow, however fast the machine was in it.
        let theirs = [1.0, 100.0, 3.0];
        let ours = theirs.map(|value| 2.0 * value);
        assert_eq!(
            Ratio::of(&ours, &theirs),
            Ratio {
                median: 2.0,
                low: 2.0,
                high: 2.0
            }
        );
        // One disturbed round moves the spread, not the median.
        let disturbed = Ratio::of(&[2.0, 200.0, 600.0], &theirs);
        assert_eq!(disturbed.median, 2.0);
        assert!(disturbed.high > 100.0);
    }
}

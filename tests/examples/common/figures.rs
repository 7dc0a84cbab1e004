//! Latencies, medians and ranges, and the lines in which they are printed.

use std::time::Duration;

use serde_json::json;

/// Latencies of many operations, microseconds.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Those of another one too.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest latency that a share of all does not exceed (0.5, 0.99, …, 1 for the largest); 0 of none.
    pub fn quantile(&mut self, share: f64) -> u32 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        if self.0.is_empty() { 0 } else { *self.0.select_nth_unstable(at).1 }
    }
}

/// Median and range of what several runs came to.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Some(Self { median: f64::midpoint(sorted[low], sorted[high]), min, max })
    }
}

/// Rounds to three digits after the point: more only look exact.
fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// Prints a figure's line.
pub fn tell(figure: &str, side: &str, unit: &str, figures: &[f64]) -> Option<Spread> {
    let spread = Spread::of(figures)?;
    let Spread { median, min, max } = spread;
    let line = json!({"figure": figure, "side": side, "unit": unit, "median": rounded(median), "min": rounded(min),
        "max": rounded(max), "runs": figures.len()});
    println!("{line}");
    Some(spread)
}

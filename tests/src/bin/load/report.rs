//! What runs came to, as a line for people, as JSON, and as a row of a table.

use clap::ValueEnum;
use serde_json::{Value, json};

/// What a row of a table is about.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Row {
    /// IOPS of both and their ratio; p50 and p99 of both; CPU of both and its ratio.
    Throughput,
    /// p50 of both, their ratio and their difference.
    Latency,
}

/// One run's result.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) commands: u64,
    pub(crate) refused: u64,
    pub(crate) iops: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU microseconds per command, of this process and of the target's.
    pub(crate) own_cpu: f64,
    pub(crate) target_cpu: Option<f64>,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        json!({
            "commands": self.commands, "refused": self.refused, "iops": self.iops.round(),
            "p50_us": self.p50, "p99_us": self.p99,
            "own_cpu_us": self.own_cpu, "target_cpu_us": self.target_cpu,
        })
    }

    pub(crate) fn line(&self) -> String {
        let target = self.target_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
        let refused = if self.refused > 0 { format!(", {} refused", self.refused) } else { String::new() };
        format!(
            "{:>9.0} IOPS, p50 {:>7.1} us, p99 {:>7.1} us, CPU per command: load {:.2} us, target {target} us{refused}",
            self.iops, self.p50, self.p99, self.own_cpu
        )
    }
}

/// The medians over all pairs: of each target alone, and of the ratios within a pair.
pub(crate) struct Comparison {
    pairs: usize,
    a: Run,
    b: Run,
    iops: f64,
    p50: f64,
    p99: f64,
    target_cpu: f64,
    /// Median of the differences within a pair, in microseconds.
    p50_more: f64,
}

impl Comparison {
    pub(crate) fn of(pairs: &[(Run, Run)]) -> Self {
        let cpu = |run: &Run| run.target_cpu.unwrap_or(f64::NAN);
        let ratio = |of: &dyn Fn(&Run) -> f64| median(pairs.iter().map(|(a, b)| of(a) / of(b)));
        let alone = |runs: Vec<&Run>| {
            let of = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(|run| of(run)));
            Run {
                commands: runs.iter().map(|run| run.commands).sum(),
                refused: runs.iter().map(|run| run.refused).sum(),
                iops: of(&|run| run.iops),
                p50: of(&|run| run.p50),
                p99: of(&|run| run.p99),
                own_cpu: of(&|run| run.own_cpu),
                target_cpu: Some(of(&cpu)),
            }
        };
        Self {
            pairs: pairs.len(),
            a: alone(pairs.iter().map(|(a, _)| a).collect()),
            b: alone(pairs.iter().map(|(_, b)| b).collect()),
            iops: ratio(&|run| run.iops),
            p50: ratio(&|run| run.p50),
            p99: ratio(&|run| run.p99),
            target_cpu: ratio(&cpu),
            p50_more: median(pairs.iter().map(|(a, b)| a.p50 - b.p50)),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let ratios =
            json!({ "iops": self.iops, "p50": self.p50, "p99": self.p99, "target_cpu": self.target_cpu });
        json!({ "pairs": self.pairs, "a": self.a.json(), "b": self.b.json(), "ratio": ratios })
    }

    pub(crate) fn line(&self) -> String {
        let Self { pairs, iops, p50, p99, target_cpu, .. } = self;
        format!(
            "median of {pairs} pairs, A / B: IOPS {iops:.2}, p50 {p50:.2}, p99 {p99:.2}, target CPU {target_cpu:.2}"
        )
    }

    /// A row of a Markdown table.
    pub(crate) fn row(&self, of: Row, title: &str, wanted: &str) -> String {
        let (a, b) = (&self.a, &self.b);
        let cpu = |run: &Run| run.target_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
        match of {
            Row::Throughput => format!(
                "| {title} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.2} | {wanted} |",
                a.iops,
                b.iops,
                self.iops,
                a.p50,
                b.p50,
                a.p99,
                b.p99,
                cpu(a),
                cpu(b),
                self.target_cpu,
            ),
            Row::Latency => format!(
                "| {title} | {:.1} | {:.1} | {:.2} | {:.1} | {wanted} |",
                a.p50, b.p50, self.p50, self.p50_more
            ),
        }
    }
}

/// The middle of some values.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
        assert!(median(core::iter::empty()).is_nan());
    }
}

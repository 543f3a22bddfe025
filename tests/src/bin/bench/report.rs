//! What was measured, against what was wanted.

use std::fs;

use serde_json::{Value, json};

/// One figure.
pub struct Figure {
    pub name: String,
    pub reached: f64,
    pub unit: Unit,
    /// The most that is wanted; none where it is told for comparison only.
    pub goal: Option<f64>,
    /// Whether it is a failure to miss the goal.
    required: bool,
}

#[derive(Clone, Copy)]
pub enum Unit {
    Ratio,
    Seconds,
    Bytes,
    Count,
}

/// All figures of a run, and where it ran.
pub struct Report {
    pub figures: Vec<Figure>,
    kernel: String,
    cpus: usize,
    /// Processes that wanted a CPU in the last minute before: other work.
    load: String,
}

impl Figure {
    pub fn new(name: impl Into<String>, unit: Unit, reached: f64) -> Self {
        Self {
            name: name.into(),
            reached,
            unit,
            goal: None,
            required: false,
        }
    }

    /// With the most that is wanted.
    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// To miss the goal is a failure.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn is_missed(&self) -> bool {
        self.goal.is_some_and(|goal| self.reached > goal)
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            None => "",
            Some(goal) if self.reached <= goal => "met",
            Some(_) => "missed",
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit.name(),
            "reached": self.reached,
            "at_most": self.goal,
            "met": self.goal.map(|goal| self.reached <= goal),
        })
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Count => "count",
        }
    }

    /// For the eye.
    fn text(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.3}"),
            Self::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
            Self::Count => format!("{value:.0}"),
        }
    }
}

impl Report {
    pub fn new() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            figures: Vec::new(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether all goals are met that have to be.
    pub fn is_right(&self) -> bool {
        let mut required = self.figures.iter().filter(|figure| figure.required);
        !required.any(Figure::is_missed)
    }

    pub fn print_table(&self) {
        let Self {
            kernel, cpus, load, ..
        } = self;
        println!("Linux {kernel}, {cpus} CPUs, load {load} before");
        println!("{:<58} {:>10} {:>10}", "", "goal", "reached");
        for figure in &self.figures {
            let goal = figure.goal.map(|goal| figure.unit.text(goal));
            let line = format!(
                "{:<58} {:>10} {:>10} {}",
                figure.name,
                goal.unwrap_or_default(),
                figure.unit.text(figure.reached),
                figure.verdict()
            );
            println!("{}", line.trim_end());
        }
    }

    pub fn print_json(&self) {
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        let report = json!({
            "kernel": self.kernel,
            "cpus": self.cpus,
            "load": self.load.parse::<f64>().ok(),
            "figures": figures,
        });
        println!("{report}");
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
///
/// # Panics
/// Where there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = (values.len() - 1) / 2;
    f64::midpoint(values[lower], values[upper])
}

/// The median of how often as much one side is as the other in the same round.
pub fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median_ratio(&[2.0, 9.0, 3.0], &[1.0, 3.0, 3.0]), 2.0);
    }

    #[test]
    fn a_goal_is_met_or_missed() {
        let figure = Figure::new("it", Unit::Ratio, 1.1);
        assert_eq!(figure.verdict(), "");
        assert_eq!(figure.at_most(1.1).verdict(), "met");
        let missed = Figure::new("it", Unit::Seconds, 0.2).at_most(0.1);
        assert_eq!(missed.json()["met"], false);
    }
}

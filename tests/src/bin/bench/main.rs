//! `cargo xtask bench`: what the agent costs, and how soon it tells. Every comparison is interleaved, so that what the
//! machine does meanwhile falls on both sides; every figure is the median; and what is measured is checked to be right.
//! Like the tests it panics where something is wrong.

mod agent;
mod bpftrace;
mod cgroups;
mod console;
mod files;
mod latency;
mod launch;
mod report;
mod scrape;
mod storm;
mod verdicts;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use report::{Figure, Report};

/// Measure what the agent costs, and how soon it tells
///
/// Exits with 1 where a check of what was measured fails. A goal that is missed is said, and is no failure: on a machine
/// that does other work too it says little. A wrong verdict is one.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    /// What to measure [default: all]
    ///
    /// - storm: a storm of processes that end at once, untraced, traced, watched, and watched by bpftrace
    ///
    /// - scrape: GET /metrics against reading the same files of cgroups, each opened anew
    ///
    /// - latency: OOM kill to line, start to ready, SIGTERM to end
    ///
    /// - launch: a container that does nothing, by agent run, by crun, and by a program that can do nothing else
    ///
    /// - verdicts: agent verify on set-ups whose verdict is known; one that is wrong is a failure
    #[arg(
        value_name = "storm|scrape|latency|launch|verdicts",
        hide_possible_values = true
    )]
    benches: Vec<Bench>,

    /// Processes of a storm, cgroups of a scrape, kills, launches, or verdicts [default: 20000, 1000, 50, 100, each
    /// set-up once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,

    /// How often each side of a comparison is measured [default: 32 of storms, bpftrace's in every fourth, else 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// How many processes besides its first one share the work of a storm
    #[arg(long, value_name = "N", default_value_t = 0)]
    procs: u32,

    /// A table, or one JSON object
    #[arg(
        long,
        value_enum,
        value_name = "human|json",
        default_value_t,
        hide_possible_values = true
    )]
    output: Output,
}

/// How often each side of a comparison is measured where that is stable.
const ROUNDS: u32 = 7;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    count: Option<u32>,
    rounds: Option<u32>,
    procs: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    Storm,
    Scrape,
    Latency,
    Launch,
    Verdicts,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Human,
    Json,
}

impl Bench {
    fn run(self, size: Size) -> Vec<Figure> {
        match self {
            Self::Storm => storm::measure(size),
            Self::Scrape => scrape::measure(size),
            Self::Latency => latency::measure(size),
            Self::Launch => launch::measure(size),
            Self::Verdicts => verdicts::measure(size),
        }
    }
}

fn main() -> ExitCode {
    if let Some(prefix) = cgroups::Guard::is_asked_for() {
        cgroups::guard(&prefix);
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "error: the benchmark needs root: run `cargo xtask bench`, which goes through sudo"
        );
        return ExitCode::FAILURE;
    }
    let size = Size {
        count: arguments.count,
        rounds: arguments.rounds,
        procs: arguments.procs,
    };
    let wanted = |bench: &Bench| arguments.benches.is_empty() || arguments.benches.contains(bench);
    let benches = Bench::value_variants().iter().filter(|bench| wanted(bench));
    let mut report = Report::new();
    for bench in benches {
        // Why, it has said; what it had started has ended.
        let Ok(figures) = catch_unwind(|| bench.run(size)) else {
            return ExitCode::FAILURE;
        };
        report.figures.extend(figures);
    }
    match arguments.output {
        Output::Human => report.print_table(),
        Output::Json => report.print_json(),
    }
    if report.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

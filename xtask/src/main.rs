//! Developer commands: `cargo xtask --help`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod cadvisor;
mod check;
mod command;
mod crun;
mod deny;
mod dist;
mod fuzz;
mod packages;
mod rules;
mod run;
mod setup;
mod source;
mod step;
mod sudo;
mod test;
mod vm;

/// Build, run, test and check `agent` on this machine.
///
/// On a fresh machine with rustup, `cargo xtask run` is enough to see it at work, and `cargo xtask test` to prove it.
/// Both set up what they need first. Plain `cargo build`, `cargo test --workspace` and `cargo clippy` work as
/// everywhere once `cargo xtask setup` has run.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need, each thing only where it is missing
    ///
    /// - components of the pinned toolchain: rust-src (the BPF programs build their own `core`), rustfmt, clippy
    ///
    /// - bpf-linker, built into target/tools (about a minute)
    ///
    /// - Debian packages that tests run against, such as docker.io and prometheus: as root, with apt-get, which starts
    ///   none of their services (Debian does so at the next boot). Elsewhere it says what to install.
    Setup,

    /// Trace this host: build in release and start `agent serve`
    ///
    /// Needs root, so it goes through sudo where you are not. Stop it with Ctrl-C.
    ///
    ///     cargo xtask run
    ///     cargo xtask run --listen 127.0.0.1:9999
    #[command(verbatim_doc_comment)]
    Run {
        /// Arguments of `agent serve`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },

    /// Run `check`, then tests in a virtual machine with cgroup v2, then every test on this machine's kernel
    ///
    /// The virtual machine's part is `cargo xtask vm --quick`.
    /// Tests load BPF programs and make cgroups, so they run as root: through sudo where you are not.
    /// With arguments it leaves out `check` and the virtual machine, and hands them to `cargo test --workspace`:
    ///
    ///     cargo xtask test oom
    ///     cargo xtask test --test oom -- --nocapture
    #[command(verbatim_doc_comment)]
    Test {
        /// Arguments of `cargo test --workspace`, such as a part of a test's name
        #[arg(allow_hyphen_values = true)]
        arguments: Vec<String>,

        /// Arguments of the test programs, such as --nocapture
        // Only where they come first: behind other arguments, these and their `--` are among those.
        #[arg(last = true)]
        harness: Vec<String>,
    },

    /// Run the tests on other kernels, with cgroup v2, in virtual machines
    ///
    /// Boots Debian's cloud kernels under QEMU, and runs this workspace's test programs there: with cgroup v2, and on
    /// kernels that still have memory on v1 with a hybrid of both too. What cannot run there is named, with the reason.
    /// Everything is emulated. Kernels come by apt-get into target/vm/kernels and stay: remove one there to get a newer
    /// one. A word that begins with a digit is a kernel's version, or what it begins with; any other is a part of tests'
    /// names (PROGRAM::TEST).
    ///
    ///     cargo xtask vm
    ///     cargo xtask vm 7.3 6.12 6.1
    ///     cargo xtask vm --test run_life killed
    ///     cargo xtask vm --debian
    ///     cargo xtask vm --debian docker::names
    #[command(verbatim_doc_comment)]
    Vm {
        /// Versions of kernels (6.12 where there is none), and parts of tests' names
        #[arg(value_name = "KERNEL|FILTER")]
        words: Vec<String>,

        /// Of this test program alone, such as run_life; can be given several times
        #[arg(long = "test", value_name = "PROGRAM")]
        programs: Vec<String>,

        /// In a whole Debian with systemd, docker and podman: tests that need one of them, or those that are named
        #[arg(long, conflicts_with = "layout")]
        debian: bool,

        /// How cgroups are mounted: v2 or hybrid; both where there is none
        #[arg(long, value_name = "LAYOUT")]
        layout: Option<String>,

        /// What `cargo xtask test` runs: attacks, escapes, OOM kills, attribution, verify and the runtime, in a few minutes
        #[arg(long, conflicts_with_all = ["debian", "programs"])]
        quick: bool,
    },

    /// Let a fuzzer look for bytes that a parser of the agent does not stand
    ///
    /// Runs each target of tests/fuzz, or one. New inputs go to target/fuzz, and inputs that fail to target/fuzz/failures.
    /// The inputs in tests/fuzz/corpus are replayed by `cargo test`.
    ///
    ///     cargo xtask fuzz
    ///     cargo xtask fuzz elf --for 10m
    #[command(verbatim_doc_comment)]
    Fuzz {
        /// One of the targets; all where there is none
        target: Option<String>,

        /// How long each target runs, such as 60s or 10m
        #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = fuzz::parse_time)]
        time: Duration,
    },

    /// Measure what the agent costs, and how soon it tells
    ///
    /// Builds in release, and runs as root. Leave the machine alone meanwhile. Exits with 1 where what was measured is
    /// wrong, or `agent verify` gave a wrong verdict, and not where a goal is missed.
    ///
    ///     cargo xtask bench
    ///     cargo xtask bench scrape --count 200 --rounds 3
    ///     cargo xtask bench verdicts
    ///     cargo xtask bench launch --vm
    ///     cargo xtask bench -- --help
    #[command(verbatim_doc_comment)]
    Bench {
        /// Arguments of the benchmark: storm, scrape, latency, launch, verdicts, --count, --rounds, --procs, --output json.
        /// `launch --vm` measures launches with cgroup v2, in a virtual machine
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },

    /// Build the agent as one static file, target/dist/agent
    ///
    /// Checks that it is under 11 MB, needs no other file, and runs; then tells its size and SHA-256 sum.
    Dist,

    /// Format, lints, docs and the rules of this repository, with every warning an error
    ///
    /// The lints are listed in Cargo.toml, the rules in xtask/src/rules.rs.
    Check,

    /// Check the crates that the workspace depends on: bans, licences and sources
    ///
    /// The rules are in deny.toml. cargo-deny is built into target/tools first where it is missing, which takes some
    /// minutes. `cargo xtask test` does not include this check.
    Deny,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Run { arguments } => run::run(&arguments),
        Task::Test { arguments, harness } => test::run(&arguments, &harness),
        Task::Vm {
            words,
            programs,
            layout,
            debian,
            quick,
        } => vm::run(&vm::Options {
            words,
            programs,
            layout,
            debian,
            quick,
        }),
        Task::Fuzz { target, time } => fuzz::run(target.as_deref(), time),
        Task::Bench { arguments } => bench::bench(&arguments),
        Task::Dist => dist::dist(),
        Task::Check => check::run(),
        Task::Deny => deny::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

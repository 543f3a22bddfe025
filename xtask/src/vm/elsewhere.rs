//! What does not run in the virtual machine of `cargo xtask vm`, and why: all other tests do.

/// A test, or all of a module or a program, and why it is not for that machine.
pub struct Row {
    /// `PROGRAM::TEST`, or what such names begin with.
    pub tests: &'static str,
    pub why: &'static str,
}

const DOCKER: &str = "needs docker: `cargo xtask vm --debian` has one";

/// The rows.
#[rustfmt::skip]
pub const ROWS: [Row; 6] = [
    Row { tests: "docker::",                 why: DOCKER },
    Row { tests: "engine_restart::",         why: DOCKER },
    Row { tests: "inspect::docker::",        why: DOCKER },
    Row { tests: "dashboards::",             why: "needs Prometheus, and has nothing of a kernel's" },
    Row { tests: "prometheus::",             why: "needs Prometheus, and has nothing of a kernel's" },
    Row { tests: "floods::",                 why: "an emulated machine has no time for what floods a real one" },
];

/// Why a test does not run in that machine, where it does not.
pub fn reason(name: &str) -> Option<&'static str> {
    let row = ROWS.iter().find(|row| name.starts_with(row.tests));
    row.map(|row| row.why)
}

//! A step of a longer task, announced and timed.

use std::time::Instant;

use anyhow::Result;

pub fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    announce(name);
    let start = Instant::now();
    work()?;
    println!("   {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The head of a step that tells of its end itself.
pub fn announce(name: &str) {
    println!("── {name}");
}

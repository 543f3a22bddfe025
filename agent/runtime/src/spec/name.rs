//! Makes names for containers that the user does not name.

use std::hash::{BuildHasher as _, RandomState};

const HOW: [&str; 32] = [
    "able", "bold", "brave", "bright", "calm", "clear", "clever", "cool", "deft", "eager", "fair",
    "fast", "fine", "firm", "fresh", "glad", "keen", "kind", "light", "lively", "lucky", "merry",
    "neat", "noble", "proud", "quick", "quiet", "ready", "sharp", "solid", "swift", "warm",
];

const WHO: [&str; 32] = [
    "ant", "bat", "bear", "bee", "crab", "crane", "crow", "deer", "dove", "duck", "eel", "elk",
    "finch", "fox", "frog", "goat", "hare", "hawk", "heron", "horse", "lark", "lynx", "mole",
    "moth", "newt", "orca", "otter", "owl", "seal", "swan", "toad", "wren",
];

/// Returns a random name, as in `keen-otter-1234`: one of 32 × 32 × 10,000.
pub(super) fn by_chance() -> String {
    let chance = RandomState::new().hash_one(0_u8);
    let word =
        |words: [&'static str; 32], bits: u32| words[(chance >> bits) as usize % words.len()];
    format!(
        "{}-{}-{:04}",
        word(HOW, 0),
        word(WHO, 5),
        (chance >> 10) % 10_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chance_gives_is_a_name() {
        for _ in 0..100 {
            let name = by_chance();
            assert!(crate::state::is_name(&name), "{name}");
        }
    }
}

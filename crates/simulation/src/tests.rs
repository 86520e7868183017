//! Histories that every build runs.

use crate::{run::run, world::World};

#[track_caller]
fn check(seed: u64) {
    let ended = run(World::draw(seed), seed, false);
    assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
}

#[test]
fn no_history_of_many_seeds_breaks_an_invariant() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        let ended = run(World::draw(seed), seed, true);
        for line in &ended.log {
            println!("{line}");
        }
        assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
        return;
    }
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3000);
    for seed in 0..seeds {
        check(seed);
    }
}

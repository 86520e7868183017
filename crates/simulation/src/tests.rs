//! Histories that every build runs.

use crate::{run::run, world::World};

#[track_caller]
fn check(seed: u64) {
    let ended = run(World::draw(seed), seed, false);
    assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
}

/// Seeds that once broke an invariant; what was wrong in the engine each time is in the history of the repository.
const ONCE_BROKEN: [u64; 32] = [
    5, 8, 11, 14, 17, 79, 151, 1071, 1439, 1818, 1821, 2221, 3210, 4179, 7429, 8088, 9115, 9356, 12297, 37840, 40403,
    55896, 92644, 119_069, 163_485, 170_371, 194_767, 234_784, 269_194, 278_249, 339_938, 391_902,
];

#[test]
fn histories_that_once_broke_an_invariant_do_so_no_more() {
    ONCE_BROKEN.into_iter().for_each(check);
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
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(10_000);
    for seed in 0..seeds {
        check(seed);
    }
}

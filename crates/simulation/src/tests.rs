//! Histories that every build runs.

use std::ops::Range;

use crate::{
    run::run,
    scale::{Load, carry},
    world::{DIALS, World},
};

/// Seeds that once broke an invariant; what was wrong in the engine each time is in the history of the repository.
const ONCE_BROKEN: [u64; 13] =
    [2155, 6937, 10_193, 12_431, 16_034, 16_141, 20_529, 20_748, 25_590, 26_004, 29_676, 38_905, 229_898];

#[track_caller]
fn check(seed: u64) {
    let ended = run(World::draw(seed), seed, false);
    assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
}

/// Runs these seeds; or, if `SEED` names one, only that, and prints all that happens.
#[track_caller]
fn check_all(seeds: Range<u64>) {
    let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) else {
        return seeds.for_each(check);
    };
    let ended = run(World::draw(seed), seed, true);
    for line in &ended.log {
        println!("{line}");
    }
    assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
}

#[test]
fn histories_that_once_broke_an_invariant_do_so_no_more() {
    ONCE_BROKEN.into_iter().for_each(check);
}

// Two tests, so that two cores share the cross product of the dials.

#[test]
fn no_history_of_the_first_half_of_the_dials_breaks_an_invariant() {
    check_all(0..DIALS / 2);
}

#[test]
fn no_history_of_the_second_half_of_the_dials_breaks_an_invariant() {
    check_all(DIALS / 2..DIALS);
}

#[test]
fn the_same_seed_gives_the_same_history_to_the_byte() {
    for seed in 0..300 {
        let history = || run(World::draw(seed), seed, true).log;
        assert_eq!(history(), history(), "seed {seed}");
    }
}

#[test]
fn ten_thousand_one_account_jobs_cost_two_hundred_writes_and_the_time_that_the_limit_allows() {
    let load = Load { operations: 10_000, images: 20, lanes: 1, latency: 80 };
    let carried = carry(load, || {});
    assert_eq!(carried.writes, 200);
    assert!(carried.settled_at <= carried.least * 107 / 100, "{carried:?}");
}

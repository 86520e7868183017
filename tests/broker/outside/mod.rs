//! The outside checker: rounds of jobs and faults, judged by the reports and by the sandbox alone.
//!
//! `ROUNDS=500 SEED=1 cargo test --workspace --test broker outside::rounds -- --nocapture` runs 500 random rounds.
//! `ROUND=NUMBER` repeats one round, and `TRACKS=4` runs four side by side. Other scenarios [`check`] rounds with faults of
//! their own.

mod plan;
mod round;

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use imageshare_judge::{Record, judge};
use kit::{BrokerNode, env_number, repository_path, seed};
pub(crate) use plan::{RoundFault, RoundPlan};
use round::Round;

/// Rounds of the ordinary run.
const ROUNDS: u64 = 4;

/// Rounds that run side by side, each on its own broker.
const TRACKS: u64 = 2;

/// Distance between the first rounds of two seeds.
const ROUNDS_A_SEED: u64 = 10_000;

#[test]
fn rounds_lose_nothing_and_report_truly() {
    let first = env_number("ROUND").unwrap_or_else(|| seed() * ROUNDS_A_SEED);
    let rounds = if env_number("ROUND").is_some() { 1 } else { env_number("ROUNDS").unwrap_or(ROUNDS) };
    let next = AtomicU64::new(first);
    // A failed round ends its track, and the test fails after the other tracks have run the remaining rounds.
    thread::scope(|scope| {
        for _ in 0..env_number("TRACKS").unwrap_or(TRACKS).min(rounds) {
            scope.spawn(|| {
                let node = BrokerNode::start();
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= first + rounds {
                        return;
                    }
                    check(&node, &RoundPlan::new(round));
                }
            });
        }
    });
}

/// Runs a round and asserts that the judge finds no problem.
#[track_caller]
pub(crate) fn check(node: &BrokerNode, plan: &RoundPlan) {
    let name = format!("round {}: {}", plan.seed, plan.summary());
    let record = Round::run(node, plan);
    let raw = record.to_string();
    let record = Record::parse(record).unwrap();
    let problems = judge(&record);
    let [jobs, reports, requests] = record.counts();
    eprintln!("{name}: {jobs} jobs, {reports} reports, {requests} requests, {} problems", problems.len());
    if !problems.is_empty() {
        let path = repository_path("target").join(format!("outside-{}.json", plan.seed));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, raw).unwrap();
        eprintln!("{name}: the record is in {}", path.display());
    }
    assert!(problems.is_empty(), "{name}: {problems:#?}");
}

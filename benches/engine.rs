//! The engine's cost per operation, from thousands to millions, with calls and responses in virtual time.
//!
//! `cargo bench --package imageshare-simulation --bench engine`; `README.md` explains the figures.
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench is a program for people that reads a clock"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use imageshare_simulation::scale::{Load, carry};

/// The loads of the curve, and the one to which the others are compared.
const CURVE: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const MIDDLE: u64 = 1_000_000;

/// Accounts per image.
const ACCOUNTS: u64 = 500;

/// Operations per load over all runs, and the bounds of the number of runs.
const OPERATIONS: u64 = 3_000_000;
const RUNS: std::ops::RangeInclusive<u64> = 2..=300;

/// Jobs that are redelivered at once: the maximum of a worker with six lanes.
const REDELIVERED: u64 = 60_000;

fn main() {
    println!("{:>12}  {:>10}  {:>12}  {:>8}", "operations", "ns each", "per second", "");
    let costs = CURVE.map(|operations| (operations, nanos(load(operations))));
    let middle = costs.iter().find(|(operations, _)| *operations == MIDDLE).map_or(1.0, |(_, nanos)| *nanos);
    for (operations, nanos) in costs {
        println!("{operations:>12}  {nanos:>10.0}  {:>12.0}  {:>6.2} x", 1e9 / nanos, nanos / middle);
    }
    let redelivered = nanos(Load { redelivered: true, ..load(REDELIVERED) });
    let new = nanos(load(REDELIVERED));
    println!("\n{REDELIVERED} jobs: {new:.0} ns each; redelivered and finished: {redelivered:.0} ns each");
}

/// Returns a load of one-account jobs, with the maximum number of accounts per image.
fn load(operations: u64) -> Load {
    Load { images: operations / ACCOUNTS, ..Load::of(operations) }
}

/// Returns the minimum time per operation over several runs. On a shared machine, any excess is due to other processes.
fn nanos(load: Load) -> f64 {
    let runs = (OPERATIONS / load.operations).clamp(*RUNS.start(), *RUNS.end());
    let mut least = Duration::MAX;
    for _ in 0..runs {
        let begun = Instant::now();
        black_box(carry(load, |_| {}));
        least = least.min(begun.elapsed());
    }
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    let operations = load.operations as f64;
    least.as_secs_f64() * 1e9 / operations
}

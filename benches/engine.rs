//! The engine: what an operation costs, from few to millions, each with its calls, answers and virtual time.
//!
//! `cargo bench --package imageshare-simulation --bench engine`; `README.md` says what the figures mean.
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

/// The loads of the curve; what an operation of one of them costs is what the others are held against.
const CURVE: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const MIDDLE: u64 = 1_000_000;

/// Accounts of an image.
const ACCOUNTS: u64 = 500;

/// Operations that each load is repeated for, and the least and most that it is repeated.
const OPERATIONS: u64 = 3_000_000;
const REPEATED: std::ops::RangeInclusive<u64> = 2..=300;

/// Jobs that come again at once: what a worker holds at most of six lanes.
const REDELIVERED: u64 = 60_000;

fn main() {
    println!("{:>12}  {:>10}  {:>12}  {:>8}", "operations", "ns each", "a second", "");
    let found = CURVE.map(|operations| (operations, nanos(load(operations))));
    let middle = found.iter().find(|(operations, _)| *operations == MIDDLE).map_or(1.0, |(_, nanos)| *nanos);
    for (operations, nanos) in found {
        println!("{operations:>12}  {nanos:>10.0}  {:>12.0}  {:>6.2} x", 1e9 / nanos, nanos / middle);
    }
    let again = nanos(Load { redelivered: true, ..load(REDELIVERED) });
    let anew = nanos(load(REDELIVERED));
    println!("\n{REDELIVERED} jobs: {anew:.0} ns each; redelivered, all of it done: {again:.0} ns each");
}

/// One-account jobs, as many for each image as it may be shared with.
fn load(operations: u64) -> Load {
    Load { images: operations / ACCOUNTS, ..Load::of(operations) }
}

/// The least time of an operation, of several runs: on a shared machine all that is added is somebody else's.
fn nanos(load: Load) -> f64 {
    let repeated = (OPERATIONS / load.operations).clamp(*REPEATED.start(), *REPEATED.end());
    let mut least = Duration::MAX;
    for _ in 0..repeated {
        let begun = Instant::now();
        black_box(carry(load, |_| {}));
        least = least.min(begun.elapsed());
    }
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    let operations = load.operations as f64;
    least.as_secs_f64() * 1e9 / operations
}

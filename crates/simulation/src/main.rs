//! Runs many histories and says what broke, how fast it went, and what was never reached.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use imageshare_simulation::{
    coverage::Coverage,
    run::run,
    world::{DIALS, World},
};

/// Seeds that a thread takes at a time.
const PORTION: u64 = 2000;
/// Failing seeds that are named.
const NAMED_MAX: usize = 20;

/// What all threads found.
#[derive(Default)]
struct Found {
    coverage: Coverage,
    broken: Vec<(u64, String)>,
    broken_count: u64,
    calls: u64,
}

fn main() -> ExitCode {
    let Some((from, seeds)) = arguments() else {
        let mut errors = std::io::stderr();
        // Nothing can be said where standard error is gone.
        _ = writeln!(errors, "usage: imageshare-simulation [--from SEED] --seeds COUNT");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let found = survey(from, seeds, began);
    let said = tell(&found, seeds, began.elapsed().as_secs_f64());
    if found.broken_count == 0 && said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first seed, and how many.
fn arguments() -> Option<(u64, u64)> {
    let (mut from, mut seeds) = (0, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next()?.parse().ok()?;
        match word.as_str() {
            "--from" => from = number,
            "--seeds" => seeds = Some(number),
            _ => return None,
        }
    }
    Some((from, seeds?))
}

/// Runs all seeds on as many threads as there are cores. Each history by itself has no threads.
fn survey(from: u64, seeds: u64, began: Instant) -> Found {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Found::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(PORTION, Ordering::Relaxed);
                    if first >= seeds {
                        return;
                    }
                    portion(from + first, PORTION.min(seeds - first), &found);
                    let done = (first + PORTION).min(seeds);
                    let rate = done * 1000 / u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
                    _ = write!(std::io::stderr(), "\r{done} of {seeds} seeds, {rate} a second ");
                }
            });
        }
    });
    found.into_inner().unwrap_or_default()
}

fn portion(first: u64, count: u64, found: &Mutex<Found>) {
    let mut part = Found::default();
    for seed in first..first + count {
        let ended = run(World::draw(seed), seed, false);
        part.coverage.add(&ended.coverage);
        part.calls += ended.seen.0;
        if let Some(violation) = ended.violations.into_iter().next() {
            part.broken_count += 1;
            part.broken.push((seed, violation));
        }
    }
    // A thread that panicked has said so by itself.
    let Ok(mut found) = found.lock() else { return };
    found.coverage.add_all(&part.coverage);
    found.calls += part.calls;
    found.broken_count += part.broken_count;
    found.broken.append(&mut part.broken);
    found.broken.truncate(NAMED_MAX);
}

fn tell(found: &Found, seeds: u64, secs: f64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nseeds      {seeds} in {secs:.1} s")?;
    writeln!(out, "calls      {}", found.calls)?;
    writeln!(out, "dials      {} of {DIALS} settings", seeds.min(DIALS))?;
    for (what, runs) in found.coverage.reached() {
        writeln!(out, "  {runs:>9}  {what}")?;
    }
    let reached: BTreeSet<_> = found.coverage.reached().keys().cloned().collect();
    for what in Coverage::everything().difference(&reached) {
        writeln!(out, "NEVER      {what}")?;
    }
    for (seed, violation) in &found.broken {
        writeln!(out, "BROKEN     seed {seed}: {violation}")?;
    }
    writeln!(out, "violations {}", found.broken_count)
}

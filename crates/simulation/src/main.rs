//! Runs many histories and reports violations, speed, and states that were never reached.
#![allow(clippy::indexing_slicing, reason = "it ends where a bug shows, and sees nothing from outside")]

use std::{
    collections::BTreeSet,
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    hint::black_box,
    io::{BufWriter, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use imageshare_engine::time::Instant as Moment;
use imageshare_simulation::{
    broker::BrokerDials,
    coverage::Coverage,
    run::run,
    scale::{Carried, Load, carry},
    scenario::{DIALS, Scenario},
};

/// Seeds that a thread takes at a time.
const PORTION: u64 = 2000;
/// Failing seeds that are named.
const NAMED_MAX: usize = 20;

/// How often an engine that has nothing to do is asked, to time it.
const IDLE_POLLS: u32 = 1_000_000;

/// The results of all threads.
#[derive(Default)]
struct Survey {
    coverage: Coverage,
    broken: Vec<(u64, String)>,
    broken_count: u64,
    calls: u64,
    /// The most that a run took of the time, and of the calls, that its jobs may cost, in hundredths.
    of_bounds: (u64, u64),
}

fn main() -> ExitCode {
    let well = match wanted() {
        Some(Wanted::Seeds { from, seeds, broker }) => {
            let began = Instant::now();
            let survey = survey(from, seeds, &broker, began);
            print(&survey, seeds, began.elapsed().as_secs_f64()).is_ok() && survey.broken_count == 0
        }
        Some(Wanted::Record { from, seeds, path }) => record(from, seeds, &path).is_ok(),
        Some(Wanted::Scale(load)) => scale(load).is_ok(),
        None => {
            let usage = "usage: imageshare-simulation [--from SEED] --seeds COUNT [DIAL VALUE]...\n       \
                         imageshare-simulation [--from SEED] --seeds COUNT --record FILE\n       \
                         imageshare-simulation --scale OPERATIONS [--latency MS] [--transient PER_MILLE] [--bad PER_CENT]";
            let dials = BrokerDials::NAMES.map(|(name, values)| format!("\n  {name} {values}")).concat();
            // Standard error may be closed.
            _ = writeln!(std::io::stderr(), "{usage}\nDials of the broker (docs/broker.md):{dials}");
            return ExitCode::from(2);
        }
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the command line asks for.
enum Wanted {
    Scale(Load),
    Seeds { from: u64, seeds: u64, broker: BrokerDials },
    Record { from: u64, seeds: u64, path: String },
}

fn wanted() -> Option<Wanted> {
    let (mut from, mut seeds, mut load, mut broker) = (0, None, Load::of(0), BrokerDials::default());
    let mut record = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        if BrokerDials::NAMES.iter().any(|(name, _)| *name == word) {
            broker.turn(&word, &value)?;
            continue;
        }
        if word == "--record" {
            record = Some(value);
            continue;
        }
        let number = value.parse().ok()?;
        match word.as_str() {
            "--bad" => load.bad = number,
            "--from" => from = number,
            "--latency" => load.latency = number,
            "--scale" => load.operations = number,
            "--seeds" => seeds = Some(number),
            "--transient" => load.transient = number,
            _ => return None,
        }
    }
    if load.operations > 0 {
        return Some(Wanted::Scale(load));
    }
    let seeds = seeds?;
    Some(match record {
        Some(path) => Wanted::Record { from, seeds, path },
        None => Wanted::Seeds { from, seeds, broker },
    })
}

/// Writes a line for each seed: the seed, a hash of its reports and of who has the first image in the end, and a hash of
/// everything that happened. A redesign of the engine is compared with the one before by these lines.
fn record(from: u64, seeds: u64, path: &str) -> std::io::Result<()> {
    let hash = |text: &str| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    };
    let mut file = BufWriter::new(File::create(path)?);
    for seed in from..from + seeds {
        let ended = run(Scenario::draw(seed), seed, true);
        let outcome = hash(&format!("{:?} {:?} {:?}", ended.reports, ended.shared, ended.violations));
        writeln!(file, "{seed} {outcome:016x} {:016x}", hash(&ended.log.join("\n")))?;
    }
    file.flush()
}

/// One engine under a load: how long it took, how much it held, and how far from the least time it was.
fn scale(load: Load) -> std::io::Result<()> {
    let Load { operations, .. } = load;
    let began = Instant::now();
    let before = resident();
    let (mut delivered, mut held, mut idle) = (Duration::ZERO, 0, Duration::ZERO);
    let carried = carry(load, |engine| {
        (delivered, held) = (began.elapsed(), resident());
        let asked = Instant::now();
        for _ in 0..IDLE_POLLS {
            black_box(engine.poll(Moment(0)));
        }
        idle = asked.elapsed();
    });
    let took = began.elapsed().saturating_sub(idle);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "operations {operations} in {:.2} s, of these {:.2} s to deliver",
        took.as_secs_f64(),
        delivered.as_secs_f64()
    )?;
    writeln!(
        out,
        "memory     {} bytes an operation when all are held",
        held.saturating_sub(before) / operations.max(1)
    )?;
    writeln!(out, "idle       {} ns a poll with nothing to do", idle.as_nanos() / u128::from(IDLE_POLLS))?;
    writeln!(out, "writes     {}", carried.writes)?;
    let Carried { settled_at, least, .. } = carried;
    writeln!(out, "makespan   {:.3}: {settled_at} ms of virtual time, the limit allows {least} ms", carried.makespan())
}

/// Resident memory of this process in bytes, where the system shows it.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// Runs all seeds on as many threads as there are cores. Each history by itself has no threads.
fn survey(from: u64, seeds: u64, broker: &BrokerDials, began: Instant) -> Survey {
    let next = AtomicU64::new(0);
    let total = Mutex::new(Survey::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(PORTION, Ordering::Relaxed);
                    if first >= seeds {
                        return;
                    }
                    portion(from + first, PORTION.min(seeds - first), broker, &total);
                    if !std::io::stderr().is_terminal() {
                        continue;
                    }
                    let done = (first + PORTION).min(seeds);
                    let rate = done * 1000 / u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
                    _ = write!(std::io::stderr(), "\r{done} of {seeds} seeds, {rate} a second ");
                }
            });
        }
    });
    total.into_inner().unwrap_or_default()
}

fn portion(first: u64, count: u64, broker: &BrokerDials, total: &Mutex<Survey>) {
    let mut part = Survey::default();
    for seed in first..first + count {
        let ended = run(Scenario { broker: broker.clone(), ..Scenario::draw(seed) }, seed, false);
        part.coverage.add(&ended.coverage);
        part.calls += ended.seen.0;
        part.of_bounds = most(part.of_bounds, ended.of_bounds);
        if !ended.violations.is_empty() {
            part.broken_count += 1;
            // The first one, and the first one of those that show only at the end.
            let mut violations = ended.violations.into_iter();
            let first = violations.next().unwrap_or_default();
            let at_end = violations.find(|violation| violation.starts_with("at the end"));
            let violation = at_end.into_iter().fold(first, |first, at_end| format!("{first}; {at_end}"));
            part.broken.push((seed, violation));
        }
    }
    // A panic has printed its own message.
    let Ok(mut total) = total.lock() else { return };
    total.coverage.add_all(&part.coverage);
    total.calls += part.calls;
    total.of_bounds = most(total.of_bounds, part.of_bounds);
    total.broken_count += part.broken_count;
    total.broken.append(&mut part.broken);
    total.broken.sort();
    total.broken.truncate(NAMED_MAX);
}

fn most(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.max(other.0), one.1.max(other.1))
}

fn print(survey: &Survey, seeds: u64, secs: f64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nseeds      {seeds} in {secs:.1} s")?;
    writeln!(out, "calls      {}", survey.calls)?;
    let (time, calls) = survey.of_bounds;
    writeln!(out, "bounds     at most {time} % of the time and {calls} % of the calls that the jobs may cost")?;
    writeln!(out, "dials      {} of {DIALS} settings", seeds.min(DIALS))?;
    for (what, runs) in survey.coverage.reached() {
        writeln!(out, "  {runs:>9}  {what}")?;
    }
    let reached: BTreeSet<_> = survey.coverage.reached().keys().cloned().collect();
    for what in Coverage::everything().difference(&reached) {
        writeln!(out, "NEVER      {what}")?;
    }
    for (seed, violation) in &survey.broken {
        writeln!(out, "BROKEN     seed {seed}: {violation}")?;
    }
    writeln!(out, "violations {}", survey.broken_count)
}

//! Measures operations of nanoseconds or microseconds: rows in turn, the minimum time of each.
//!
//! On a shared machine, any time above the minimum is due to other processes. Rows that are measured in turn run under the
//! same load, so their ratio is more stable than their times.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Rounds over all rows.
const ROUNDS: usize = 41;

/// Duration of a sample: a row in a round.
const SAMPLE: Duration = Duration::from_millis(2);

/// An operation to measure.
pub(crate) struct Row<'a> {
    name: String,
    run: Box<dyn FnMut() + 'a>,
    /// Runs per sample.
    count: u32,
    least: Duration,
}

impl<'a> Row<'a> {
    /// Creates a row. The result of `run` is passed to `black_box`.
    pub(crate) fn new<T>(name: impl Into<String>, mut run: impl FnMut() -> T + 'a) -> Self {
        let run = move || drop(black_box(run()));
        Self { name: name.into(), run: Box::new(run), count: 1, least: Duration::MAX }
    }

    fn sample(&mut self) -> Duration {
        let begun = Instant::now();
        for _ in 0..self.count {
            (self.run)();
        }
        begun.elapsed()
    }

    /// Determines how many runs fill a sample, which also warms up.
    fn calibrate(&mut self) {
        while self.sample() < SAMPLE && self.count < 1 << 24 {
            self.count *= 2;
        }
    }
}

/// The minimum time of a row, in nanoseconds per run.
pub(crate) struct Least {
    pub(crate) name: String,
    pub(crate) nanos: f64,
}

/// Measures all rows in turn.
pub(crate) fn least(mut rows: Vec<Row<'_>>) -> Vec<Least> {
    rows.iter_mut().for_each(Row::calibrate);
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.least = row.least.min(row.sample());
        }
    }
    let nanos = |row: &Row<'_>| row.least.as_secs_f64() * 1e9 / f64::from(row.count);
    rows.iter().map(|row| Least { name: row.name.clone(), nanos: nanos(row) }).collect()
}

/// Measures all rows and prints each relative to the first, the floor.
pub(crate) fn compare_with_first(title: &str, rows: Vec<Row<'_>>) -> Vec<Least> {
    let times = least(rows);
    println!("{title}");
    for Least { name, nanos } in &times {
        println!("  {name:<44} {nanos:>10.1} ns {:>8.2} x", nanos / times[0].nanos);
    }
    times
}

//! Times what takes nanoseconds or microseconds: rows in turn, the least time of each.
//!
//! On a shared machine whatever is added to the least time is somebody else's. Rows that are measured in turn meet the
//! same neighbours, so their ratio holds where their times do not.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// How often all rows are gone through.
const ROUNDS: usize = 41;

/// How long a row is looked at in each round.
const LOOK: Duration = Duration::from_millis(2);

/// Something that is timed.
pub(crate) struct Row<'a> {
    name: String,
    run: Box<dyn FnMut() + 'a>,
    /// Runs in one look.
    count: u32,
    least: Duration,
}

impl<'a> Row<'a> {
    /// A row; what `run` gives is looked at, so that it is done.
    pub(crate) fn new<T>(name: impl Into<String>, mut run: impl FnMut() -> T + 'a) -> Self {
        let run = move || drop(black_box(run()));
        Self { name: name.into(), run: Box::new(run), count: 1, least: Duration::MAX }
    }

    fn look(&mut self) -> Duration {
        let begun = Instant::now();
        for _ in 0..self.count {
            (self.run)();
        }
        begun.elapsed()
    }

    /// Finds how many runs fill a look, which also warms up.
    fn calibrate(&mut self) {
        while self.look() < LOOK && self.count < 1 << 24 {
            self.count *= 2;
        }
    }
}

/// What a row came to, in nanoseconds a run.
pub(crate) struct Least {
    pub(crate) name: String,
    pub(crate) nanos: f64,
}

/// Times all rows in turn.
pub(crate) fn least(mut rows: Vec<Row<'_>>) -> Vec<Least> {
    rows.iter_mut().for_each(Row::calibrate);
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.least = row.least.min(row.look());
        }
    }
    let nanos = |row: &Row<'_>| row.least.as_secs_f64() * 1e9 / f64::from(row.count);
    rows.iter().map(|row| Least { name: row.name.clone(), nanos: nanos(row) }).collect()
}

/// Times all rows and prints each beside the first one, which is the floor.
pub(crate) fn against_the_first(title: &str, rows: Vec<Row<'_>>) -> Vec<Least> {
    let found = least(rows);
    println!("{title}");
    for Least { name, nanos } in &found {
        println!("  {name:<44} {nanos:>10.1} ns {:>8.2} x", nanos / found[0].nanos);
    }
    found
}

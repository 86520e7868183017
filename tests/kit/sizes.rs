//! How large the scenarios are: so large that the ordinary run ends in a few minutes, or in full.
//!
//! `SIZE=full` makes them full, `TIMES` makes their loops so many times longer, `SEED` gives them other numbers;
//! `tests/chaos` sets all three.

use std::time::Duration;

/// The sizes of the scenarios.
pub struct Sizes {
    /// How often a worker is killed.
    pub kills: usize,
    /// How often a worker is asked to end.
    pub drains: usize,
    /// Jobs that are published before each of those.
    pub jobs_a_round: usize,
    /// Rounds of each kind of hand-over.
    pub rounds: usize,
    /// Rounds of those that wait for a heartbeat to end.
    pub slow_rounds: usize,
    /// Rounds of those in which the lane goes back and forth until all is done.
    pub lease_rounds: usize,
    /// How often one of three workers with two lanes is killed, stopped and cut off, each.
    pub lane_rounds: usize,
    /// Jobs that a worker holds when its lane changes hands.
    pub held: usize,
    /// Jobs behind those.
    pub backlog: usize,
    /// How often a connection is cut.
    pub cuts: usize,
    /// Rounds of faults over which a worker must not grow.
    pub fault_rounds: usize,
    /// How long the API refuses everything as too much.
    pub storm: Duration,
    /// Messages that are no jobs.
    pub junk: usize,
    /// How long nothing is where the broker was.
    pub broker_away: Duration,
    /// How long nothing is where the API was.
    pub endpoint_away: Duration,
}

const ORDINARY: Sizes = Sizes {
    kills: 25,
    drains: 15,
    jobs_a_round: 100,
    rounds: 4,
    slow_rounds: 2,
    lease_rounds: 1,
    lane_rounds: 1,
    held: 300,
    backlog: 300,
    cuts: 10,
    fault_rounds: 15,
    storm: Duration::from_secs(5),
    junk: 400,
    broker_away: Duration::from_secs(5),
    endpoint_away: Duration::from_secs(5),
};

const FULL: Sizes = Sizes {
    kills: 50,
    drains: 50,
    jobs_a_round: 100,
    rounds: 20,
    slow_rounds: 20,
    lease_rounds: 20,
    lane_rounds: 4,
    held: 1000,
    backlog: 1000,
    cuts: 50,
    fault_rounds: 200,
    storm: Duration::from_mins(1),
    junk: 10_000,
    broker_away: Duration::from_mins(1),
    endpoint_away: Duration::from_mins(2),
};

impl Sizes {
    /// Those of this run.
    pub fn of_run() -> Self {
        let sizes = match std::env::var("SIZE").as_deref() {
            Err(_) | Ok("ordinary") => ORDINARY,
            Ok("full") => FULL,
            Ok(other) => panic!("SIZE: found {other:?}, allowed are ordinary and full"),
        };
        let times = usize::try_from(number("TIMES").unwrap_or(1)).unwrap();
        Self {
            kills: sizes.kills * times,
            drains: sizes.drains * times,
            rounds: sizes.rounds * times,
            slow_rounds: sizes.slow_rounds * times,
            lease_rounds: sizes.lease_rounds * times,
            lane_rounds: sizes.lane_rounds * times,
            cuts: sizes.cuts * times,
            fault_rounds: sizes.fault_rounds * times,
            junk: sizes.junk * times,
            ..sizes
        }
    }
}

/// What makes the numbers of this run others than those of the next one.
pub fn seed() -> u64 {
    number("SEED").unwrap_or_default()
}

/// A number of the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: found {text:?}, not a number")))
}

/// Says what a scenario saw, for `tests/chaos`, which adds such lines up.
pub fn figures(figures: &[(&str, u64)]) {
    let scenario = std::thread::current().name().unwrap_or("scenario").to_owned();
    let figures: Vec<_> = figures.iter().map(|(name, number)| format!("{name} {number}")).collect();
    eprintln!("figures: {scenario} {}", figures.join(" "));
}

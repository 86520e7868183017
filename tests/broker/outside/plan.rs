//! The plan of a round: everything that its seed determines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use kit::history::{REGIONS, SplitMix64, account};

/// How stale listings are in random rounds, in milliseconds.
const READ_LAG: u64 = 200;

/// Number of the first nonexistent account.
const FIRST_UNKNOWN: u64 = 900;

/// A fault that is injected after a burst of jobs. Lengths are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoundFault {
    Nothing,
    /// SIGKILL.
    Kill,
    KillBoth,
    /// SIGSTOP, then SIGCONT after this long.
    Freeze(u64),
    /// SIGTERM.
    Drain,
    /// SIGHUP, with other settings.
    Reload,
    BrokerKilled,
    BrokerRestarted,
    /// The broker process is stopped for this long.
    BrokerFrozen(u64),
    /// An operator closes all connections.
    ConnectionsClosed,
    /// A worker's connections to the broker are cut.
    BrokerCut,
    /// They are cut after this many more bytes, also in the middle of a frame.
    BrokerCutAfter(u64),
    /// They pass no bytes for this long.
    BrokerSilent(u64),
    /// A worker's connections to the API are cut.
    ApiCut,
    /// They pass no bytes for this long.
    ApiSilent(u64),
    /// A worker is killed while its requests are on their way; they reach the API later.
    HeldWrites,
    /// Writes take effect this long after they arrived, and the worker is killed meanwhile.
    LateWrites(u64),
    /// This many requests exceed the rate limit.
    Throttle(u64),
    /// Responses are errors, or are lost. The name of a fault of the sandbox.
    Errors(&'static str),
    /// An image is busy for this long.
    Busy(u64),
}

/// A burst of jobs, followed by a fault.
pub(super) struct RoundStep {
    pub(super) jobs: Vec<Value>,
    /// Milliseconds between the jobs and the fault.
    pub(super) pause: u64,
    pub(super) fault: RoundFault,
    /// Which worker the fault hits: 2 is the newest, anything else the oldest.
    pub(super) victim: usize,
}

/// The plan of a round.
pub(crate) struct RoundPlan {
    pub(super) seed: u64,
    pub(super) lanes: usize,
    pub(super) images: Vec<(String, usize)>,
    pub(super) initial: Vec<BTreeSet<u64>>,
    pub(super) unknown: BTreeSet<u64>,
    pub(super) cap: usize,
    /// Whether the settings of the workers contain the cap.
    pub(super) cap_is_known: bool,
    pub(super) steps: Vec<RoundStep>,
    pub(super) invalid: BTreeSet<String>,
    /// Milliseconds.
    pub(super) write_lag: u64,
    pub(super) read_lag: u64,
    pub(super) call_timeout: u64,
    pub(super) latency: u64,
    pub(super) heartbeat: u64,
    pub(super) prefetch: u64,
    pub(super) batch: u64,
    /// Requests a second: the limit of the API (0 for none) and the rate of the workers.
    pub(super) limits: (u64, u64),
    /// Seconds.
    pub(super) lease: Option<u64>,
    /// Whether the first jobs are published before the workers start.
    pub(super) jobs_first: bool,
    /// Whether every job must succeed.
    pub(super) is_calm: bool,
}

impl RoundPlan {
    /// Returns the plan of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SplitMix64::from_seed(seed);
        let random = &mut random;
        let lanes = if random.below(4) == 0 { 2 } else { 1 };
        let is_full = random.below(3) == 0;
        let pool = 10 + random.below(20);
        let cap = if is_full { 5 + random.below(pool - 5) } else { 500 };
        let images = (0..(2 + random.below(2)) * lanes)
            .map(|number| (format!("img-outside{number}"), usize::try_from(number % lanes).unwrap()));
        let images: Vec<_> = images.collect();
        let cap = usize::try_from(cap).unwrap();
        let initial = images.iter().map(|_| some_of(random, pool, cap)).collect();
        let is_slow = random.below(5) == 0;
        let write_lag = if is_slow { 4000 } else { 1500 };
        let mut plan = Self {
            seed,
            lanes: usize::try_from(lanes).unwrap(),
            images,
            initial,
            unknown: (0..3).map(|number| account(FIRST_UNKNOWN + number)).collect(),
            cap,
            cap_is_known: random.below(2) == 0,
            write_lag,
            read_lag: READ_LAG,
            call_timeout: 1000,
            latency: 5 + random.below(40),
            heartbeat: 1 + random.below(2),
            prefetch: [3, 25, 100, 10_000][index(random, 4)],
            batch: [3, 10, 50][index(random, 3)],
            limits: [(0, 200), (0, 200), (60, 60), (50, 60)][index(random, 4)],
            // Longer than a takeover check, or no job would ever finish.
            lease: (random.below(10) == 0).then_some(write_lag / 1000 * 2 + 2),
            jobs_first: random.below(2) == 0,
            is_calm: false,
            ..Self::with_faults(seed, [])
        };
        let mut published = 0;
        for _ in 0..2 + random.below(3) {
            let jobs = (0..8 + random.below(36)).map(|_| {
                published += 1;
                plan.job(random, published, pool)
            });
            let jobs = jobs.collect();
            // Short pauses prevail, so that most faults hit while jobs are in flight.
            let longest = 1 + random.below(500);
            let step = RoundStep {
                jobs,
                pause: random.below(longest),
                fault: inject(random, write_lag),
                victim: index(random, 3),
            };
            plan.steps.push(step);
        }
        plan
    }

    /// Returns a plan with these faults, each after 100 jobs and at a random moment. All jobs can succeed.
    pub(crate) fn with_faults(scenario: u64, faults: impl IntoIterator<Item = RoundFault>) -> Self {
        const POOL: u64 = 120;
        let mut random = SplitMix64::for_scenario(scenario);
        let random = &mut random;
        let images: Vec<_> = (0..8).map(|number| (format!("img-outside{number}"), 0)).collect();
        let mut plan = Self {
            seed: scenario,
            lanes: 1,
            initial: vec![BTreeSet::new(); images.len()],
            images,
            unknown: BTreeSet::new(),
            cap: 500,
            cap_is_known: false,
            steps: Vec::new(),
            invalid: BTreeSet::new(),
            write_lag: 300,
            read_lag: 0,
            call_timeout: 10_000,
            latency: 30,
            heartbeat: 2,
            prefetch: 10_000,
            batch: 50,
            limits: (0, 100),
            lease: None,
            jobs_first: false,
            is_calm: true,
        };
        for (number, fault) in (0..).zip(faults) {
            let jobs = (0..100).map(|job| plan.plain_job(random, 100 * number + job, POOL)).collect();
            plan.steps.push(RoundStep { jobs, pause: random.below(700), fault, victim: 0 });
        }
        plan
    }

    /// Returns how many accounts of an image a worker may write although they are as requested: those of the request that
    /// a killed worker had in flight. `None` if the faults set no bound.
    pub(super) fn repeats_max(&self) -> Option<u64> {
        let is_bounded = |step: &RoundStep| {
            matches!(step.fault, RoundFault::Nothing | RoundFault::Kill | RoundFault::Drain | RoundFault::Busy(_))
        };
        let is_kill = |step: &RoundStep| step.fault == RoundFault::Kill;
        let bound = if self.steps.iter().any(is_kill) { self.batch } else { 0 };
        (self.is_calm && self.steps.iter().all(is_bounded)).then_some(bound)
    }

    /// Returns a SHARE or CANCEL of a few external accounts, for one image or for two of a lane.
    fn plain_job(&self, random: &mut SplitMix64, number: usize, pool: u64) -> Value {
        let first = index(random, self.images.len());
        let of_lane = self.images.iter().cycle().skip(first).filter(|(_, lane)| *lane == self.images[first].1);
        let image = |(id, lane): &(_, usize)| json!({"image_id": id, "region": REGIONS[*lane]});
        let mut images: Vec<_> = of_lane.take(if random.below(6) == 0 { 2 } else { 1 }).map(image).collect();
        let mut job = if images.len() > 1 { json!({"images": images}) } else { images.remove(0) };
        let accounts: BTreeSet<u64> = (0..=random.below(5)).map(|_| account(random.below(pool))).collect();
        job["job_id"] = json!(format!("job-{number:04}"));
        job["permission"] = json!(if random.below(5) < 3 { "SHARE" } else { "CANCEL" });
        job["account_ids"] = json!(texts(&accounts));
        job
    }

    fn job(&mut self, random: &mut SplitMix64, number: usize, pool: u64) -> Value {
        let mut job = self.plain_job(random, number, pool);
        let kind = random.below(100);
        if kind == 0 {
            let id = format!("invalid-{number:04}");
            (job["job_id"], job["permission"]) = (json!(id), json!("share"));
            self.invalid.insert(id);
        } else if kind < 9 {
            job["permission"] = json!("SYNC");
            job["account_ids"] = json!(texts(&some_of(random, pool, self.cap)));
            if random.below(4) > 0 {
                job["force"] = json!(true);
            }
        } else if random.below(12) == 0 {
            let unknown = account(FIRST_UNKNOWN + random.below(3)).to_string();
            job["account_ids"].as_array_mut().unwrap().push(json!(unknown));
        }
        job
    }

    /// Returns a description of the round in one line.
    pub(super) fn summary(&self) -> String {
        let faults: Vec<_> = self.steps.iter().map(|step| &step.fault).collect();
        format!("lanes {} cap {} {faults:?}", self.lanes, self.cap)
    }
}

pub(super) fn texts(accounts: &BTreeSet<u64>) -> Vec<String> {
    accounts.iter().map(ToString::to_string).collect()
}

/// Returns a random set of 1 to `at_most` accounts.
fn some_of(random: &mut SplitMix64, pool: u64, at_most: usize) -> BTreeSet<u64> {
    let count = 1 + random.below(pool.min(u64::try_from(at_most).unwrap()));
    (0..count).map(|_| account(random.below(pool))).collect()
}

fn inject(random: &mut SplitMix64, write_lag: u64) -> RoundFault {
    // A write that takes effect after the write lag would break the contract of the settings.
    let late = 100 + random.below(write_lag * 6 / 10);
    match random.below(64) {
        0..4 => RoundFault::Nothing,
        4..12 => RoundFault::Kill,
        12..14 => RoundFault::KillBoth,
        14..20 => RoundFault::Freeze(200 + random.below(3300)),
        20..25 => RoundFault::Drain,
        25..29 => RoundFault::Reload,
        29..30 => RoundFault::BrokerKilled,
        30..31 => RoundFault::BrokerRestarted,
        31..32 => RoundFault::BrokerFrozen(300 + random.below(2500)),
        32..34 => RoundFault::ConnectionsClosed,
        34..37 => RoundFault::BrokerCut,
        37..41 => RoundFault::BrokerSilent(500 + random.below(3000)),
        41..44 => RoundFault::ApiCut,
        44..46 => RoundFault::ApiSilent(100 + random.below(600)),
        46..49 => RoundFault::HeldWrites,
        49..55 => RoundFault::LateWrites(late),
        55..57 => RoundFault::Throttle(1 + random.below(6)),
        57..62 => {
            let errors = ["internal_error", "http_500", "html", "hang", "reset_before", "reset_after", "truncate"];
            RoundFault::Errors(errors[index(random, errors.len())])
        }
        _ => RoundFault::Busy(200 + random.below(1500)),
    }
}

fn index(random: &mut SplitMix64, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).unwrap())).unwrap()
}

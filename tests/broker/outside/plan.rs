//! The plan of a round: everything that its seed determines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use kit::history::{REGIONS, Random, account};

/// The lanes, each for its own region.
pub(super) const LANES: [&str; 2] = ["one", "two"];

/// Number of the first nonexistent account.
const FIRST_UNKNOWN: u64 = 900;

/// A fault that is injected after a burst of jobs. Lengths are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
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
pub(super) struct Step {
    pub(super) jobs: Vec<Value>,
    /// Milliseconds between the jobs and the fault.
    pub(super) pause: u64,
    pub(super) fault: Fault,
    /// Which worker the fault hits: 2 is the newest, anything else the oldest.
    pub(super) victim: usize,
}

/// The plan of a round.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) lanes: usize,
    pub(super) images: Vec<(String, usize)>,
    pub(super) initial: Vec<BTreeSet<u64>>,
    pub(super) unknown: BTreeSet<u64>,
    pub(super) cap: usize,
    /// Whether the settings of the workers contain the cap.
    pub(super) cap_is_known: bool,
    pub(super) steps: Vec<Step>,
    pub(super) invalid: BTreeSet<String>,
    /// Milliseconds.
    pub(super) write_lag: u64,
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
}

impl Plan {
    /// Returns the plan of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
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
            steps: Vec::new(),
            invalid: BTreeSet::new(),
            write_lag,
            latency: 5 + random.below(40),
            heartbeat: 1 + random.below(2),
            prefetch: [3, 25, 100, 10_000][index(random, 4)],
            batch: [3, 10, 50][index(random, 3)],
            limits: [(0, 200), (0, 200), (60, 60), (50, 60)][index(random, 4)],
            // Longer than a takeover check, or no job would ever finish.
            lease: (random.below(10) == 0).then_some(write_lag / 1000 * 2 + 2),
            jobs_first: random.below(2) == 0,
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
            let step =
                Step { jobs, pause: random.below(longest), fault: inject(random, write_lag), victim: index(random, 3) };
            plan.steps.push(step);
        }
        plan
    }

    fn job(&mut self, random: &mut Random, number: usize, pool: u64) -> Value {
        let (image, lane) = self.images[index(random, self.images.len())].clone();
        let region = REGIONS[lane];
        let text = |accounts: &BTreeSet<u64>| accounts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut job = json!({"job_id": format!("job-{number:04}"), "image_id": image, "region": region});
        let kind = random.below(100);
        if kind == 0 {
            let id = format!("invalid-{number:04}");
            self.invalid.insert(id.clone());
            return json!({"job_id": id, "image_id": image, "region": region, "permission": "share",
                "account_ids": [account(0).to_string()]});
        }
        if kind < 9 {
            job["permission"] = json!("SYNC");
            job["account_ids"] = json!(text(&some_of(random, pool, self.cap)));
            if random.below(4) > 0 {
                job["force"] = json!(true);
            }
            return job;
        }
        job["permission"] = json!(if kind < 60 { "SHARE" } else { "CANCEL" });
        let mut accounts: BTreeSet<u64> = (0..=random.below(5)).map(|_| account(random.below(pool))).collect();
        if random.below(12) == 0 {
            accounts.insert(account(FIRST_UNKNOWN + random.below(3)));
        }
        job["account_ids"] = json!(text(&accounts));
        job
    }

    /// Describes the round in one line.
    pub(super) fn words(&self) -> String {
        let faults: Vec<String> = self.steps.iter().map(|step| format!("{:?}", step.fault)).collect();
        let cap = if self.cap < 500 { format!(" cap {}", self.cap) } else { String::new() };
        format!("lanes {}{cap} {}", self.lanes, faults.join(", "))
    }
}

/// Returns a random set of 1 to `at_most` accounts.
fn some_of(random: &mut Random, pool: u64, at_most: usize) -> BTreeSet<u64> {
    let count = 1 + random.below(pool.min(u64::try_from(at_most).unwrap()));
    (0..count).map(|_| account(random.below(pool))).collect()
}

fn inject(random: &mut Random, write_lag: u64) -> Fault {
    // A write that takes effect after the write lag would break the contract of the settings.
    let late = 100 + random.below(write_lag * 6 / 10);
    match random.below(64) {
        0..4 => Fault::Nothing,
        4..12 => Fault::Kill,
        12..14 => Fault::KillBoth,
        14..20 => Fault::Freeze(200 + random.below(3300)),
        20..25 => Fault::Drain,
        25..29 => Fault::Reload,
        29..30 => Fault::BrokerKilled,
        30..31 => Fault::BrokerRestarted,
        31..32 => Fault::BrokerFrozen(300 + random.below(2500)),
        32..34 => Fault::ConnectionsClosed,
        34..37 => Fault::BrokerCut,
        37..41 => Fault::BrokerSilent(500 + random.below(3000)),
        41..44 => Fault::ApiCut,
        44..46 => Fault::ApiSilent(100 + random.below(600)),
        46..49 => Fault::HeldWrites,
        49..55 => Fault::LateWrites(late),
        55..57 => Fault::Throttle(1 + random.below(6)),
        57..62 => {
            let errors = ["internal_error", "http_500", "html", "hang", "reset_before", "reset_after", "truncate"];
            Fault::Errors(errors[index(random, errors.len())])
        }
        _ => Fault::Busy(200 + random.below(1500)),
    }
}

fn index(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).unwrap())).unwrap()
}

//! One engine under load: how many operations a second of processor time, and how far from the least time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use imageshare_core::{
    Class,
    ids::{AccountId, ImageId},
};
use imageshare_engine::{
    Engine,
    io::{Action, Answer, CallId, Command, DeliveryId, Input, LaneId, Outcome},
    job::{Job, Mode},
    limits::{LaneLimits, LimitValues, Limits},
    policy::{Policy, TakeoverChecks},
    time::Instant,
};

use crate::{random::Random, scenario};

/// A load: one-account SHARE jobs, all there at the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Jobs, and so operations.
    pub operations: u64,
    /// Images they are spread over.
    pub images: u64,
    /// Lanes the images are spread over.
    pub lanes: u32,
    /// How long each call takes, in milliseconds.
    pub latency: u64,
    /// How many of a thousand calls fail for no reason.
    pub transient: u64,
    /// How many of each hundred accounts of an image do not exist.
    pub bad: u64,
    /// Whether an earlier worker finished all jobs and acknowledged none, so that every job is redelivered.
    pub redelivered: bool,
}

impl Load {
    /// Returns a load of `operations` one-account jobs over 2,000 images on 200 lanes, without failures.
    #[must_use]
    pub const fn of(operations: u64) -> Self {
        Self { operations, images: 2000, lanes: 200, latency: 80, transient: 0, bad: 0, redelivered: false }
    }

    /// The image and the account of an operation.
    fn item(&self, operation: u64) -> (ImageId, AccountId) {
        (scenario::image(operation % self.images), scenario::account(operation / self.images))
    }
}

/// The result of a load.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Write requests.
    pub writes: u64,
    /// When the last job was settled, in milliseconds of virtual time.
    pub settled_at: u64,
    /// The least time in which the rate limit allows the full requests, in milliseconds.
    pub least: u64,
}

impl Carried {
    /// How many times the least time it took.
    #[must_use]
    pub fn makespan(&self) -> f64 {
        // Far below where a float would round.
        #[allow(clippy::cast_precision_loss)]
        let ratio = self.settled_at as f64 / self.least as f64;
        ratio
    }
}

/// The state of the cloud for a load.
struct Cloud {
    random: Random,
    load: Load,
    shared: BTreeMap<ImageId, Vec<AccountId>>,
}

impl Cloud {
    fn new(load: Load) -> Self {
        let mut shared: BTreeMap<ImageId, Vec<AccountId>> = BTreeMap::new();
        for operation in (0..load.operations).filter(|_| load.redelivered) {
            let (image, account) = load.item(operation);
            shared.entry(image).or_default().push(account);
        }
        Self { random: Random::new(1), load, shared }
    }

    fn answer(&mut self, action: Action) -> Outcome {
        if self.random.below(1000) < self.load.transient {
            return refused("InternalError");
        }
        match action {
            Action::Modify { image_id, account_ids, .. } if account_ids.iter().any(|&id| self.is_bad(image_id, id)) => {
                refused("InvalidAccountId.NotFound")
            }
            Action::Modify { image_id, account_ids, .. } => {
                self.shared.entry(image_id).or_default().extend(account_ids);
                Outcome::Accepted(Answer::Modified(None))
            }
            Action::ReadShares { image_id, .. } => {
                Outcome::Accepted(Answer::Shares(self.shared.get(&image_id).cloned().unwrap_or_default()))
            }
            Action::ReadImage { .. } => refused("InternalError"),
        }
    }

    /// Returns whether the account does not exist: `bad` of each hundred accounts of an image, at a pseudorandom place.
    fn is_bad(&self, image: ImageId, account: AccountId) -> bool {
        let hundred = account.get() / 100;
        let place = image.as_str().bytes().fold(hundred, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
        let first = Random::new(place).below(100);
        (account.get() + first) % 100 < self.load.bad
    }
}

fn refused(code: &str) -> Outcome {
    Outcome::Refused { code: code.into(), class: Class::of(code), message: "no".into(), request_id: None }
}

/// Carries a load out in virtual time. `held` gets the engine at the time 0, when everything is
/// delivered and there is nothing to do yet.
///
/// # Panics
/// If a job is not settled: that is a bug of the engine.
#[must_use]
pub fn carry(load: Load, held: impl FnOnce(&mut Engine)) -> Carried {
    let lane_limits = LaneLimits::default();
    // A cap that is never reached: what is measured is the pace.
    let cap = u32::try_from(load.operations).unwrap_or(u32::MAX);
    let limits = Limits::new(LimitValues { cap, ..LimitValues::default() }).expect("a load has operations");
    let policy = Policy { takeover_checks: TakeoverChecks::Off, ..Policy::WORKER };
    let mut engine = Engine::new(policy, limits, 1);
    for lane in 0..load.lanes {
        engine.handle(Instant(0), Input::LaneUp(LaneId(lane), lane_limits));
    }
    for operation in 0..load.operations {
        engine.handle(Instant(0), deliver(&load, operation));
    }
    held(&mut engine);
    let (mut now, mut settled, mut writes, mut settled_at) = (0, 0, 0, 0);
    let mut cloud = Cloud::new(load);
    let mut answers: BinaryHeap<(Reverse<u64>, CallId)> = BinaryHeap::new();
    let mut outcomes: BTreeMap<CallId, Outcome> = BTreeMap::new();
    while settled < load.operations {
        let wakes = loop {
            match engine.poll(Instant(now)) {
                Command::Call { call, action, .. } => {
                    writes += u64::from(matches!(action, Action::Modify { .. }));
                    outcomes.insert(call, cloud.answer(action));
                    answers.push((Reverse(now + load.latency), call));
                    engine.handle(Instant(now), Input::Sent(call));
                }
                Command::Settle { .. } => {
                    settled += 1;
                    settled_at = now;
                }
                Command::WaitUntil(at) => break Some(at.0),
                Command::Idle => break None,
                _ => {}
            }
        };
        let answered = answers.peek().map(|(at, _)| at.0);
        now = [wakes, answered].into_iter().flatten().min().unwrap_or_else(|| {
            assert_eq!(settled, load.operations, "nothing is left to happen");
            now
        });
        while let Some((_, call)) = answers.peek().filter(|(at, _)| at.0 <= now).copied() {
            answers.pop();
            let Some(outcome) = outcomes.remove(&call) else { continue };
            engine.handle(Instant(now), Input::Answer { call, outcome });
        }
    }
    let requests = load.operations.div_ceil(u64::from(lane_limits.batch)).div_ceil(u64::from(load.lanes));
    Carried { writes, settled_at, least: requests * 100 }
}

fn deliver(load: &Load, operation: u64) -> Input {
    let lane = LaneId(u32::try_from(operation % load.images % u64::from(load.lanes)).unwrap_or_default());
    let (image_id, account) = load.item(operation);
    let job = Job {
        region: scenario::region(),
        image_id,
        mode: Mode::Share,
        account_ids: [account].into(),
        deadline: None,
        force: false,
        redelivered: load.redelivered,
    };
    Input::Job { delivery: DeliveryId(operation), lane, job }
}

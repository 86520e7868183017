//! A scenario as a seed draws it: what the cloud and the broker do, which faults happen, and the jobs.

use std::collections::BTreeMap;

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};
use imageshare_engine::{
    job::{Job, Mode},
    limits::{LaneLimitValues, LaneLimits, LimitValues, Limits},
    policy::{Policy, TakeoverChecks},
    time::{Instant, Millis},
};
use imageshare_sandbox::{
    ledger::{Accounts, FailingBatch, Image, ImageState, Ledger, Repeat, Unknown},
    rate::Window,
};

use crate::{
    broker::{BrokerDials, DEFAULT_PRIORITY, Priority},
    fault::{InjectedFault, InjectedFaults},
    random::Random,
};

/// Everything that is decided before anything happens.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The cloud.
    pub ledger: Ledger,
    /// Requests a second that the cloud lets through, and how it counts them.
    pub rate: (u32, Window),
    /// How late a reading may be, in milliseconds; drawn for each reading.
    pub lag_max: u64,
    /// How long calls take, in milliseconds, least and most.
    pub latency: (u64, u64),
    /// The faults.
    pub faults: InjectedFaults,
    /// What differs between a worker and a command.
    pub policy: Policy,
    /// The engine's limits.
    pub limits: LimitValues,
    /// The lane's limits.
    pub lane: LaneLimitValues,
    /// Jobs and when they are published, in order.
    pub jobs: Vec<(Instant, Job)>,
    /// How many images there may be.
    pub images: u64,
    /// How many accounts there are.
    pub accounts: u64,
    /// When a person interrupts the command.
    pub interrupted_at: Option<u64>,
    /// Whether the key may not do everything with every image.
    pub may_be_denied: bool,
    /// Whether processes receive the account that their keys must belong to.
    pub expects_account: bool,
    /// Whether the account of a key can be determined.
    pub finds_owners: bool,
    /// Moments after the first job at which nothing happens but what is placed there, in milliseconds: a fault between
    /// two events needs one.
    pub moments: Vec<u64>,
    /// The dials of the broker.
    pub broker: BrokerDials,
    /// How the broker acts on priorities.
    pub priority: Priority,
    /// Jobs that are published with a priority.
    pub priorities: BTreeMap<usize, u8>,
    /// Workers that consume the lane, each one replaced when it ends: the active one and its standby.
    pub workers: u64,
    /// The maximum number of deliveries that a worker holds.
    pub prefetch: usize,
}

/// The account that owns the images.
pub const OWNER: u64 = 100_009_999_999;

/// The account of a key that takes the place of the right one.
pub const OTHER_OWNER: u64 = 100_008_888_888;

/// The number of dial settings: the cross product of the API's undocumented properties.
pub const DIALS: u64 = 4 * 2 * 2 * 2 * 3 * 3 * 2 * 3 * 3 * 2 * 2 * 2 * 2;

/// An image that is being made is NORMAL by then, in milliseconds.
const BECOMES_NORMAL_BY: u64 = 90_000;

/// How long an image waits for a permission that is missing, in milliseconds.
const DENIED_MAX: u64 = 600_000;

/// How long a refusal that names an image may be held against a replaced key, in milliseconds.
const UNPROVEN_FOR: u64 = 3_600_000;

/// While listings are refused, a SYNC asks for its own this often, in milliseconds.
const SYNC_LISTING_PAUSE: u64 = 30_000;

impl Scenario {
    /// How long after the first job faults may happen, in milliseconds.
    const HEALS_AFTER: u64 = 3_600_000;

    /// A quiet world: the documented cloud without faults and without jobs.
    #[must_use]
    pub fn quiet() -> Self {
        let mut ledger = Ledger::default();
        ledger.accounts = Accounts::open();
        ledger.dials.batch_limit = None;
        ledger.dials.share_again_alone = Repeat::Succeeds;
        ledger.dials.share_again_in_batch = Repeat::Succeeds;
        Self {
            ledger,
            rate: (10, Window::Sliding),
            lag_max: 0,
            latency: (80, 80),
            faults: InjectedFaults::default(),
            policy: Policy { takeover_checks: TakeoverChecks::Off, ..Policy::WORKER },
            limits: LimitValues::default(),
            lane: LaneLimitValues::default(),
            jobs: Vec::new(),
            images: 4,
            accounts: 24,
            interrupted_at: None,
            may_be_denied: false,
            expects_account: false,
            finds_owners: true,
            moments: Vec::new(),
            broker: BrokerDials::default(),
            priority: Priority::Ignored,
            priorities: BTreeMap::new(),
            workers: 1,
            prefetch: 10_000,
        }
    }

    /// The world of a seed. Seeds that follow each other have dials that follow each other, so that any [`DIALS`] of
    /// them cover the cross product.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut world = Self::quiet();
        world.policy = Policy::WORKER;
        // In some worlds nearly everything that is much is spread over calls.
        if seed.is_multiple_of(5) {
            world.limits.work = 1;
        }
        world.limits.write_lag = Millis(random.of(&[2000, 30_000]));
        world.limits.read_lag = Millis(random.of(&[500, 5000]));
        world.limits.lease = random.of(&[None, Some(Millis(300_000)), Some(Millis(300_000)), Some(Millis(1_200_000))]);
        world.latency = random.of(&[(20, 200), (80, 80), (1, 4000)]);
        world.lane.batch = u32::try_from(random.of(&[1, 3, 50])).unwrap_or(50);
        world.accounts = random.of(&[1, 2, 3, 5, 8, 24]);
        world.images = random.between(1, 3);
        let access = world.set_dials(seed % DIALS, &mut random);
        world.may_be_denied = access != (true, true);
        world.faults = InjectedFaults::draw(&mut random);
        world.expects_account = random.chance(50);
        world.finds_owners = random.chance(80);
        if random.chance(25) {
            world.make_one_shot(&mut random);
        }
        world.draw_accounts(&mut random);
        for nth in 0..world.images {
            world.draw_image(&mut random, nth, access);
        }
        world.draw_jobs(&mut random);
        if world.has_takeover_checks() {
            // By itself, so that what a seed draws of the cloud does not depend on the broker.
            world.draw_broker(&mut Random::new(!seed));
        }
        world
    }

    fn draw_broker(&mut self, random: &mut Random) {
        self.workers = random.of(&[1, 2, 2]);
        self.prefetch = random.of(&[1, 4, 10_000, 10_000]);
        self.limits.window = u32::try_from(self.prefetch).ok();
        self.priority = random.of(&[Priority::Ignored, Priority::TwoLevels, Priority::Levels]);
        if random.chance(25) {
            for job in 0..self.jobs.len() {
                let priority = random.of(&[None, None, None, Some(0), Some(DEFAULT_PRIORITY), Some(9)]);
                self.priorities.extend(priority.map(|priority| (job, priority)));
            }
        }
    }

    /// The limits of an engine in this world.
    ///
    /// # Panics
    /// If one is out of its bounds: that is a bug of the simulation.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::new(self.limits.clone()).expect("limits are drawn within their bounds")
    }

    /// The limits of its lane.
    ///
    /// # Panics
    /// As [`limits`](Self::limits).
    #[must_use]
    pub fn lane_limits(&self) -> LaneLimits {
        LaneLimits::new(self.lane).expect("limits are drawn within their bounds")
    }

    /// Whether another worker may have had the lane before.
    #[must_use]
    pub fn has_takeover_checks(&self) -> bool {
        self.policy.takeover_checks == TakeoverChecks::On
    }

    /// Whether a worker rejects a job for its priority.
    #[must_use]
    pub fn is_rejected(&self, job: usize) -> bool {
        let has_priority = self.priorities.get(&job).is_some_and(|&priority| priority != DEFAULT_PRIORITY);
        self.broker.rejects_priority && self.priority != Priority::Ignored && has_priority
    }

    /// Turns the world into a one-shot command: it runs its jobs and ends, without an earlier worker or a requeue.
    fn make_one_shot(&mut self, random: &mut Random) {
        self.policy = Policy::COMMAND;
        self.limits.lease = None;
        self.limits.closed_for = Millis(random.of(&[3000, 60_000]));
        self.faults.without_hand_overs();
        self.interrupted_at = random.chance(20).then(|| random.between(1000, 60_000));
    }

    /// Sets the dials to one place of their cross product. Gives whether all images may be written to and read.
    fn set_dials(&mut self, place: u64, random: &mut Random) -> (bool, bool) {
        let mut rest = place;
        let mut dial = |settings: u64| {
            let setting = usize::try_from(rest % settings).unwrap_or_default();
            rest /= settings;
            setting
        };
        let repeat = [Repeat::Succeeds, Repeat::Fails];
        let unknown = [Unknown::Empty, Unknown::Error];
        let batches = [FailingBatch::Nothing, FailingBatch::UntilFirst, FailingBatch::UntilLast, FailingBatch::Others];
        let dials = &mut self.ledger.dials;
        dials.failing_batch = batches[dial(4)];
        dials.share_again_alone = repeat[dial(2)];
        dials.share_again_in_batch = repeat[dial(2)];
        dials.cancel_absent = repeat[dial(2)];
        self.lag_max = [0, self.limits.read_lag.0 / 2, self.limits.read_lag.0][dial(3)];
        // Few accounts make short histories; what a limit does shows when it is small beside them.
        dials.batch_limit = [None, Some(10), Some(2)][dial(3)];
        self.rate.1 = [Window::Fixed, Window::Sliding][dial(2)];
        let cap = random.between(1, self.accounts.max(2));
        (dials.cap, self.limits.cap) = match dial(3) {
            0 => (500, 500),
            1 => (usize::try_from(cap).unwrap_or_default(), u32::try_from(cap).unwrap_or_default()),
            _ => (usize::try_from(cap).unwrap_or_default(), 500),
        };
        dials.listing_limit = [None, Some(20), Some(100)][dial(3)];
        let write = dial(2) == 0;
        let list = dial(2) == 0;
        dials.describe_unknown = unknown[dial(2)];
        dials.list_unknown = unknown[dial(2)];
        dials.history_ms = 120_000;
        (write, list)
    }

    /// How many accounts an image may have, by the cloud or by the engine's settings.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.ledger.dials.cap.min(self.limits.cap as usize)
    }

    /// After this virtual time, in milliseconds, the world has no more faults and permits everything.
    #[must_use]
    pub fn heals_at(&self) -> u64 {
        Self::HEALS_AFTER + self.jobs.first().map_or(0, |(at, _)| at.0)
    }

    /// The virtual time, in milliseconds, by which every job must be settled.
    ///
    /// It counts from when nothing keeps the jobs waiting any more: the last one is there, nothing fails, no image is
    /// occupied. Then every job may have to wait once for each thing that a rule lets it wait for, and every account
    /// may cost requests of its own.
    #[must_use]
    pub fn bound(&self) -> u64 {
        let last = self.jobs.last().map_or(0, |(at, _)| at.0);
        let LimitValues { write_lag, read_lag, image_wait, image_wait_blocked, closed_for, .. } = &self.limits;
        let mut from = last;
        if self.faults.may_any() || self.may_be_denied {
            // A lane may have been closed.
            from = from.max(self.heals_at()) + 2 * closed_for.0 + 120_000 + 2 * DENIED_MAX;
        }
        if !self.finds_owners
            && (self.faults.may(InjectedFault::Credential) || self.faults.may(InjectedFault::ForeignKey))
        {
            // An image that does not exist may be held against a key whose account is not known.
            from += UNPROVEN_FOR;
        }
        if self.faults.may(InjectedFault::Busy) {
            // An image may have been occupied for an hour just before.
            from += image_wait.0 + 3_600_000;
        }
        if self.prefetch < self.jobs.len() {
            // Each job may have to wait until those of the window before it are done.
            from += self.jobs.len() as u64 * (image_wait_blocked.0 + 2 * DENIED_MAX);
        }
        from += BECOMES_NORMAL_BY + 60_000;
        // Before it a reading, behind it another one, each past all that may land and all that may be seen late.
        let reading = write_lag.0 + read_lag.0 + 2 * self.latency.1 + 1000;
        let accounts = |job: &Job| job.account_ids.len() as u64 * (2000 + 4 * self.latency.1 + self.retries());
        // While listings are refused, a SYNC asks for its own after so long.
        let spacing = |job: &Job| if job.mode == Mode::Sync { 2 * SYNC_LISTING_PAUSE } else { 0 };
        from + self.jobs.iter().map(|(_, job)| 2 * reading + spacing(job) + accounts(job)).sum::<u64>()
    }

    /// How many calls every job may cost where no fault happens: readings before and after, full requests, and where a
    /// list may be refused for what it holds, requests of its own for every account.
    #[must_use]
    pub fn calls_bound(&self) -> u64 {
        if self.faults.may_any() || self.may_be_denied {
            return u64::MAX;
        }
        let Accounts { unknown, sub_accounts, faults, .. } = &self.ledger.accounts;
        let well = unknown.is_empty() && sub_accounts.is_empty() && faults.is_empty();
        // A list may also be refused for its length, for what the image has already, or for what it may not have.
        let is_cut = self.ledger.dials.listing_limit.is_some_and(|limit| limit as u64 <= self.accounts);
        let is_plain = well && !is_cut && self.ledger.dials.batch_limit.is_none() && self.cap() >= 500;
        let tries = if faults.is_empty() { 1 } else { u64::from(self.limits.attempts) };
        let of_job = |job: &Job| {
            // A SYNC cancels the shares of all accounts that it does not name.
            let others = if job.mode == Mode::Sync { self.accounts } else { 0 };
            let accounts = others.max(job.account_ids.len() as u64);
            let alone = if is_plain { 0 } else { 6 * tries * accounts };
            6 + accounts.div_ceil(u64::from(self.lane.batch)) + alone
        };
        // An image that is being made is asked for again and again.
        let questions = if self.is_any_pending() { 2 * BECOMES_NORMAL_BY / 1000 } else { 0 };
        self.images * questions + self.jobs.iter().map(|(_, job)| of_job(job)).sum::<u64>()
    }

    fn is_any_pending(&self) -> bool {
        (0..self.images).any(|nth| {
            let view = self.ledger.image(0, account_of(OWNER), region(), image(nth));
            view.is_ok_and(|view| view.is_some_and(|view| matches!(view.state, ImageState::Creating)))
        })
    }

    /// How long the tries of one account may take, each with its answer and its pause.
    fn retries(&self) -> u64 {
        let pauses: u64 = self.limits.pauses.iter().take(self.limits.attempts as usize).map(|pause| pause.0).sum();
        let fails = !self.ledger.accounts.faults.is_empty();
        if fails { pauses + u64::from(self.limits.attempts) * self.latency.1 } else { 0 }
    }

    fn draw_accounts(&mut self, random: &mut Random) {
        let known = &mut self.ledger.accounts;
        for nth in 0..self.accounts {
            match random.below(16) {
                0 => _ = known.unknown.insert(account(nth)),
                1 => _ = known.sub_accounts.insert(account(nth)),
                2 if random.chance(40) => {
                    let codes = ["InternalError", "NeverHeardOf.This", "InvalidParameterValue"];
                    known.faults.insert(account(nth), random.of(&codes).into());
                }
                _ => {}
            }
        }
    }

    fn draw_image(&mut self, random: &mut Random, nth: u64, (write, list): (bool, bool)) {
        let mut drawn = Image::normal(account_of(OWNER), region());
        drawn.access.write = write || random.chance(50);
        drawn.access.list = list || random.chance(50);
        match random.below(20) {
            0 => drawn.state = ImageState::CreateFailed,
            1 => drawn.encrypted = true,
            2 => {
                drawn.state = ImageState::Creating;
                drawn.normal_at = Some(random.between(1000, BECOMES_NORMAL_BY));
            }
            3 => return,
            _ => {}
        }
        self.ledger.put_image(image(nth), drawn);
        let mut room = self.ledger.dials.cap;
        for shared in 0..self.accounts {
            if room > 0 && random.chance(25) {
                room -= 1;
                self.ledger.impose(0, image(nth), account(shared), Permission::Share);
            }
        }
    }

    fn draw_jobs(&mut self, random: &mut Random) {
        // A backlog may be older than any budget.
        let mut at = random.of(&[0, 1000, 1000, 10_000_000]);
        let late = at > 1_000_000;
        for _ in 0..random.of(&[1, 2, 3, 5, 12, 25]) {
            at += random.of(&[0, 0, 100, 3000, 40_000]);
            let mut job = self.draw_job(random);
            let expired = if late { random.between(1, at) } else { at + random.between(1, 30_000) };
            job.deadline = random.chance(8).then_some(Instant(expired));
            self.jobs.push((Instant(at), job.clone()));
            if random.chance(8) {
                // The same job published twice.
                self.jobs.push((Instant(at), job));
            }
        }
    }

    fn draw_job(&self, random: &mut Random) -> Job {
        let named = random.between(1, self.accounts);
        let first = random.below(self.accounts);
        let modes = [Mode::Share, Mode::Share, Mode::Share, Mode::Cancel, Mode::Cancel, Mode::Sync];
        let mut account_ids: Vec<_> = (0..named).map(|nth| account((first + nth) % self.accounts)).collect();
        if random.chance(10) {
            account_ids.push(account_ids[0]);
        }
        Job {
            region: region(),
            image_id: image(random.below(self.images)),
            mode: random.of(&modes),
            account_ids: account_ids.into(),
            deadline: None,
            force: random.chance(50),
            redelivered: false,
        }
    }
}

/// The account with this number.
#[must_use]
pub fn account(nth: u64) -> AccountId {
    account_of(200_000_000_000 + nth)
}

/// The image with this number.
///
/// # Panics
/// Never: the text is well formed.
#[must_use]
pub fn image(nth: u64) -> ImageId {
    format!("img-{nth:08}").parse().expect("eight digits after the prefix are an image id")
}

/// The region of all images.
///
/// # Panics
/// Never: the text is well formed.
#[must_use]
pub fn region() -> Region {
    "ap-singapore".parse().expect("a region of the vendor's list")
}

pub(crate) fn account_of(number: u64) -> AccountId {
    AccountId::new(number).expect("the numbers in use have 12 digits")
}

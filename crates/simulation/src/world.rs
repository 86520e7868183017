//! A world as a seed draws it: what the cloud does, which faults happen, and the jobs.

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};
use imageshare_engine::{
    job::{Job, Mode},
    limits::{LaneLimits, Limits},
    time::Instant,
};
use imageshare_sandbox::{
    ledger::{Accounts, Dials, FailingBatch, Image, ImageState, Ledger, Repeat, Unknown},
    rate::Window,
};

use crate::random::Random;

/// How often each fault happens, in hundredths of all calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The API refuses for the number of requests although there were few.
    pub throttle: u64,
    /// An InternalError that changes nothing.
    pub internal_error: u64,
    /// Applied, but the answer is lost.
    pub answer_lost: u64,
    /// No answer, and applied late, up to `landing` after it was sent.
    pub late: u64,
    /// No answer, and never applied.
    pub swallowed: u64,
    /// No connection.
    pub unconnected: u64,
    /// The credential is refused, and a refresh helps.
    pub credential: u64,
    /// The worker is killed and all that is not settled comes again, in hundredths of all steps.
    pub kill: u64,
    /// The lane is lost and found again by the same process, in hundredths of all steps.
    pub lost: u64,
    /// The endpoint is away for a while, once.
    pub outage: bool,
}

/// Everything that a seed decides before anything happens.
#[derive(Debug)]
pub struct World {
    /// The cloud.
    pub ledger: Ledger,
    /// Requests a second that the cloud lets through, and how it counts them.
    pub rate: (u32, Window),
    /// How late a reading may be, in milliseconds; drawn for each reading.
    pub lag_max: u64,
    /// How long calls take, in milliseconds, least and most.
    pub latency: (u64, u64),
    /// The faults.
    pub faults: Faults,
    /// The engine's limits.
    pub limits: Limits,
    /// The lane's limits.
    pub lane: LaneLimits,
    /// Jobs and when they are published, in order.
    pub jobs: Vec<(Instant, Job)>,
}

/// The account that owns the images.
pub const OWNER: u64 = 100_009_999_999;

impl World {
    /// A quiet world: the documented cloud without faults and without jobs.
    #[must_use]
    pub fn quiet() -> Self {
        let mut ledger = Ledger::default();
        ledger.accounts = Accounts::open();
        Self {
            ledger,
            rate: (10, Window::Sliding),
            lag_max: 0,
            latency: (80, 80),
            faults: Faults::default(),
            limits: Limits { guard: false, ..Limits::default() },
            lane: LaneLimits::default(),
            jobs: Vec::new(),
        }
    }

    /// The world of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut world = Self::quiet();
        world.limits.guard = true;
        world.limits.landing = imageshare_engine::time::Millis(random.of(&[2000, 30_000]));
        world.limits.read_delay = imageshare_engine::time::Millis(random.of(&[500, 5000]));
        world.lag_max = random.of(&[0, world.limits.read_delay.0 / 2, world.limits.read_delay.0]);
        world.latency = random.of(&[(20, 200), (80, 80), (1, 4000)]);
        world.rate = (10, random.of(&[Window::Fixed, Window::Sliding]));
        world.ledger.dials = Self::draw_dials(&mut random);
        world.lane.batch = u32::try_from(random.of(&[1, 3, 50])).unwrap_or(50);
        world.faults = Self::draw_faults(&mut random);
        let accounts = random.between(1, 24);
        let images = random.between(1, 4);
        world.draw_accounts(&mut random, accounts);
        for image in 0..images {
            world.draw_image(&mut random, image, accounts);
        }
        world.draw_jobs(&mut random, images, accounts);
        world
    }

    fn draw_dials(random: &mut Random) -> Dials {
        let repeat = [Repeat::Succeeds, Repeat::Fails];
        let batch = [FailingBatch::Nothing, FailingBatch::UntilFirst, FailingBatch::UntilLast, FailingBatch::Others];
        Dials {
            cap: random.of(&[500, 500, 5, 12]),
            batch_limit: random.of(&[None, Some(2), Some(10)]),
            listing_limit: None,
            failing_batch: random.of(&batch),
            share_again_alone: random.of(&repeat),
            share_again_in_batch: random.of(&repeat),
            cancel_absent: random.of(&repeat),
            describe_unknown: random.of(&[Unknown::Empty, Unknown::Error]),
            list_unknown: random.of(&[Unknown::Empty, Unknown::Error]),
            history_ms: 120_000,
        }
    }

    fn draw_faults(random: &mut Random) -> Faults {
        let mut faults = Faults::default();
        if random.chance(20) {
            return faults;
        }
        let mut often = |percent: u64| if random.chance(40) { percent } else { 0 };
        faults.throttle = often(5);
        faults.internal_error = often(8);
        faults.answer_lost = often(8);
        faults.late = often(8);
        faults.swallowed = often(5);
        faults.unconnected = often(5);
        faults.credential = often(2);
        faults.kill = often(1);
        faults.lost = often(1);
        faults.outage = often(1) > 0;
        faults
    }

    fn draw_accounts(&mut self, random: &mut Random, accounts: u64) {
        let known = &mut self.ledger.accounts;
        for nth in 0..accounts {
            match random.below(20) {
                0 => _ = known.unknown.insert(account(nth)),
                1 => _ = known.sub_accounts.insert(account(nth)),
                2 if random.chance(30) => {
                    let code =
                        random.of(&["InternalError", "NeverHeardOf.This", "InvalidParameterValue.InvalidAppIdFormat"]);
                    known.faults.insert(account(nth), code.into());
                }
                _ => {}
            }
        }
    }

    fn draw_image(&mut self, random: &mut Random, nth: u64, accounts: u64) {
        let mut drawn = Image::normal(account_of(OWNER), region());
        match random.below(20) {
            0 => drawn.state = ImageState::CreateFailed,
            1 => drawn.encrypted = true,
            2 => drawn.access.list = false,
            3 => drawn.access.write = false,
            4 => {
                drawn.state = ImageState::Creating;
                drawn.normal_at = Some(random.between(1000, 90_000));
            }
            5 => return,
            _ => {}
        }
        self.ledger.put_image(image(nth), drawn);
        for shared in 0..accounts {
            if random.chance(25) {
                self.ledger.impose(0, image(nth), account(shared), Permission::Share);
            }
        }
    }

    fn draw_jobs(&mut self, random: &mut Random, images: u64, accounts: u64) {
        let mut at = 1000;
        for _ in 0..random.between(1, 40) {
            at += random.of(&[0, 0, 100, 3000, 40_000]);
            let named = random.between(1, accounts);
            let first = random.below(accounts);
            let mode = random.of(&[Mode::Share, Mode::Share, Mode::Share, Mode::Cancel, Mode::Cancel, Mode::Sync]);
            let expires = random.chance(8).then(|| Instant(at + random.between(1, 30_000)));
            let mut account_ids: Vec<_> = (0..named).map(|nth| account((first + nth) % accounts)).collect();
            if random.chance(10) {
                account_ids.push(account_ids[0]);
            }
            let job = Job {
                region: region(),
                image_id: image(random.below(images)),
                mode,
                account_ids: account_ids.into(),
                deadline: expires,
                force: random.chance(50),
                redelivered: false,
            };
            self.jobs.push((Instant(at), job));
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

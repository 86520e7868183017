//! Histories for the simulation and its checker.

use imageshare_core::Permission;
use imageshare_engine::{
    job::{Job, Mode},
    policy::Policy,
    time::{Instant, Millis},
};
use imageshare_sandbox::{
    ledger::{FailingBatch, Image, ImageState, Repeat, Unknown},
    rate::Window,
};
use imageshare_simulation::{
    fault::{InjectedFault, InjectedFaults},
    run::run,
    scenario::{OWNER, Scenario, account, image, region},
};

use crate::source::Source;

/// Maximum number of jobs of a history. More jobs reach no other states.
const JOBS_MAX: usize = 16;

/// Maximum number of faults of a history.
const FAULTS_MAX: usize = 16;

/// The accounts of a world. Each bit of a job's byte names one or three accounts, since the engine treats lists of more than
/// 16 differently.
const ACCOUNTS: u64 = 3 * BITS;
const BITS: u64 = 8;

/// Images of a world.
const IMAGES: usize = 2;

/// Milliseconds between two jobs.
const GAPS: [u64; 8] = [0, 0, 100, 500, 1900, 3000, 40_000, 10_000_000];

/// Codes that an account may fail with.
const CODES: [&str; 3] = ["InternalError", "NeverHeardOf.This", "InvalidParameterValue"];

/// Ends a history; another one follows.
const END: [u8; 4] = [0xff; 4];

/// Checks histories: three bytes for seed and limits, then four bytes for each job, fault, dial of the ledger, property of an
/// account or image, or the end. The simulation's checker must report no violation.
///
/// # Panics
/// If it reports one.
pub fn engine(data: &[u8]) {
    let mut source = Source::new(data);
    while check_history(&mut source) {}
}

/// Checks the next history. Returns whether another one follows.
fn check_history(source: &mut Source<'_>) -> bool {
    let [seed, limits, lane] = [source.byte(), source.byte(), source.byte()];
    let mut plan = WorldBuilder::new(limits, lane);
    let mut has_next = false;
    while let Some(record) = source.take() {
        if record == END {
            has_next = true;
            break;
        }
        let [kind, a, b, c] = record;
        match kind % 8 {
            0..=2 => plan.job(kind & 0x80 != 0, a, b, c),
            3 | 4 => plan.fault(a, u16::from_be_bytes([b, c])),
            5 => plan.dial(a, b),
            6 => plan.account(a, b, c),
            _ => plan.image(a, b),
        }
    }
    let world = plan.finish();
    if world.jobs.is_empty() {
        return has_next;
    }
    let ended = run(world.clone(), seed.into(), false);
    if !ended.violations.is_empty() {
        let log = run(world, seed.into(), true).log;
        panic!("{:#?}\n{}", ended.violations, log.join("\n"));
    }
    has_next
}

/// Builds a world from the records of an input.
struct WorldBuilder {
    world: Scenario,
    is_one_shot: bool,
    now: u64,
    faults: Vec<(u64, InjectedFault)>,
    /// The cap of accounts per image, and whether the engine's settings have it.
    cap: Option<(u8, bool)>,
    lag: u64,
    shared: Vec<(u64, u64)>,
    images: [Image; IMAGES],
}

impl WorldBuilder {
    fn new(limits: u8, lane: u8) -> Self {
        let mut world = Scenario::quiet();
        let bit = |nth: u8| limits & (1 << nth) != 0;
        world.accounts = ACCOUNTS;
        world.images = IMAGES as u64;
        world.policy = Policy::WORKER;
        world.limits.write_lag = Millis(if bit(0) { 2000 } else { 30_000 });
        world.limits.read_lag = Millis(if bit(1) { 500 } else { 5000 });
        world.limits.lease = bit(2).then_some(Millis(300_000));
        world.latency = [(80, 80), (20, 200), (1, 4000), (80, 80)][usize::from(limits >> 3 & 3)];
        world.lane.batch = [50, 1, 3, 50][usize::from(lane & 3)];
        world.ledger.dials.history_ms = 120_000;
        let is_one_shot = bit(5);
        if is_one_shot {
            world.policy = Policy::COMMAND;
            world.limits.lease = None;
            world.limits.closed_for = Millis(if bit(6) { 3000 } else { 60_000 });
            world.interrupted_at = bit(7).then(|| 1000 + u64::from(lane) * 200);
        }
        let owner = imageshare_core::ids::AccountId::new(OWNER).expect("it has twelve digits");
        let images = [(); IMAGES].map(|()| Image::normal(owner, region()));
        let (now, faults, cap, lag, shared) = (1000, Vec::new(), None, 0, Vec::new());
        Self { world, is_one_shot, now, faults, cap, lag, shared, images }
    }

    fn job(&mut self, is_long: bool, what: u8, accounts: u8, how: u8) {
        if self.world.jobs.len() >= JOBS_MAX {
            return;
        }
        self.now += GAPS[usize::from(how & 7)];
        let named = (0..if is_long { ACCOUNTS } else { BITS }).filter(|nth| accounts & (1 << (nth % BITS)) != 0);
        let mut account_ids: Vec<_> = named.map(account).collect();
        if account_ids.is_empty() {
            account_ids = vec![account(0), account(1), account(0)];
        }
        if what & 0x80 != 0 {
            account_ids.reverse();
        }
        let job = Job {
            region: region(),
            image_id: image(u64::from(how >> 3 & 1)),
            mode: [Mode::Share, Mode::Cancel, Mode::Share, Mode::Sync][usize::from(what & 3)],
            account_ids: account_ids.into(),
            deadline: (how & 0x10 != 0).then(|| Instant(self.now + u64::from(what >> 2 & 0x1f) * 1000)),
            force: how & 0x20 != 0,
            redelivered: false,
        };
        self.world.jobs.push((Instant(self.now), job.clone()));
        if how & 0x40 != 0 && self.world.jobs.len() < JOBS_MAX {
            self.world.jobs.push((Instant(self.now), job));
        }
    }

    fn fault(&mut self, which: u8, nth: u16) {
        let mut all = InjectedFault::OF_CALLS.into_iter().chain(InjectedFault::OF_STEPS).cycle();
        let fault = all.nth(which.into()).expect("it is a cycle");
        // No worker takes over from a one-shot command.
        if self.faults.len() < FAULTS_MAX && !(self.is_one_shot && fault.is_hand_over()) {
            self.faults.push((1 + u64::from(nth % 512), fault));
        }
    }

    fn dial(&mut self, which: u8, setting: u8) {
        const BATCHES: [FailingBatch; 4] =
            [FailingBatch::Nothing, FailingBatch::UntilFirst, FailingBatch::UntilLast, FailingBatch::Others];
        let is_odd = setting % 2 == 1;
        let repeat = if is_odd { Repeat::Fails } else { Repeat::Succeeds };
        let unknown = if is_odd { Unknown::Error } else { Unknown::Empty };
        let third = usize::from(setting % 3);
        let world = &mut self.world;
        let dials = &mut world.ledger.dials;
        match which % 13 {
            0 => dials.failing_batch = BATCHES[usize::from(setting % 4)],
            1 => dials.share_again_alone = repeat,
            2 => dials.share_again_in_batch = repeat,
            3 => dials.cancel_absent = repeat,
            4 => self.lag = [0, world.limits.read_lag.0 / 2, world.limits.read_lag.0][third],
            5 => dials.batch_limit = [None, Some(10), Some(2)][third],
            6 => world.rate.1 = if is_odd { Window::Fixed } else { Window::Sliding },
            7 => self.cap = Some((1 + (setting >> 1) % 24, is_odd)),
            8 => dials.listing_limit = [None, Some(20), Some(100)][third],
            9 => dials.describe_unknown = unknown,
            10 => dials.list_unknown = unknown,
            11 => {
                self.images[usize::from(setting >> 1 & 1)].access.write = is_odd;
                world.may_be_denied = true;
            }
            _ => {
                self.images[usize::from(setting >> 1 & 1)].access.list = is_odd;
                world.may_be_denied = true;
            }
        }
    }

    fn account(&mut self, what: u8, nth: u8, code: u8) {
        let account = account(u64::from(nth) % ACCOUNTS);
        let known = &mut self.world.ledger.accounts;
        match what % 3 {
            0 => _ = known.unknown.insert(account),
            1 => _ = known.sub_accounts.insert(account),
            _ => _ = known.faults.insert(account, CODES[usize::from(code) % CODES.len()].to_owned()),
        }
    }

    fn image(&mut self, what: u8, accounts: u8) {
        let nth = u64::from(what & 1);
        let image = &mut self.images[usize::from(what & 1)];
        match what >> 1 & 7 {
            0 => image.state = ImageState::CreateFailed,
            1 => image.encrypted = true,
            2 => {
                image.state = ImageState::Creating;
                image.normal_at = Some(1000 + u64::from(accounts) * 300);
            }
            _ => {
                let named = (0..BITS).filter(|other| accounts & (1 << other) != 0);
                self.shared.extend(named.map(|other| (nth, other)));
            }
        }
    }

    fn finish(self) -> Scenario {
        let Self { mut world, faults, cap, lag, shared, images, .. } = self;
        world.lag_max = lag;
        world.faults = InjectedFaults::placed(faults);
        if let Some((cap, is_known)) = cap {
            world.ledger.dials.cap = cap.into();
            world.limits.cap = if is_known { cap.into() } else { 500 };
        }
        for (nth, drawn) in (0..).zip(images) {
            world.ledger.put_image(image(nth), drawn);
        }
        for (nth, other) in shared {
            let has_room = world.ledger.shared_count(image(nth)) < world.ledger.dials.cap;
            if has_room && !world.ledger.is_shared(image(nth), account(other)) {
                world.ledger.impose(0, image(nth), account(other), Permission::Share);
            }
        }
        world
    }
}

//! A dry run: the engine itself, in virtual time, against the listings of the images and an API that accepts every write.
//!
//! So a plan has the same requests, pauses and failures as the work. It cannot foresee what the API refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};
use imageshare_engine::{
    Engine,
    io::{Action, Answer, CallId, Command, DeliveryId, ImageReadiness, Input, LaneId, Outcome},
    job::{AccountOutcome, Job, Mode, Report, local},
    limits::{LaneLimits, LimitValues, Limits, may_be_truncated},
    policy::Policy,
    time::{Instant, Millis},
};
use serde::Serialize;

use crate::{
    credentials::Owner,
    driver::{DELIVERIES_MAX, ITEMS_MAX},
};

/// An image of a lane.
pub type PlannedImage = (LaneId, Region, ImageId);

/// The work of all jobs, carried out in virtual time. Holds each account of each image once, and the jobs that a run holds.
#[derive(Debug)]
pub struct Plan {
    engine: Engine,
    limits: Limits,
    now: Instant,
    latency: Millis,
    /// Responses on their way, by their arrival.
    responses: BTreeMap<(Instant, CallId), Answer>,
    jobs: BTreeMap<DeliveryId, PlannedJob>,
    next_delivery: u64,
    images: BTreeMap<PlannedImage, ImageModel>,
    finished_at: Instant,
}

/// The change that an image needs. The accounts of each list are sorted, and no account is in two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedChange {
    /// Accounts that it would be shared with.
    pub share: Vec<AccountId>,
    /// Accounts that it would be cancelled for.
    pub cancel: Vec<AccountId>,
    /// Accounts that jobs name and that are in the requested state already.
    pub unchanged: Vec<AccountId>,
    /// Accounts that would fail without a response of the API.
    pub failed: Vec<PlannedFailure>,
    /// How many accounts should have the image and do not, also those above its cap.
    pub missing: usize,
    /// Write requests, if none is refused.
    pub requests: usize,
    /// The last SYNC that the cancel limit would refuse. Its changes are in the lists.
    pub refused_sync: Option<RefusedSync>,
}

/// Accounts that would fail for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedFailure {
    /// The code of the failure.
    pub code: String,
    /// One printable line.
    pub message: String,
    /// The accounts.
    pub account_ids: Vec<AccountId>,
}

/// A SYNC without `force` that would cancel more than the cancel limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedSync {
    /// Accounts that it would cancel.
    pub cancel: usize,
    /// Accounts that have the image when it begins.
    pub shared: usize,
}

impl PlannedChange {
    /// Whether the image is shared as requested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing == 0 && self.cancel.is_empty()
    }
}

#[derive(Debug)]
struct PlannedJob {
    image: PlannedImage,
    mode: Mode,
    force: bool,
}

/// An image in virtual time.
#[derive(Debug)]
struct ImageModel {
    /// The accounts of the listing.
    listed: BTreeSet<AccountId>,
    shared: BTreeSet<AccountId>,
    /// The outcome of the last job that names the account, with the permission it asked for.
    outcomes: BTreeMap<AccountId, (Permission, AccountOutcome)>,
    requests: usize,
    refused_sync: Option<RefusedSync>,
}

impl Plan {
    /// Returns a plan without images.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        // A SYNC over the cancel limit is planned to its end, so that the plan names the accounts it would cancel.
        let unlimited = LimitValues { cancel_limit_percent: 100, ..LimitValues::clone(limits) };
        let unlimited = Limits::new(unlimited).expect("the other limits are valid, and 100 % is");
        Self {
            engine: Engine::new(Policy::COMMAND, unlimited, 0),
            limits: limits.clone(),
            now: Instant::default(),
            latency: Millis::default(),
            responses: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_delivery: 0,
            images: BTreeMap::new(),
            finished_at: Instant::default(),
        }
    }

    /// Sets how long each response takes.
    pub fn set_latency(&mut self, latency: Duration) {
        self.latency = millis(latency);
    }

    /// Adds a lane, with the account of its credential as far as it is known, and the one that the settings expect.
    pub fn add_lane(&mut self, lane: LaneId, limits: LaneLimits, owner: &Owner, expected: Option<AccountId>) {
        let owner = match owner {
            Owner::Known(account) => Input::OwnAccount(lane, *account),
            Owner::Asked | Owner::Unknown(_) | Owner::Unreached(_) => Input::OwnerUnknown(lane),
        };
        for input in [Input::LaneUp(lane, limits), Input::ExpectAccount(lane, expected), owner] {
            self.engine.handle(self.now, input);
        }
    }

    /// Returns whether the plan has the listing of an image.
    #[must_use]
    pub fn has_image(&self, image: &PlannedImage) -> bool {
        self.images.contains_key(image)
    }

    /// Adds an image with its listing.
    pub fn add_image(&mut self, image: PlannedImage, listed: impl IntoIterator<Item = AccountId>) {
        let listed: BTreeSet<_> = listed.into_iter().collect();
        let model =
            ImageModel { shared: listed.clone(), listed, outcomes: BTreeMap::new(), requests: 0, refused_sync: None };
        self.images.insert(image, model);
    }

    /// Adds a job of a lane, for an image that was added, with the time left until it expires.
    pub fn add_job(&mut self, lane: LaneId, mut job: Job, expires_in: Option<Duration>) {
        self.run(|engine| engine.jobs() < DELIVERIES_MAX && engine.operations() < ITEMS_MAX);
        let delivery = DeliveryId(self.next_delivery);
        self.next_delivery += 1;
        job.deadline = expires_in.map(|left| self.now + millis(left));
        let image = (lane, job.region, job.image_id);
        self.jobs.insert(delivery, PlannedJob { image, mode: job.mode, force: job.force });
        self.engine.handle(self.now, Input::Job { delivery, lane, job });
    }

    /// Carries out all jobs. Returns the change of each image, and how long the work would take.
    #[must_use]
    pub fn finish(mut self) -> (BTreeMap<PlannedImage, PlannedChange>, Duration) {
        self.run(|engine| engine.jobs() == 0);
        let cap = self.limits.cap;
        let changes = self.images.into_iter().map(|(image, model)| (image, model.into_change(cap))).collect();
        (changes, Duration::from_millis(self.finished_at.0))
    }

    /// Carries out commands, and lets the time pass, until the engine is as requested.
    fn run(&mut self, is_reached: impl Fn(&Engine) -> bool) {
        loop {
            let alarm = match self.engine.poll(self.now) {
                Command::WaitUntil(at) => Some(at),
                Command::Idle => None,
                command => {
                    self.carry_out(command);
                    continue;
                }
            };
            if is_reached(&self.engine) {
                return;
            }
            let response = self.responses.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = [alarm, response].into_iter().flatten().min() else { return };
            self.now = self.now.max(at);
            if let Some(response) = self.responses.first_entry().filter(|response| response.key().0 <= self.now) {
                let ((_, call), answer) = response.remove_entry();
                self.engine.handle(self.now, Input::Answer { call, outcome: Outcome::Accepted(answer) });
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Call { call, lane, action } => {
                let answer = self.answer(lane, action);
                self.engine.handle(self.now, Input::Sent(call));
                self.responses.insert((self.now + self.latency, call), answer);
            }
            Command::Settle { delivery, report } => {
                self.finished_at = self.now;
                if let Some(job) = self.jobs.remove(&delivery)
                    && let Some(image) = self.images.get_mut(&job.image)
                {
                    image.settle(&job, *report, self.limits.cancel_limit_percent);
                }
            }
            Command::RefreshCredential(lane) => self.engine.handle(self.now, Input::RefreshFailed(lane)),
            Command::Idle | Command::Notice(..) | Command::Requeue(_) | Command::WaitUntil(_) => {}
        }
    }

    /// The response of an API that accepts everything.
    fn answer(&mut self, lane: LaneId, action: Action) -> Answer {
        match action {
            Action::Modify { region, image_id, permission, account_ids } => {
                if let Some(image) = self.images.get_mut(&(lane, region, image_id)) {
                    image.requests += 1;
                    match permission {
                        Permission::Share => image.shared.extend(account_ids),
                        Permission::Cancel => image.shared.retain(|account| !account_ids.contains(account)),
                    }
                }
                Answer::Modified(None)
            }
            Action::ReadShares { region, image_id } => {
                let image = self.images.get(&(lane, region, image_id));
                Answer::Shares(image.map_or_else(Vec::new, |image| image.shared.iter().copied().collect()))
            }
            Action::ReadImage { .. } => Answer::Image(ImageReadiness::Normal),
        }
    }
}

impl ImageModel {
    fn settle(&mut self, job: &PlannedJob, report: Report, cancel_limit_percent: u32) {
        if job.mode == Mode::Sync && !job.force {
            let is_changed =
                |(_, outcome): &&(AccountId, AccountOutcome)| matches!(outcome, AccountOutcome::Changed(_));
            let added = report.outcomes.iter().filter(is_changed).count();
            let cancel = report.cancelled.len();
            let shared = (self.shared.len() + cancel).saturating_sub(added);
            let limit = usize::try_from(cancel_limit_percent).unwrap_or(usize::MAX);
            if cancel > shared * limit / 100 {
                self.refused_sync = Some(RefusedSync { cancel, shared });
            }
        }
        let of_job = report.outcomes.into_iter().map(|(account, outcome)| (account, job.mode.permission(), outcome));
        let cancelled = report.cancelled.into_iter().map(|(account, outcome)| (account, Permission::Cancel, outcome));
        for (account, permission, outcome) in of_job.chain(cancelled) {
            self.outcomes.insert(account, (permission, outcome));
        }
    }

    fn into_change(self, cap: u32) -> PlannedChange {
        let mut change =
            PlannedChange { requests: self.requests, refused_sync: self.refused_sync, ..PlannedChange::default() };
        let is_absence_proven = !may_be_truncated(self.listed.len(), cap);
        let mut failed: BTreeMap<_, Vec<AccountId>> = BTreeMap::new();
        for (account, (permission, outcome)) in self.outcomes {
            let is_listed = self.listed.contains(&account);
            match (permission, outcome) {
                (_, AccountOutcome::Failed(failure)) => {
                    // A SYNC above the cap fails for all its accounts, also for those that have the image.
                    change.missing += usize::from(*failure.code == *local::OVER_QUOTA && !is_listed);
                    failed.entry((failure.code.clone(), failure.message.clone())).or_default().push(account);
                }
                (Permission::Share, AccountOutcome::Changed(_)) if !is_listed => change.share.push(account),
                (Permission::Cancel, AccountOutcome::Changed(_)) if is_listed || !is_absence_proven => {
                    change.cancel.push(account);
                }
                // Changed and changed back by contradictory jobs.
                (_, AccountOutcome::Changed(_) | AccountOutcome::Unchanged) => change.unchanged.push(account),
            }
        }
        change.missing += change.share.len();
        let failures = failed.into_iter().map(|((code, message), account_ids)| PlannedFailure {
            code: code.into(),
            message: message.into(),
            account_ids,
        });
        change.failed = failures.collect();
        change
    }
}

fn millis(time: Duration) -> Millis {
    Millis(crate::millis(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(0);
    const OWN: u64 = 99_999;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<AccountId> {
        numbers.into_iter().map(|number| AccountId::new(number).unwrap()).collect()
    }

    fn job(mode: Mode, numbers: impl IntoIterator<Item = u64>) -> Job {
        Job {
            region: "ap-singapore".parse().unwrap(),
            image_id: "img-6pb6lrmy".parse().unwrap(),
            mode,
            account_ids: ids(numbers).into(),
            deadline: None,
            force: false,
            redelivered: false,
        }
    }

    /// Returns the plan for one image, and its seconds if each response takes 80 ms.
    fn plan(jobs: &[Job], listed: impl IntoIterator<Item = u64>) -> (PlannedChange, f64) {
        let mut plan = Plan::new(&Limits::default());
        plan.set_latency(Duration::from_millis(80));
        plan.add_lane(LANE, LaneLimits::default(), &Owner::Known(AccountId::new(OWN).unwrap()), None);
        for job in jobs {
            let image = (LANE, job.region, job.image_id);
            if !plan.has_image(&image) {
                plan.add_image(image, []);
            }
        }
        plan.add_image((LANE, jobs[0].region, jobs[0].image_id), ids(listed));
        jobs.iter().for_each(|job| plan.add_job(LANE, job.clone(), None));
        let (changes, took) = plan.finish();
        (changes.into_values().next().unwrap(), took.as_secs_f64())
    }

    #[track_caller]
    fn check(
        jobs: &[Job],
        listed: impl IntoIterator<Item = u64>,
        [share, cancel, unchanged]: [Vec<u64>; 3],
        requests: usize,
    ) {
        let change = plan(jobs, listed).0;
        let [share, cancel, unchanged] = [share, cancel, unchanged].map(ids);
        let missing = share.len();
        assert_eq!(change, PlannedChange { share, cancel, unchanged, missing, requests, ..PlannedChange::default() });
    }

    #[test]
    fn plan_names_accounts_of_each_change() {
        let jobs = [job(Mode::Share, 10_000..10_060), job(Mode::Cancel, 20_000..20_002)];
        let lists = [(10_005..10_060).collect(), vec![20_001], (10_000..10_005).chain([20_000]).collect()];
        check(&jobs, (10_000..10_005).chain([20_001, 30_000]), lists, 3);
    }

    #[test]
    fn last_of_contradictory_jobs_counts() {
        let (share, cancel) = (job(Mode::Share, [10_001]), job(Mode::Cancel, [10_001]));
        check(&[share.clone(), cancel.clone()], [], [vec![], vec![], vec![10_001]], 2);
        check(&[cancel, share], [], [vec![10_001], vec![], vec![]], 1);
    }

    #[test]
    fn sync_cancels_others_after_earlier_jobs() {
        let jobs = [job(Mode::Cancel, [10_001]), job(Mode::Sync, [10_001, 10_002]), job(Mode::Share, [10_009])];
        check(&jobs, [10_001, 10_002, 10_003], [vec![10_009], vec![10_003], vec![10_001, 10_002]], 4);
    }

    #[test]
    fn sync_over_cancel_limit_is_named() {
        let sync = job(Mode::Sync, [10_001]);
        let (change, _) = plan(std::slice::from_ref(&sync), [10_001, 10_002, 10_003]);
        assert_eq!(change.refused_sync, Some(RefusedSync { cancel: 2, shared: 3 }));
        assert_eq!(change.cancel, ids([10_002, 10_003]));
        let forced = Job { force: true, ..sync };
        check(&[forced], [10_001, 10_002, 10_003], [vec![], vec![10_002, 10_003], vec![10_001]], 1);
    }

    #[test]
    fn accounts_that_fail_locally_are_named() {
        let (change, _) = plan(&[job(Mode::Share, (20_000..20_003).chain([OWN]))], 10_000..10_499);
        let failed: Vec<_> = change.failed.iter().map(|kind| (kind.code.as_str(), kind.account_ids.len())).collect();
        assert_eq!(failed, [(local::OVER_QUOTA, 2), (local::OWN_ACCOUNT, 1)]);
        assert_eq!((change.share.len(), change.missing, change.requests), (1, 3, 1));
    }

    #[test]
    fn sync_above_cap_lacks_unshared_accounts() {
        let (change, _) = plan(&[job(Mode::Sync, 10_000..10_502)], 10_000..10_499);
        assert_eq!((change.failed[0].account_ids.len(), change.missing), (502, 3));
        assert!(!change.is_empty());
    }

    #[test]
    fn cancel_is_sent_if_listing_may_be_truncated() {
        check(&[job(Mode::Cancel, [30_000])], 10_000..10_020, [vec![], vec![30_000], vec![]], 1);
        check(&[job(Mode::Cancel, [30_000])], 10_000..10_019, [vec![], vec![], vec![30_000]], 0);
    }

    #[test]
    fn time_includes_waits_for_listings() {
        let share = plan(&[job(Mode::Share, 10_000..10_060)], []).1;
        assert!((0.2..0.5).contains(&share), "a listing and two writes take {share} s");
        let sync = plan(&[job(Mode::Sync, 10_000..10_060)], []).1;
        assert!((5.2..5.6).contains(&sync), "the last listing begins the read lag after the writes: {sync} s");
        let twice = plan(&[job(Mode::Sync, [10_000]), job(Mode::Sync, [10_001, 10_000])], []).1;
        assert!((10.2..11.0).contains(&twice), "the second SYNC waits for the first: {twice} s");
    }

    #[test]
    fn expired_job_fails_in_the_plan() {
        let mut plan = Plan::new(&Limits::default());
        plan.add_lane(LANE, LaneLimits::default(), &Owner::Unknown("not requested".to_owned()), None);
        let share = job(Mode::Share, [10_000]);
        plan.add_image((LANE, share.region, share.image_id), []);
        plan.add_job(LANE, share, Some(Duration::ZERO));
        let (changes, _) = plan.finish();
        assert_eq!(changes.into_values().next().unwrap().failed[0].code, local::EXPIRED);
    }
}

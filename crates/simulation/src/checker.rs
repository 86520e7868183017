//! What must hold at every step and at the end, whatever the world does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use imageshare_core::{
    Class, Permission,
    ids::{AccountId, ImageId, RequestId},
};
use imageshare_engine::{
    io::{Action, Answer, CallId, Outcome},
    job::{AccountOutcome, Job, Mode, Report, local},
    limits::LimitValues,
    policy::Unfinished,
};
use imageshare_sandbox::ledger::Access;

use crate::{
    broker::Returned,
    fault::InjectedFault,
    process::Away,
    run::CALL_TIMEOUT,
    scenario::{self, Scenario},
};

/// Watches a run.
#[derive(Debug, Default)]
pub struct Checker {
    /// What was wrong; a run with any is a failure.
    pub violations: Vec<String>,
    now: u64,
    batch_max: usize,
    rates: [u32; 3],
    /// Writes in flight, by the worker and its call.
    writes: BTreeMap<(u64, CallId), ImageId>,
    sent: [VecDeque<u64>; 3],
    settled: BTreeMap<usize, Report>,
    /// Jobs that were rejected.
    rejected: BTreeSet<usize>,
    /// Jobs that the broker dropped.
    dropped: BTreeSet<usize>,
    /// When another program last changed an image. The engine is not responsible for the reports of jobs that arrived
    /// before that, or soon after.
    disturbed: BTreeMap<ImageId, u64>,
    /// Every change that was asked of the cloud.
    asked: BTreeSet<(ImageId, AccountId, Permission)>,
    /// Changes that were sent without a response, and not accepted since.
    in_doubt: BTreeSet<(ImageId, AccountId, Permission)>,
    /// When a write last came to each image that had as many accounts as it may have, or had them then.
    full_at: BTreeMap<ImageId, u64>,
    /// When the lane last came to a process.
    up_at: u64,
    /// When a call was last accepted that shows that the lane works.
    accepted_at: Option<u64>,
    deliveries: BTreeMap<usize, Deliveries>,
    /// Every call, by its request id.
    requests: BTreeMap<RequestId, Request>,
    /// How often a listing of each image was refused as by a key that may not read.
    listings_refused: BTreeMap<ImageId, u32>,
    /// Images with which the key may not do everything.
    denied: BTreeSet<ImageId>,
    /// Who had each image since when, as far as it was changed, in order.
    states: BTreeMap<(ImageId, AccountId), Vec<(u64, bool)>>,
    answers_get_lost: bool,
    internal_errors: bool,
    images_get_busy: bool,
    forbidden: bool,
    keys_get_refused: bool,
    /// How often the key lost its permission.
    revocations: u32,
    is_key_doubtful: bool,
}

/// A call that was made.
#[derive(Clone, Debug)]
struct Request {
    at: u64,
    image: ImageId,
    /// The accounts of a write.
    accounts: Vec<AccountId>,
    /// What a write requests.
    permission: Option<Permission>,
}

/// How often an image is refused, with others permitted in between, before its jobs fail by that.
const REFUSALS_MIN: u32 = 5;

/// When a job came.
#[derive(Clone, Copy, Debug)]
struct Deliveries {
    /// At first.
    first: u64,
    /// What is in hand of it.
    last: u64,
    /// Whether what is in hand of it was delivered again.
    is_redelivered: bool,
}

/// The age up to which a listing is valid, in milliseconds.
const LISTING_VALID_FOR: u64 = 30_000;

/// How long the engine may treat an image as full that is not, in milliseconds: an observed cap, and a listing's age.
const FULL_VALID_FOR: u64 = 600_000;

impl Checker {
    /// Creates a checker for a world, with the rate limits of all calls and of questions about images, per second.
    #[must_use]
    pub fn new(world: &Scenario, (rate, image_rate): (u32, u32)) -> Self {
        let mut states = BTreeMap::new();
        for image in (0..world.images).map(scenario::image) {
            for account in (0..world.accounts).map(scenario::account) {
                states.insert((image, account), vec![(0, world.ledger.is_shared(image, account))]);
            }
        }
        let may_everything = |image| world.ledger.access(image).is_none_or(|access| access == Access::default());
        let denied = (0..world.images).map(scenario::image).filter(|&image| !may_everything(image)).collect();
        let lost = [
            InjectedFault::AnswerLost,
            InjectedFault::AnswerLate,
            InjectedFault::Clock,
            InjectedFault::Html,
            InjectedFault::Late,
            InjectedFault::Swallowed,
            InjectedFault::Unconnected,
            InjectedFault::Outage,
            InjectedFault::Silent,
            InjectedFault::Returned,
        ];
        Self {
            states,
            denied,
            batch_max: world.lane.batch as usize,
            rates: [rate, rate, image_rate],
            answers_get_lost: lost.into_iter().any(|fault| world.faults.may(fault)),
            internal_errors: world.faults.may(InjectedFault::InternalError),
            images_get_busy: world.faults.may(InjectedFault::Busy),
            forbidden: world.faults.may(InjectedFault::Deployment),
            keys_get_refused: world.faults.may(InjectedFault::Credential),
            // A refusal of an image may be held against a key that replaced another one and whose account is unknown.
            is_key_doubtful: world.may_be_denied
                || (!world.finds_owners && world.faults.may(InjectedFault::Credential))
                || [
                    InjectedFault::Deployment,
                    InjectedFault::Revoked,
                    InjectedFault::ForeignKey,
                    InjectedFault::ListingRefused,
                ]
                .into_iter()
                .any(|fault| world.faults.may(fault)),
            ..Self::default()
        }
    }

    /// A worker makes a call. `away` is why the lane is not up in its engine, if it is not; `is_consumer` is whether the
    /// broker still has its consumer.
    pub(crate) fn called(&mut self, worker: u64, call: CallId, action: &Action, away: Option<Away>, is_consumer: bool) {
        match (away, action) {
            (None, _) | (Some(Away::GaveBack), Action::ReadShares { .. } | Action::ReadImage { .. }) => {}
            // Another worker may own a requeued lane already, so only a probe is allowed.
            (Some(away), _) => self.wrong(format!("{call:?} on a lane that is not ours ({away:?}): {action:?}")),
        }
        let Action::Modify { image_id, account_ids, .. } = action else { return };
        if away.is_none() && !is_consumer {
            self.wrong(format!("worker {worker} sends a write after it lost the lane: {action:?}"));
        }
        if self.writes.iter().any(|((other, _), image)| *other == worker && image == image_id) {
            self.wrong(format!("{call:?}: a second write in flight on {image_id}"));
        }
        self.writes.insert((worker, call), *image_id);
        if account_ids.is_empty() || account_ids.len() > self.batch_max {
            self.wrong(format!("{call:?}: list of {} accounts (expected 1 to {})", account_ids.len(), self.batch_max));
        }
        let different: BTreeSet<_> = account_ids.iter().collect();
        if different.len() != account_ids.len() {
            self.wrong(format!("{call:?}: an account twice in one list"));
        }
    }

    /// A request is sent.
    pub fn asked(&mut self, now: u64, id: RequestId, action: &Action) {
        let (image, accounts, permission) = match action {
            Action::Modify { image_id, account_ids, permission, .. } => {
                (*image_id, account_ids.clone(), Some(*permission))
            }
            Action::ReadShares { image_id, .. } | Action::ReadImage { image_id, .. } => (*image_id, Vec::new(), None),
        };
        self.requests.insert(id, Request { at: now, image, accounts, permission });
        if let Action::Modify { image_id, account_ids, permission, .. } = action {
            self.asked.extend(account_ids.iter().map(|&account| (*image_id, account, *permission)));
        }
    }

    /// The key loses its permission for all images.
    pub const fn revoked(&mut self) {
        self.revocations += 1;
    }

    /// A listing is refused as by a key that may not read.
    pub fn listing_refused(&mut self, image: ImageId) {
        *self.listings_refused.entry(image).or_default() += 1;
    }

    /// A call was accepted. A key that is refused for writes may still list: such a lane stays closed.
    pub fn accepted(&mut self, now: u64, answer: &Answer) {
        if !self.keys_get_refused || matches!(answer, Answer::Modified(_)) {
            self.accepted_at = Some(now);
        }
    }

    /// The lane comes to a process.
    pub fn up(&mut self, now: u64) {
        self.up_at = now;
    }

    /// A job is delivered.
    pub fn delivered(&mut self, now: u64, job: usize, redelivered: bool) {
        let first = self.first_delivery(job).unwrap_or(now);
        self.deliveries.insert(job, Deliveries { first, last: now, is_redelivered: redelivered });
    }

    fn first_delivery(&self, job: usize) -> Option<u64> {
        self.deliveries.get(&job).map(|deliveries| deliveries.first)
    }

    /// Whether an account has an image now, which may have changed.
    pub fn note_state(&mut self, now: u64, image: ImageId, account: AccountId, is_shared: bool) {
        let states = self.states.entry((image, account)).or_default();
        if states.last().map(|&(_, last)| last) != Some(is_shared) {
            states.push((now, is_shared));
        }
    }

    /// An image has as many accounts as it may have.
    pub fn is_full(&mut self, now: u64, image: ImageId) {
        self.full_at.insert(image, now);
    }

    /// A request of this kind was written.
    pub fn sent(&mut self, now: u64, kind: usize) {
        let limit = self.rates[kind] as usize;
        let times = &mut self.sent[kind];
        times.push_back(now);
        if times.len() > limit {
            let first = times.pop_front().unwrap_or_default();
            if now < first + 1000 {
                self.wrong(format!("{} requests of one action between {first} and {now}", limit + 1));
            }
        }
    }

    /// A worker's call ended.
    pub fn answered(&mut self, worker: u64, call: CallId, id: RequestId, outcome: &Outcome) {
        self.writes.remove(&(worker, call));
        let Some(Request { image, accounts, permission: Some(permission), .. }) = self.requests.get(&id) else {
            return;
        };
        let changes = accounts.iter().map(|&account| (*image, account, *permission));
        match outcome {
            Outcome::Unanswered { sent: true, .. } => self.in_doubt.extend(changes),
            Outcome::Accepted(_) => changes.for_each(|change| _ = self.in_doubt.remove(&change)),
            _ => {}
        }
    }

    /// Whether a write of a command for this account of a job is in doubt. Where another job names the account too, the
    /// write may be the other job's, so this does not decide then.
    fn is_in_doubt(&self, world: &Scenario, nth: usize, account: AccountId, permission: Permission) -> bool {
        let image = world.jobs[nth].1.image_id;
        let names = |job: &Job| job.mode == Mode::Sync || job.account_ids.contains(&account);
        let named = world.jobs.iter().filter(|(_, job)| job.image_id == image && names(job)).count();
        // A worker may have sent it for an earlier delivery, of which this one has no record.
        let is_command = world.policy.unfinished == Unfinished::Report;
        is_command && named == 1 && self.in_doubt.contains(&(image, account, permission))
    }

    /// A worker ended, and with it the calls that it had in flight.
    pub fn ended(&mut self, worker: u64) {
        self.writes.retain(|(other, _), _| *other != worker);
    }

    /// Records that another program changed the shares of the image.
    pub fn disturbed(&mut self, now: u64, image: ImageId) {
        self.disturbed.insert(image, now);
    }

    /// Returns whether another program changed the job's image after the job arrived, or so shortly before that the
    /// engine may rely on a listing from before the change.
    fn is_disturbed(&self, world: &Scenario, job: usize) -> bool {
        let first = self.first_delivery(job).unwrap_or_default();
        let valid_for = LISTING_VALID_FOR + world.limits.read_lag.0 + world.lag_max + 2 * CALL_TIMEOUT;
        self.disturbed.get(&world.jobs[job].1.image_id).is_some_and(|&at| at + valid_for >= first)
    }

    /// A delivery ended without an acknowledgement.
    pub(crate) fn returned(&mut self, job: usize, outcome: Returned) {
        match outcome {
            // Its job is settled again.
            Returned::Requeued => _ = self.settled.remove(&job),
            Returned::DeadLettered | Returned::Lost => {
                self.dropped.insert(job);
                if self.settled.contains_key(&job) || self.rejected.contains(&job) {
                    return;
                }
                let dropped = if outcome == Returned::Lost { "lost" } else { "dead-lettered by the broker" };
                self.wrong(format!("job {job} is {dropped} without a report"));
            }
        }
    }

    /// A worker rejected a job.
    pub fn reject(&mut self, job: usize) {
        self.rejected.insert(job);
    }

    /// Whether a job needs no more work.
    #[must_use]
    pub fn is_over(&self, job: usize) -> bool {
        self.settled.contains_key(&job) || self.rejected.contains(&job) || self.dropped.contains(&job)
    }

    /// The reports so far, by job.
    #[must_use]
    pub const fn reports(&self) -> &BTreeMap<usize, Report> {
        &self.settled
    }

    /// A job is settled, when the first `published` jobs are published.
    pub fn settle(&mut self, now: u64, world: &Scenario, job: usize, report: Report, published: usize) {
        self.now = now;
        let jobs = &world.jobs;
        let body = &jobs[job].1;
        let mut seen = BTreeSet::new();
        let requested: Vec<_> = body.account_ids.iter().copied().filter(|&account| seen.insert(account)).collect();
        let reported: Vec<_> = report.outcomes.iter().map(|&(account, _)| account).collect();
        if requested != reported {
            self.wrong(format!("job {job}: outcomes for {reported:?} (expected {requested:?})"));
        }
        let repeats = body.account_ids.len() - requested.len();
        if report.duplicates as usize != repeats {
            self.wrong(format!("job {job}: {} duplicates counted (expected {repeats})", report.duplicates));
        }
        for (earlier, (_, other)) in jobs[..job].iter().enumerate() {
            let related = other.image_id == body.image_id && other.account_ids.iter().any(|a| seen.contains(a));
            if related && !self.is_over(earlier) && !world.is_rejected(earlier) {
                self.wrong(format!("job {job} is settled before job {earlier}, which names one of its accounts"));
            }
        }
        self.check_outcomes(world, job, &report, published);
        if self.settled.insert(job, report).is_some() {
            self.wrong(format!("job {job} is settled twice"));
        }
    }

    /// Each outcome of a report must be true when the job is settled.
    fn check_outcomes(&mut self, world: &Scenario, job: usize, report: &Report, published: usize) {
        let (jobs, ledger) = (&world.jobs, &world.ledger);
        let body = &jobs[job].1;
        self.check_causes(world, job, report);
        for (account, permission, outcome) in outcomes_of(body.mode, report) {
            if matches!(outcome, AccountOutcome::Unchanged) && self.was_changed_before(world, job, account, permission)
            {
                self.wrong(format!("job {job}: {account} is reported as unchanged, but the job before changed it"));
            }
            let unfounded = matches!(outcome, AccountOutcome::Unchanged)
                && !self.is_disturbed(world, job)
                && !self.was_so(world, job, account, permission);
            if unfounded {
                self.wrong(format!("job {job}: {account} is reported as unchanged, but was not {permission} since"));
            }
            let later = job + 1..published.max(job + 1);
            let overtaken = jobs[later].iter().any(|(_, later)| may_undo(later, body.image_id, account, permission));
            let state = Permission::of_presence(ledger.is_shared(body.image_id, account));
            let is_claimed = !is_failed(outcome) && !overtaken && !self.is_disturbed(world, job);
            if is_claimed && state != permission {
                self.wrong(format!("job {job}: {account} is reported as {permission} ({outcome:?}), but is {state}"));
            }
        }
    }

    /// Each outcome of a report must have a cause: `changed` a request, and a failure a fault that explains it.
    pub fn check_causes(&mut self, world: &Scenario, job: usize, report: &Report) {
        let body = &world.jobs[job].1;
        for (account, permission, outcome) in outcomes_of(body.mode, report) {
            match outcome {
                AccountOutcome::Changed(_) if !self.asked.contains(&(body.image_id, account, permission)) => {
                    self.wrong(format!("job {job}: {account} is reported as changed, but no request named it"));
                }
                AccountOutcome::Changed(Some(write))
                    if !write.request_id.is_some_and(|id| self.was_made_with(id, body.image_id, account)) =>
                {
                    self.wrong(format!("job {job}: {account} was not in the request that changed it: {write:?}"));
                }
                AccountOutcome::Failed(failure)
                    if !self.is_justified(world, job, account, permission, &failure.code) =>
                {
                    let code = &failure.code;
                    self.wrong(format!("job {job}: {account} failed with {code}, but no fault explains it"));
                }
                AccountOutcome::Failed(failure)
                    if failure.request_id.is_some_and(|id| !self.was_made_for(world, job, report, id)) =>
                {
                    self.wrong(format!(
                        "job {job}: {account} failed by a request that was not made for it: {failure:?}"
                    ));
                }
                _ => {}
            }
        }
    }

    /// Whether a write contained an account of an image.
    fn was_made_with(&self, id: RequestId, image: ImageId, account: AccountId) -> bool {
        let request = self.requests.get(&id);
        request.is_some_and(|request| request.image == image && request.accounts.contains(&account))
    }

    /// Whether a request was made for a job: while it was in hand, or was in flight when it came, and for an account of it
    /// if it was a write.
    fn was_made_for(&self, world: &Scenario, job: usize, report: &Report, id: RequestId) -> bool {
        let Some(request) = self.requests.get(&id) else { return false };
        let body = &world.jobs[job].1;
        let mut named = outcomes_of(body.mode, report).map(|(account, ..)| account);
        let names = request.accounts.is_empty() || named.any(|account| request.accounts.contains(&account));
        let first = self.first_delivery(job).unwrap_or_default();
        request.image == body.image_id && names && request.at + CALL_TIMEOUT >= first
    }

    /// After the last event each account must be as the last job that names it requested, unless that job reported a
    /// failure.
    pub fn finish(&mut self, world: &Scenario) {
        let (jobs, ledger) = (&world.jobs, &world.ledger);
        let mut last: BTreeMap<(ImageId, AccountId), (usize, Permission, bool)> = BTreeMap::new();
        for (nth, (_, job)) in jobs.iter().enumerate() {
            let Some(report) = self.settled.get(&nth) else {
                if self.dropped.contains(&nth) {
                    // It may have been worked on.
                    last.retain(|&(image, account), _| image != job.image_id || !job.account_ids.contains(&account));
                } else if !self.rejected.contains(&nth) {
                    self.violations.push(format!("job {nth} was never settled"));
                }
                continue;
            };
            if job.mode == Mode::Sync {
                // No other account has the image then, but the report names only those that this delivery had to
                // cancel. The report of a SYNC whose accounts all failed proves nothing about the others. A truncated
                // listing may omit accounts.
                let cut = world.ledger.dials.listing_limit.is_some_and(|limit| limit as u64 <= world.accounts);
                let began = !cut && outcomes_of(job.mode, report).any(|(_, _, outcome)| !is_failed(outcome));
                last.retain(|(image, _), _| *image != job.image_id || began);
                let others = last.iter_mut().filter(|((image, _), _)| *image == job.image_id);
                others.for_each(|(_, request)| *request = (nth, Permission::Cancel, false));
            }
            for (account, permission, outcome) in outcomes_of(job.mode, report) {
                let failed = is_failed(outcome);
                last.insert((job.image_id, account), (nth, permission, failed));
            }
        }
        for ((image, account), (job, permission, failed)) in last {
            let state = Permission::of_presence(ledger.is_shared(image, account));
            let is_claimed = !failed && !self.is_disturbed(world, job);
            if is_claimed && state != permission {
                self.wrong(format!("at the end {account} of {image} is {state}, job {job} asked for {permission}"));
            }
        }
    }

    /// Returns whether an account was in the requested state at a moment that a valid listing can show: since the lane
    /// came up, and not long before the delivery.
    fn was_so(&self, world: &Scenario, job: usize, account: AccountId, permission: Permission) -> bool {
        let Some(&Deliveries { last, .. }) = self.deliveries.get(&job) else { return true };
        let valid_from = last.saturating_sub(LISTING_VALID_FOR + CALL_TIMEOUT);
        let from = self.up_at.max(valid_from.saturating_sub(world.lag_max));
        let image = world.jobs[job].1.image_id;
        let Some(states) = self.states.get(&(image, account)) else { return true };
        let is_requested = permission == Permission::Share;
        let until = states.iter().skip(1).map(|&(at, _)| at).chain([u64::MAX]);
        states.iter().zip(until).any(|(&(_, state), until)| state == is_requested && until >= from)
    }

    /// Returns whether the last earlier job with an item for this account reached the opposite permission. A job that
    /// was delivered once cannot report the account as unchanged then.
    fn was_changed_before(&self, world: &Scenario, job: usize, account: AccountId, permission: Permission) -> bool {
        let image = world.jobs[job].1.image_id;
        let Some(&Deliveries { first, is_redelivered, .. }) = self.deliveries.get(&job) else { return false };
        // After a takeover requests of the process before may still take effect, and a listing may not show them yet.
        let LimitValues { write_lag, read_lag, .. } = &world.limits;
        let unsettled = if world.has_takeover_checks() { self.up_at + write_lag.0 + read_lag.0 } else { 0 };
        if is_redelivered || first < unsettled {
            return false;
        }
        let before = world.jobs[..job].iter().enumerate().rev();
        let mut on_image = before.filter(|(_, (_, other))| other.image_id == image);
        let named = on_image.find(|(_, (_, other))| other.mode == Mode::Sync || other.account_ids.contains(&account));
        let undisturbed = named.filter(|&(nth, _)| !self.is_disturbed(world, nth));
        undisturbed.and_then(|(nth, (_, other))| Some((other.mode, self.settled.get(&nth)?))).is_some_and(
            |(mode, report)| {
                let mut outcomes = outcomes_of(mode, report).filter(|&(other, ..)| other == account);
                outcomes.any(|(_, requested, outcome)| requested != permission && !is_failed(outcome))
            },
        )
    }

    /// Whether the image was full when the engine may have looked.
    fn was_full(&self, world: &Scenario, job: usize, image: ImageId) -> bool {
        let first = self.first_delivery(job).unwrap_or_default();
        let was_full = self.full_at.get(&image).is_some_and(|&at| at + FULL_VALID_FOR >= first);
        was_full || world.ledger.shared_count(image) >= world.cap()
    }

    /// Whether a failure has a cause in this world.
    fn is_justified(
        &self,
        world: &Scenario,
        nth: usize,
        account: AccountId,
        permission: Permission,
        code: &str,
    ) -> bool {
        let job = &world.jobs[nth].1;
        let accounts = &world.ledger.accounts;
        let few = world.ledger.dials.cap < 500 || world.limits.cap < 500;
        let one_shot = world.policy.unfinished == Unfinished::Report;
        // A command gives up when for so long no call was accepted but those in flight when its lane closed.
        let closed_for = world.limits.closed_for.0.saturating_sub(CALL_TIMEOUT);
        let works = self.accepted_at.is_some_and(|at| at + closed_for > self.now);
        // A lane that is closed because of its key may have listings accepted.
        let given_up = one_shot && (world.interrupted_at.is_some() || !works || self.is_key_doubtful);
        let faulty = accounts.faults.get(&account).is_some_and(|fault| fault.as_str() == code);
        match code {
            "InvalidAccountId.NotFound" => permission == Permission::Cancel || !accounts.exists(account),
            "FailedOperation.NotMasterAccount" => accounts.sub_accounts.contains(&account),
            "InternalError" => faulty || self.internal_errors,
            "NeverHeardOf.This" | "InvalidParameterValue" => faulty,
            "OverQuota" | local::OVER_QUOTA => {
                let different: BTreeSet<_> = job.account_ids.iter().collect();
                let too_many = job.mode == Mode::Sync && different.len() > world.cap();
                let full = too_many || self.is_disturbed(world, nth) || self.was_full(world, nth, job.image_id);
                few && permission == Permission::Share && full
            }
            "FailedOperation.AccountAlreadyExists" => false,
            local::EXPIRED => job.deadline.is_some(),
            local::CANCEL_LIMIT => job.mode == Mode::Sync && !job.force,
            // An image may be busy for a moment, by a write of another worker, when a command ends.
            local::IMAGE_BUSY => self.images_get_busy || given_up,
            local::NO_ANSWER => self.answers_get_lost || job.deadline.is_some() || one_shot,
            // A SYNC cannot begin where its listing gets no answer.
            local::NOT_ATTEMPTED => {
                (given_up || job.mode == Mode::Sync) && !self.is_in_doubt(world, nth, account, permission)
            }
            local::NOT_SHOWN => job.mode == Mode::Sync,
            code if code.starts_with("Local.") => false,
            // The images are the right key's own.
            "UnauthorizedOperation.ImageNotBelongToAccount" => false,
            "InvalidImageId.NotFound" => world.ledger.access(job.image_id).is_none(),
            // Other codes about the image: whether it is one of those is not looked into. A key fails no job.
            code => match Class::of(code) {
                Class::Image | Class::Busy => true,
                Class::Deployment if code == "ActionOffline" => self.forbidden,
                Class::Deployment => self.revocations >= REFUSALS_MIN,
                Class::Permission => {
                    let refused = self.listings_refused.get(&job.image_id).copied().unwrap_or_default();
                    self.denied.contains(&job.image_id)
                        || self.revocations >= REFUSALS_MIN
                        || (job.mode == Mode::Sync && refused >= REFUSALS_MIN)
                }
                _ => false,
            },
        }
    }

    /// Records a violation.
    pub fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }
}

/// Every account in a report, with its requested permission and its outcome.
fn outcomes_of(mode: Mode, report: &Report) -> impl Iterator<Item = (AccountId, Permission, &AccountOutcome)> {
    let requested = report.outcomes.iter().map(move |(account, outcome)| (*account, mode.permission(), outcome));
    let gone = report.cancelled.iter().map(|(account, outcome)| (*account, Permission::Cancel, outcome));
    requested.chain(gone)
}

const fn is_failed(outcome: &AccountOutcome) -> bool {
    matches!(outcome, AccountOutcome::Failed(_))
}

/// Whether a job may undo a permission of an account. A SYNC requests a state for every account.
fn may_undo(job: &Job, image: ImageId, account: AccountId, permission: Permission) -> bool {
    let opposite = job.mode.permission() != permission && job.account_ids.contains(&account);
    job.image_id == image && (job.mode == Mode::Sync || opposite)
}

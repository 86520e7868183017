//! An engine in the hands of a test, which plays the world.

use alloc::{collections::BTreeMap, format, vec::Vec};

use imageshare_core::{
    Class, Permission,
    ids::{AccountId, ImageId},
};

use crate::{
    Engine, LaneStatus,
    image::Image,
    io::{Action, Answer, CallId, Command, DeliveryId, ImageReadiness, Input, LaneId, Notice, Outcome},
    job::{AccountOutcome, Job, Mode, Report},
    limits::{LaneLimitValues, LaneLimits, LimitValues, Limits},
    policy::{Policy, TakeoverChecks},
    time::{Instant, Millis},
};

pub(super) const LANE: LaneId = LaneId(0);

/// The engine, the time, and what the engine asked for and was not yet given.
pub(super) struct Kit {
    pub(super) engine: Engine,
    pub(super) now: u64,
    pub(super) open: BTreeMap<CallId, Action>,
    pub(super) settled: Vec<(u64, Report)>,
    pub(super) notices: Vec<Notice>,
    pub(super) refreshes: u32,
    pub(super) given_back: u32,
    pub(super) sent_at: Vec<(u64, CallId)>,
    next_delivery: u64,
}

/// A queue that one worker has alone.
pub(super) const NO_CHECKS: Policy = Policy { takeover_checks: TakeoverChecks::Off, ..Policy::WORKER };

impl Engine {
    /// Jobs that are decided and not yet settled.
    pub(super) fn finished(&self) -> usize {
        self.images.of(&self.lanes[&LANE]).map(Image::finished).sum()
    }
}

impl Kit {
    pub(super) fn new(policy: Policy, limits: LimitValues) -> Self {
        Self::with_lane(policy, limits, LaneLimitValues::default())
    }

    pub(super) fn with_lane(policy: Policy, limits: LimitValues, lane: LaneLimitValues) -> Self {
        let (limits, lane) = (Limits::new(limits).expect("valid limits"), LaneLimits::new(lane).expect("valid limits"));
        let mut kit = Self {
            engine: Engine::new(policy, limits, 7),
            now: 0,
            open: BTreeMap::new(),
            settled: Vec::new(),
            notices: Vec::new(),
            refreshes: 0,
            given_back: 0,
            sent_at: Vec::new(),
            next_delivery: 0,
        };
        kit.input(Input::LaneUp(LANE, lane));
        kit
    }

    pub(super) fn input(&mut self, input: Input) {
        self.engine.handle(Instant(self.now), input);
        self.drain();
    }

    /// Takes commands until the engine waits; writes every request at once.
    fn drain(&mut self) -> Option<u64> {
        loop {
            match self.engine.poll(Instant(self.now)) {
                Command::Call { call, action, .. } => {
                    self.open.insert(call, action);
                    self.sent_at.push((self.now, call));
                    self.engine.handle(Instant(self.now), Input::Sent(call));
                }
                Command::Settle { delivery, report } => self.settled.push((delivery.0, *report)),
                Command::Requeue(_) => self.given_back += 1,
                Command::RefreshCredential(_) => self.refreshes += 1,
                Command::Notice(_, notice) => self.notices.push(notice),
                Command::WaitUntil(at) if at.0 <= self.now => {}
                Command::WaitUntil(at) => return Some(at.0),
                Command::Idle => return None,
            }
        }
    }

    /// Lets time pass, stopping at every moment the engine asks for.
    pub(super) fn pass(&mut self, length: Millis) {
        let end = self.now + length.0;
        while let Some(at) = self.drain().filter(|&at| at <= end) {
            self.now = at;
        }
        self.now = end;
        self.drain();
    }

    pub(super) fn job(&mut self, mode: Mode, image: u64, accounts: impl IntoIterator<Item = u64>) -> u64 {
        let job = job(mode, image, accounts);
        self.deliver(job)
    }

    pub(super) fn deliver(&mut self, job: Job) -> u64 {
        let delivery = self.next_delivery;
        self.next_delivery += 1;
        self.input(Input::Job { delivery: DeliveryId(delivery), lane: LANE, job });
        delivery
    }

    /// Returns the only open call, and waits for it if necessary.
    #[track_caller]
    pub(super) fn call(&mut self) -> (CallId, Action) {
        for _ in 0..100_000 {
            if let Some((&call, action)) = self.open.iter().next() {
                assert_eq!(self.open.len(), 1, "more than one call is open: {:?}", self.open);
                return (call, action.clone());
            }
            let at = self.drain();
            if self.open.is_empty() {
                self.now = at.expect("the engine waits for nothing, and no call is open");
            }
        }
        panic!("no call in a hundred thousand moments");
    }

    /// The accounts of the only open call, which is a write of this permission.
    #[track_caller]
    pub(super) fn write(&mut self, requested: Permission) -> Vec<u64> {
        match self.call().1 {
            Action::Modify { permission, account_ids, .. } if permission == requested => {
                account_ids.iter().map(|account| account.get() - account_id(0).get()).collect()
            }
            other => panic!("not a {requested}: {other:?}"),
        }
    }

    /// Whether the only open call asks about the image.
    #[track_caller]
    pub(super) fn call_is_question(&mut self) -> bool {
        matches!(self.call().1, Action::ReadImage { .. })
    }

    #[track_caller]
    pub(super) fn answer(&mut self, outcome: Outcome) {
        let (call, _) = self.call();
        self.open.remove(&call);
        self.input(Input::Answer { call, outcome });
    }

    /// A write is accepted.
    #[track_caller]
    pub(super) fn accept(&mut self) {
        self.answer(Outcome::Accepted(Answer::Modified(None)));
    }

    /// A reading lists these accounts.
    #[track_caller]
    pub(super) fn list(&mut self, accounts: impl IntoIterator<Item = u64>) {
        let (_, action) = self.call();
        assert!(matches!(action, Action::ReadShares { .. }), "not a reading: {action:?}");
        self.answer(Outcome::Accepted(Answer::Shares(accounts.into_iter().map(account_id).collect())));
    }

    /// Answers DescribeImages.
    #[track_caller]
    pub(super) fn state(&mut self, state: ImageReadiness) {
        let (_, action) = self.call();
        assert!(matches!(action, Action::ReadImage { .. }), "not a question about the image: {action:?}");
        self.answer(Outcome::Accepted(Answer::Image(state)));
    }

    #[track_caller]
    pub(super) fn refuse(&mut self, code: &str) {
        self.answer(refused(code));
    }

    #[track_caller]
    pub(super) fn lose(&mut self) {
        self.answer(Outcome::Unanswered { sent: true, reason: "time-out".into() });
    }

    /// Returns the outcomes of a settled delivery: `changed`, `unchanged`, or the code of a failure.
    #[track_caller]
    pub(super) fn report(&self, delivery: u64) -> &Report {
        let settled = self.settled.iter().find(|(settled, _)| *settled == delivery);
        &settled.unwrap_or_else(|| panic!("delivery {delivery} is not settled")).1
    }

    #[track_caller]
    pub(super) fn outcomes(&self, delivery: u64) -> Vec<&str> {
        self.report(delivery).outcomes.iter().map(|(_, outcome)| word(outcome)).collect()
    }

    pub(super) fn is_settled(&self, delivery: u64) -> bool {
        self.settled.iter().any(|(settled, _)| *settled == delivery)
    }

    pub(super) fn lane_status(&self) -> LaneStatus {
        self.engine.lane_status(LANE)
    }
}

pub(super) fn word(outcome: &AccountOutcome) -> &str {
    match outcome {
        AccountOutcome::Changed(_) => "changed",
        AccountOutcome::Unchanged => "unchanged",
        AccountOutcome::Failed(failure) => &failure.code,
    }
}

pub(super) fn refused(code: &str) -> Outcome {
    Outcome::Refused { code: code.into(), class: Class::of(code), message: "a message".into(), request_id: None }
}

pub(super) fn account_id(nth: u64) -> AccountId {
    AccountId::new(200_000_000_000 + nth).expect("twelve digits")
}

pub(super) fn image_id(nth: u64) -> ImageId {
    format!("img-{nth:08}").parse().expect("eight digits")
}

pub(super) fn job(mode: Mode, image: u64, accounts: impl IntoIterator<Item = u64>) -> Job {
    Job {
        region: "ap-singapore".parse().expect("a region"),
        image_id: image_id(image),
        mode,
        account_ids: accounts.into_iter().map(account_id).collect(),
        deadline: None,
        force: false,
        redelivered: false,
    }
}

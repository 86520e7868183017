//! A worker process: its engine, its subscription, its ownership proof, the jobs it holds.

use std::collections::BTreeMap;

use imageshare_core::ids::AccountId;
use imageshare_engine::{
    Engine,
    io::{Action, CallId, DeliveryId, Input},
    job::Job,
    time::Instant,
};

use crate::{broker::BrokerDelivery, random::Random, run::LANE, scenario::Scenario};

/// An acknowledgement is applied less than this after it was sent, in milliseconds. A worker that closes its connection
/// waits as long.
const ACK_APPLIED_AFTER: u64 = 500;

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    /// The number of the process. Events for a process that has ended are dropped.
    pub(crate) id: u64,
    pub(crate) engine: Engine,
    /// The jobs in hand.
    pub(crate) deliveries: BTreeMap<DeliveryId, BrokerDelivery>,
    /// Why the lane is not up in the engine, if it is not.
    pub(crate) away: Option<Away>,
    /// Its consumer, which the broker may have ended already.
    pub(crate) consumer: Option<u64>,
    /// When its last ownership proof is no longer fresh; `None` while new proofs arrive.
    pub(crate) proof_ends: Option<u64>,
    /// Calls that wait for an ownership proof, each with the account of the key that signed it.
    pub(crate) held_back: Vec<(CallId, Action, AccountId)>,
    /// Until when it is cut off from the broker.
    pub(crate) cut_off_until: Option<u64>,
    /// Until when it is suspended.
    pub(crate) suspended_until: Option<u64>,
    /// Whether it received SIGTERM.
    pub(crate) is_draining: bool,
    /// Whose key it signs with.
    pub(crate) key_owner: AccountId,
    /// Whether its key turned out to belong to another account.
    pub(crate) has_foreign_key: bool,
    next_delivery: u64,
    acks: AckTimes,
}

/// When the acknowledgements of one subscription are sent and applied.
#[derive(Clone, Copy, Debug, Default)]
struct AckTimes {
    /// When the last one becomes due: they become due in the order in which the engine settled.
    last_due: u64,
    /// They are sent at multiples of this, in the order of delivery.
    sent_every: u64,
    /// Each is applied as long after it was sent.
    takes: u64,
}

/// Why a lane is not up in the engine of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// The process gave its jobs back.
    GaveBack,
    /// It lost the lane, or never had it.
    Lost,
}

impl Process {
    pub(crate) fn new(id: u64, world: &Scenario, key_owner: AccountId) -> Self {
        Self {
            id,
            engine: Engine::new(world.policy, world.limits(), id),
            deliveries: BTreeMap::new(),
            away: Some(Away::Lost),
            consumer: None,
            proof_ends: None,
            held_back: Vec::new(),
            cut_off_until: None,
            suspended_until: None,
            is_draining: false,
            key_owner,
            has_foreign_key: false,
            next_delivery: 0,
            acks: AckTimes::default(),
        }
    }

    /// It has a consumer from now on.
    pub(crate) fn subscribed(&mut self, consumer: u64, random: &mut Random) {
        (self.consumer, self.proof_ends) = (Some(consumer), None);
        // What follows a gap waits up to 100 ms for it to close (`broker/settlement` of the worker).
        self.acks = AckTimes { last_due: 0, sent_every: random.of(&[1, 100]), takes: random.of(&[1, 20, 200, 499]) };
    }

    /// Takes in a delivery.
    pub(crate) fn deliver(&mut self, delivery: BrokerDelivery, job: Job) -> Input {
        let id = DeliveryId(self.next_delivery);
        self.next_delivery += 1;
        self.deliveries.insert(id, delivery);
        Input::Job { delivery: id, lane: LANE, job }
    }

    /// A delivery is finished, and its report is confirmed at that time. Returns when its acknowledgement is applied,
    /// unless the connection ends before.
    pub(crate) fn ack_applied_at(&mut self, confirmed_at: u64) -> u64 {
        let acks = &mut self.acks;
        acks.last_due = acks.last_due.max(confirmed_at);
        acks.last_due.next_multiple_of(acks.sent_every) + acks.takes
    }

    /// When the last acknowledgement is applied.
    pub(crate) fn acks_applied_at(&self, now: u64) -> u64 {
        self.acks.last_due.max(now).next_multiple_of(self.acks.sent_every.max(1)) + ACK_APPLIED_AFTER
    }

    /// Whether a call can leave: its lane is ours by a fresh proof, or it needs none. It leaves at most 3 ms from now.
    pub(crate) fn may_call(&self, now: u64) -> bool {
        self.away.is_some() || self.proof_ends.is_none_or(|ends| now + 3 < ends)
    }

    /// Until when nothing from the broker reaches it.
    pub(crate) fn unreachable_until(&self) -> Option<u64> {
        self.cut_off_until.max(self.suspended_until)
    }

    /// Takes in something that happened.
    pub(crate) fn handle(&mut self, now: u64, input: Input) {
        self.engine.handle(Instant(now), input);
    }
}

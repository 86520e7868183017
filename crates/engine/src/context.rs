//! What an image sees of the engine in one call, and its effects.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use imageshare_core::ids::AccountId;

use crate::{
    io::{DeliveryId, Notice},
    job::{Failure, Report},
    lane::Permitted,
    limits::Limits,
    policy::{Policy, TakeoverChecks},
    random::Random,
    reaction::KeyTrust,
    refusals::Refusals,
    time::{Instant, Millis},
};

/// One call into an image: the time, the limits, and where its effects go. It gives no access to another image, a lane or a
/// queue.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) policy: Policy,
    pub(crate) limits: &'a Limits,
    /// The image's lane as it is now.
    pub(crate) lane: LaneFacts,
    /// The place in arrival of the next job.
    pub(crate) next_seq: u64,
    pub(crate) random: &'a mut Random,
    pub(crate) refusals: &'a mut Refusals,
    pub(crate) expired: &'a ExpiredFailures,
    pub(crate) work: &'a mut Work,
    pub(crate) effects: &'a mut Vec<Effect>,
}

/// What an image sees of its lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneFacts {
    /// Whether calls are made.
    pub(crate) is_open: bool,
    /// The longest list that may be sent now.
    pub(crate) batch_max: usize,
    /// When the lane came up.
    pub(crate) up_at: Instant,
    /// The account of the key in use, where it is known.
    pub(crate) own_account: Option<AccountId>,
    pub(crate) key_trust: KeyTrust,
    pub(crate) permitted: Permitted,
    /// How long the image may be busy before its operations fail.
    pub(crate) image_wait: Millis,
}

/// A change of an image that concerns its lane or the driver.
#[derive(Debug)]
pub(crate) enum Effect {
    Notice(Notice),
    /// A job was settled.
    Settled(DeliveryId, Box<Report>),
    /// A list of this length was accepted.
    ListAccepted(usize),
    /// A list of this length was refused for its length.
    ListTooLong(usize),
    /// A refused list was split.
    Split,
    /// The key is not permitted a call that the image needs, and its jobs do not fail yet.
    NotPermitted(Arc<Failure>),
}

/// The work of one call of the engine, which is bounded so that no call takes long.
#[derive(Debug)]
pub(crate) struct Work {
    /// Items that expired, began or were settled, and accounts that took a step of a backlog.
    pub(crate) done: usize,
    pub(crate) max: usize,
}

/// The failures of all accounts whose job expired, shared since a job has up to 10,000 accounts.
#[derive(Debug)]
pub(crate) struct ExpiredFailures {
    pub(crate) untouched: Arc<Failure>,
    /// For an account with a write that may have been applied.
    pub(crate) in_doubt: Arc<Failure>,
}

/// The failures of accounts whose job ends with its lane.
#[derive(Debug)]
pub(crate) struct UnfinishedFailures {
    pub(crate) not_attempted: Arc<Failure>,
    /// For an account with a write in doubt.
    pub(crate) no_answer: Arc<Failure>,
}

impl Context<'_> {
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    pub(crate) fn has_takeover_checks(&self) -> bool {
        self.policy.takeover_checks == TakeoverChecks::On
    }

    /// The pause before the next try after `failed` ones.
    pub(crate) fn pause(&mut self, failed: u32) -> Millis {
        self.limits.pause(failed, self.random.next())
    }
}

impl Work {
    /// Whether the rest waits for the next call of the engine.
    pub(crate) const fn is_much(&self) -> bool {
        self.done >= self.max
    }
}

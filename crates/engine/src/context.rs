//! What an image sees of the engine in one call, and what it says back.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use imageshare_core::ids::AccountId;

use crate::{
    io::{DeliveryId, Notice},
    job::{Failure, Report},
    lane::Permitted,
    limits::Limits,
    policy::{Policy, TakeoverChecks},
    random::Random,
    refusals::Refusals,
    time::{Instant, Millis},
};

/// One call into an image: the time, the limits, and where its effects go. It gives no way to another image, to a lane or
/// to a queue.
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
    /// The longest list that may be sent now.
    pub(crate) batch_max: usize,
    /// When jobs began to come from the lane.
    pub(crate) up_at: Instant,
    /// The account of the key in use, where it is known.
    pub(crate) own_account: Option<AccountId>,
    /// Whether the key in use may be another account's.
    pub(crate) is_key_unproven: bool,
    /// What the key in use was permitted.
    pub(crate) permitted: Permitted,
    /// How long operations wait for a busy image.
    pub(crate) image_wait: Millis,
}

/// What an image has done that concerns its lane or the driver.
#[derive(Debug)]
pub(crate) enum Effect {
    Notice(Notice),
    /// A job is done.
    Settled(DeliveryId, Box<Report>),
    /// A list of this length was accepted.
    ListAccepted(usize),
    /// A list of this length was refused for its length.
    ListTooLong(usize),
    /// A refused list was split.
    Split,
    /// The key may not do what the image needs, and this image is no reason to fail its jobs yet.
    NotPermitted(Arc<Failure>),
}

/// The work of one call of the engine, which is bounded so that none takes long.
#[derive(Debug)]
pub(crate) struct Work {
    /// Items that expired, began or were settled, and accounts that were looked at together.
    pub(crate) done: usize,
    pub(crate) max: usize,
}

/// The failures of all accounts whose job expired: one value for all of them, of which a job has up to 10,000.
#[derive(Debug)]
pub(crate) struct ExpiredFailures {
    pub(crate) untouched: Arc<Failure>,
    /// For an account of which a write may have been applied.
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

//! A worker process as far as the engine can tell: its engine, the jobs it holds, its acknowledgements.

use std::collections::BTreeMap;

use imageshare_core::ids::AccountId;
use imageshare_engine::{
    Engine,
    io::{Input, TicketId},
    job::Job,
    limits::Limits,
    time::Instant,
};

use crate::{random::Random, run::LANE};

/// An acknowledgement is not applied when it is sent: one that was sent less than this before the end, in
/// milliseconds, may be lost.
const ACK_APPLIED_AFTER: u64 = 500;

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number: what is meant for a process that is gone reaches nobody.
    pub(crate) id: u64,
    pub(crate) engine: Engine,
    /// The jobs in hand, by delivery.
    pub(crate) tickets: BTreeMap<TicketId, usize>,
    /// Why nothing is delivered to it, if nothing is.
    pub(crate) away: Option<Away>,
    /// Whether the lane is another's and this one does not know. Its writes are held back, since nothing proves the lane
    /// to it any more; what it settles is published, and its acknowledgements count for nothing.
    pub(crate) is_unaware: bool,
    /// Whether it waits, alive, for the worker that took its lane over to be gone.
    pub(crate) is_standby: bool,
    /// Whether it was told to end.
    pub(crate) is_draining: bool,
    /// Whose key it signs with.
    pub(crate) key_owner: AccountId,
    /// Whether it was told that its key is another account's.
    pub(crate) knows_foreign: bool,
    next_ticket: u64,
    /// Settled jobs and when the acknowledgement of each may be sent, in order, as long as it may be lost.
    acks: Vec<Ack>,
}

/// The acknowledgement of a settled job.
#[derive(Clone, Copy, Debug)]
struct Ack {
    /// From when on it may be sent.
    due: u64,
    ticket: TicketId,
    job: usize,
}

/// Why nothing is delivered to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// It gave its jobs back.
    GaveBack,
    /// It lost the lane, or never had it.
    Lost,
}

impl Process {
    pub(crate) fn new(id: u64, limits: Limits, key_owner: AccountId) -> Self {
        Self {
            id,
            engine: Engine::new(limits, id),
            tickets: BTreeMap::new(),
            away: Some(Away::Lost),
            is_unaware: false,
            is_standby: false,
            is_draining: false,
            key_owner,
            knows_foreign: false,
            next_ticket: 0,
            acks: Vec::new(),
        }
    }

    /// A delivery, with the number that it gets.
    pub(crate) fn delivery(&mut self, nth: usize, job: Job) -> Input {
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, nth);
        Input::Job { ticket, lane: LANE, job }
    }

    /// A job is settled, and its report is confirmed at that time. Acknowledgements become due in the order of settling,
    /// so one waits for all before it.
    pub(crate) fn settled(&mut self, now: u64, ticket: TicketId, job: usize, confirmed_at: u64) {
        let due = self.acks.last().map_or(confirmed_at, |last| last.due.max(confirmed_at));
        self.acks.retain(|ack| ack.due + ACK_APPLIED_AFTER > now);
        self.acks.push(Ack { due, ticket, job });
    }

    /// When the last acknowledgement is applied.
    pub(crate) fn acks_applied_at(&self, now: u64) -> u64 {
        self.acks.last().map_or(now, |last| last.due.max(now)) + ACK_APPLIED_AFTER
    }

    /// The lane is no longer this process's: takes the settled jobs that come again. These are all whose acknowledgement
    /// was not due yet, and some of those that became due a moment ago: the last ones, by when they were due or, since
    /// what is due together is sent in the order of delivery, by that.
    pub(crate) fn come_again(&mut self, now: u64, random: &mut Random) -> Vec<usize> {
        let mut acks = std::mem::take(&mut self.acks);
        let due = acks.partition_point(|ack| ack.due <= now);
        let recent = acks[..due].iter().filter(|ack| ack.due + ACK_APPLIED_AFTER > now).count();
        let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap_or(0);
        let (together, lost) = (below(recent + 1), below(recent + 1));
        acks[due - together..due].sort_by_key(|ack| ack.ticket);
        acks[due - lost..].iter().map(|ack| ack.job).collect()
    }

    /// Takes in something that happened.
    pub(crate) fn handle(&mut self, now: u64, input: Input) {
        self.engine.handle(Instant(now), input);
    }
}

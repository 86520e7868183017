//! What is sent next about an image: which operations travel together, and the calls that carry them.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Stage},
    held_job::HeldJob,
    obstacle::Obstacle,
    split::Split,
};
use crate::{
    arena::Key,
    call::Kind,
    context::Context,
    io::{Action, CallId},
    time::Instant,
};

/// The write in flight.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) permission: Permission,
    pub(super) members: Vec<Key<Account>>,
    pub(super) origin: Origin,
}

/// The writes of an image, one at a time.
#[derive(Debug, Default)]
pub(super) struct Writes {
    in_flight: Option<Write>,
    /// No write before this moment.
    after: Instant,
    /// When the last write was answered.
    last_ended: Option<Instant>,
    /// When that write began: it was applied no earlier, and maybe long before it was answered.
    last_began: Instant,
    /// Whether a write was ever accepted.
    accepted: bool,
}

/// Where the operations of a write came from.
#[derive(Debug)]
pub(super) enum Origin {
    /// From the ready ones.
    Ready,
    /// From a split; these are its other members.
    Split(Split),
}

impl Writes {
    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The write in flight ended.
    pub(super) fn end(&mut self, now: Instant, began: Instant) -> Option<Write> {
        self.last_ended = Some(now);
        self.last_began = began;
        self.in_flight.take()
    }

    /// Makes the next write no earlier than this.
    pub(super) const fn pause_until(&mut self, at: Instant) {
        self.after = at;
    }

    pub(super) const fn after(&self) -> Instant {
        self.after
    }

    pub(super) const fn last_ended(&self) -> Option<Instant> {
        self.last_ended
    }

    pub(super) const fn last_began(&self) -> Instant {
        self.last_began
    }

    /// A write was accepted, or a listing showed that one had been.
    pub(super) const fn accept(&mut self) {
        self.accepted = true;
    }

    pub(super) const fn is_any_accepted(&self) -> bool {
        self.accepted
    }

    /// The jobs of the write in flight are forgotten. Returns its accounts.
    pub(super) fn forget_origin(&mut self) -> Vec<Key<Account>> {
        let Some(write) = &mut self.in_flight else { return Vec::new() };
        write.origin = Origin::Ready;
        write.members.clone()
    }
}

impl Image {
    /// Whether an image wants a call of this kind now.
    pub(crate) fn wants(&self, cx: &Context<'_>, kind: Kind) -> bool {
        // What is about to expire is not asked for any more, nor what is about to be decided.
        if self.due.has_expired(cx.now) || self.has_backlog() {
            return false;
        }
        match kind {
            Kind::Write => {
                let blocked = self.writes.is_in_flight()
                    || self.writes.after > cx.now
                    || self.obstacle.as_ref().is_some_and(|obstacle| obstacle.blocks_writes(cx.now));
                let ready = || self.ready_list(cx, self.holds_ready()).is_some();
                !blocked && (ready() || self.has_split_to_send(cx))
            }
            Kind::ReadShares => self.listings.is_due(cx.now) && self.in_hand(),
            Kind::ReadImage => {
                let ask = self.obstacle.as_ref().and_then(Obstacle::query_at);
                ask.is_some_and(|at| at <= cx.now) && self.in_hand()
            }
        }
    }

    fn has_split_to_send(&self, cx: &Context<'_>) -> bool {
        let due = |split: &Split| split.sendable_from().is_some_and(|from| from <= cx.now);
        self.splits.iter().any(|split| due(split) && self.has_next(split))
    }

    /// What is written next to an image: a split's turn, or the ready operations of the permission that has waited
    /// longest, with all others of that permission that fit.
    pub(super) fn choose_write(&mut self, cx: &mut Context<'_>) -> Option<Write> {
        if self.splits.had_turn()
            && let Some((permission, len)) = self.ready_list(cx, true)
        {
            return Some(self.take_ready(permission, len));
        }
        if let Some((split, members)) = self.next_of_splits(cx) {
            self.splits.set_turn(true);
            return Some(Write { permission: split.permission, members, origin: Origin::Split(split) });
        }
        let (permission, len) = self.ready_list(cx, self.holds_ready())?;
        Some(self.take_ready(permission, len))
    }

    /// Whether ready operations wait for more of them: a split is about to go on after its listing, and what it sets
    /// free then travels with them.
    fn holds_ready(&self) -> bool {
        !self.listings.is_retried() && self.splits.is_any_awaiting()
    }

    /// The permission whose ready operations have waited longest, and how many of them fit into a request; only a full
    /// one, if `full`.
    fn ready_list(&self, cx: &Context<'_>, full: bool) -> Option<(Permission, usize)> {
        let batch_max = cx.lane.batch_max;
        let room = self.share_room(cx).min(batch_max);
        let cancel = self.ready.first(Permission::Cancel);
        let share = self.ready.first(Permission::Share).filter(|_| room > 0);
        let (permission, len_max) = match (cancel, share) {
            (Some(cancel), Some(share)) if cancel < share => (Permission::Cancel, batch_max),
            (_, Some(_)) => (Permission::Share, room),
            (Some(_), None) => (Permission::Cancel, batch_max),
            (None, None) => return None,
        };
        let len = self.ready.len(permission).min(len_max);
        (!full || len == len_max).then_some((permission, len))
    }

    fn take_ready(&mut self, permission: Permission, len: usize) -> Write {
        self.splits.set_turn(false);
        let members = self.ready.firsts(permission, len);
        Write { permission, members, origin: Origin::Ready }
    }

    /// Begins the next write, if there is one. Other calls may be in flight, but no write.
    pub(crate) fn begin_write(&mut self, cx: &mut Context<'_>, call: CallId) -> Option<Action> {
        debug_assert!(!self.writes.is_in_flight(), "one write in flight at a time");
        let write = self.choose_write(cx)?;
        let account_ids = write.members.iter().map(|&member| self.store.accounts[member].id).collect();
        for &member in &write.members {
            self.set_stage(member, Stage::InFlight);
            self.store.accounts[member].sends = self.store.accounts[member].sends.saturating_add(1);
            self.count_request(call, member);
        }
        let permission = write.permission;
        self.writes.in_flight = Some(write);
        Some(Action::Modify { region: self.name.region, image_id: self.name.id, permission, account_ids })
    }

    /// Begins to read who has the image.
    pub(crate) fn begin_listing(&mut self, call: CallId) -> Action {
        self.listings.begin(call);
        Action::ReadShares { region: self.name.region, image_id: self.name.id }
    }

    /// Begins to ask for the image's state.
    pub(crate) fn begin_query(&mut self, call: CallId) -> Action {
        self.query_begins(call);
        self.begin_probe()
    }

    /// Begins to ask for the image's state, to see whether the lane works.
    pub(crate) const fn begin_probe(&self) -> Action {
        Action::ReadImage { region: self.name.region, image_id: self.name.id }
    }

    /// Counts a request for each job that has an account of it in the operation, once a job.
    fn count_request(&mut self, call: CallId, member: Key<Account>) {
        let mut next = self.store.accounts[member].front;
        let permission = next.map(|front| self.store.items[front].permission);
        while let Some(item) = next.filter(|&item| Some(self.store.items[item].permission) == permission) {
            let found = &self.store.items[item];
            next = found.next_in_account;
            let job = &mut self.store.jobs[found.job];
            if core::mem::replace(&mut job.last_call, call) != call {
                job.requests += 1;
            }
        }
    }

    /// A request never left: it was none, for its accounts and for their jobs.
    pub(super) fn uncount_request(&mut self, call: CallId, members: &[Key<Account>]) {
        for &member in members {
            let found = &mut self.store.accounts[member];
            found.sends = found.sends.saturating_sub(1);
            let mut next = found.front;
            while let Some(item) = next {
                let found = &self.store.items[item];
                next = found.next_in_account;
                let job = &mut self.store.jobs[found.job];
                if job.last_call == call {
                    job.last_call = HeldJob::NO_CALL;
                    job.requests -= 1;
                }
            }
        }
    }
}

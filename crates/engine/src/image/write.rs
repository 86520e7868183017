//! What is sent next about an image: which operations travel together, and the calls that contain them.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::{
    Image,
    obstacle::Obstacle,
    split::{Split, Turn},
    store::{Account, Stage},
};
use crate::{
    arena::Key,
    call::{Kind, Purpose},
    context::Context,
    io::{Action, CallId},
    time::Instant,
};

/// A write, in flight or ended.
#[derive(Debug)]
pub(super) struct Write {
    permission: Permission,
    members: Vec<Key<Account>>,
    origin: Origin,
}

/// Where the operations of a write came from.
#[derive(Debug)]
pub(super) enum Origin {
    /// From the ready ones.
    Ready,
    /// From a split; these are its other members.
    Split(Split),
}

/// The writes of an image, one at a time.
#[derive(Debug, Default)]
pub(super) struct Writes {
    in_flight: Option<Write>,
    /// No write before this moment.
    after: Instant,
    /// When the last write ended.
    last_ended: Option<Instant>,
    /// When that write began: it was applied no earlier, and possibly long before its response.
    last_began: Instant,
    /// Whether a write was ever accepted.
    accepted: bool,
}

/// Which lists of ready operations may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Any,
    /// Only full lists, since more operations are about to be ready.
    Full,
}

impl Write {
    pub(super) fn into_parts(self) -> (Permission, Vec<Key<Account>>, Origin) {
        (self.permission, self.members, self.origin)
    }
}

impl Writes {
    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The permission of the write in flight.
    pub(super) fn permission(&self) -> Option<Permission> {
        self.in_flight.as_ref().map(|write| write.permission)
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
        // Its split is forgotten with the jobs. What the write changes still matters.
        write.origin = Origin::Ready;
        write.members.clone()
    }
}

impl Image {
    /// Whether an image wants a call of this kind now.
    pub(crate) fn wants(&self, cx: &Context<'_>, kind: Kind) -> bool {
        // Nothing is sent about operations that are about to expire or to be decided.
        if self.due.has_expired(cx.now) || self.has_backlog() {
            return false;
        }
        match kind {
            Kind::Write => {
                // Two writes of one image could be applied in either order.
                let blocked = self.writes.is_in_flight()
                    || self.writes.after > cx.now
                    || self.obstacle.as_ref().is_some_and(|obstacle| obstacle.blocks_writes(cx.now));
                !blocked && (self.ready_list(cx, self.sendable_lists()).is_some() || self.has_split_to_send(cx.now))
            }
            Kind::ReadShares => self.listings.is_due(cx.now) && self.in_hand(),
            Kind::ReadImage => {
                let query_at = self.obstacle.as_ref().and_then(Obstacle::query_at);
                query_at.is_some_and(|at| at <= cx.now) && self.in_hand()
            }
        }
    }

    /// Begins a call about the image, if there is something to send.
    pub(crate) fn begin_call(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        kind: Kind,
        purpose: Purpose,
    ) -> Option<Action> {
        let (region, image_id) = (self.name.region, self.name.id);
        match (kind, purpose) {
            (Kind::Write, _) => return self.begin_write(cx, call),
            (Kind::ReadShares, _) => self.listings.begin(call),
            (Kind::ReadImage, Purpose::Work) => self.query_begins(call),
            (Kind::ReadImage, Purpose::Probe) => {}
        }
        Some(match kind {
            Kind::ReadImage => Action::ReadImage { region, image_id },
            Kind::Write | Kind::ReadShares => Action::ReadShares { region, image_id },
        })
    }

    fn begin_write(&mut self, cx: &mut Context<'_>, call: CallId) -> Option<Action> {
        debug_assert!(!self.writes.is_in_flight(), "one write in flight at a time");
        let write = self.choose_write(cx)?;
        let account_ids = write.members.iter().map(|&member| self.store.id(member)).collect();
        for &member in &write.members {
            self.store.set_stage(member, Stage::InFlight);
            // Saturating: an outage may repeat a write any number of times, and only 0, 1 and more are distinguished.
            self.store.set_sends(member, self.store.sends(member).saturating_add(1));
            let mut next = self.store.front(member);
            while let Some(item) = next {
                self.store.count_request(item, call);
                next = self.store.next_in_operation(item);
            }
        }
        let permission = write.permission;
        self.writes.in_flight = Some(write);
        Some(Action::Modify { region: self.name.region, image_id: self.name.id, permission, account_ids })
    }

    /// A request never left: it does not count, for its accounts and for their jobs.
    pub(super) fn uncount_request(&mut self, call: CallId, members: &[Key<Account>]) {
        for &member in members {
            self.store.set_sends(member, self.store.sends(member).saturating_sub(1));
            let mut next = self.store.front(member);
            while let Some(item) = next {
                self.store.uncount_request(item, call);
                next = self.store.next_in_account(item);
            }
        }
    }

    /// The next write: a split's turn, or the ready operations of the permission that has waited longest, with all others of
    /// that permission that fit.
    fn choose_write(&mut self, cx: &mut Context<'_>) -> Option<Write> {
        // A split may have many parts: full lists must not wait until all of them are sent.
        if self.splits.turn() == Turn::FullList
            && let Some((permission, len)) = self.ready_list(cx, Ready::Full)
        {
            return Some(self.take_ready(permission, len));
        }
        if let Some((split, members)) = self.next_of_splits(cx) {
            self.splits.set_turn(Turn::FullList);
            return Some(Write { permission: split.permission(), members, origin: Origin::Split(split) });
        }
        let (permission, len) = self.ready_list(cx, self.sendable_lists())?;
        Some(self.take_ready(permission, len))
    }

    /// While a split waits for its listing, the operations that it is about to release are waited for, to travel with the
    /// ready ones.
    fn sendable_lists(&self) -> Ready {
        let is_waiting = !self.listings.is_retried() && self.splits.is_any_awaiting();
        if is_waiting { Ready::Full } else { Ready::Any }
    }

    /// The permission whose ready operations have waited longest, and how many of them fit into a request.
    fn ready_list(&self, cx: &Context<'_>, sendable: Ready) -> Option<(Permission, usize)> {
        let batch_max = cx.lane.batch_max;
        let room = self.share_room(cx).min(batch_max);
        let cancel = self.store.ready().first(Permission::Cancel);
        // Cancels need no room.
        let share = self.store.ready().first(Permission::Share).filter(|_| room > 0);
        let (permission, len_max) = match (cancel, share) {
            // The permission of the oldest operation goes first, so that neither starves behind the other.
            (Some(cancel), Some(share)) if cancel < share => (Permission::Cancel, batch_max),
            (_, Some(_)) => (Permission::Share, room),
            (Some(_), None) => (Permission::Cancel, batch_max),
            (None, None) => return None,
        };
        let len = self.store.ready().len(permission).min(len_max);
        (sendable == Ready::Any || len == len_max).then_some((permission, len))
    }

    fn take_ready(&mut self, permission: Permission, len: usize) -> Write {
        self.splits.set_turn(Turn::Split);
        let members = self.store.ready().firsts(permission, len);
        Write { permission, members, origin: Origin::Ready }
    }
}

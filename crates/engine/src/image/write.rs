//! What is sent next about an image: which operations travel together, and the calls that carry them.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Stage},
    group::Group,
    ticket::Ticket,
};
use crate::{
    arena::Key,
    call::Kind,
    context::Context,
    io::{Action, CallId},
};

/// The write in flight.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) permission: Permission,
    pub(super) members: Vec<Key<Account>>,
    pub(super) origin: Origin,
}

/// Where the operations of a write came from.
#[derive(Debug)]
pub(super) enum Origin {
    /// From the ready ones.
    Ready,
    /// From a group; these are its other members.
    Group(Group),
}

impl Image {
    /// Whether an image wants a call of this kind now.
    pub(crate) fn wants(&self, cx: &Context<'_>, kind: Kind) -> bool {
        // What is about to expire is not asked for any more, nor what is about to be decided.
        if self.is_expiry_due(cx) || self.has_backlog() {
            return false;
        }
        match kind {
            Kind::Write => {
                let blocked = self.write.is_some()
                    || self.write_after > cx.now
                    || self.busy.as_ref().is_some_and(|busy| busy.ask.is_some())
                    || self.denied.as_ref().is_some_and(|denied| denied.kind == Kind::Write && denied.again > cx.now);
                let ready = || self.ready_list(cx, self.holds_ready()).is_some();
                !blocked && (ready() || self.has_group_to_send(cx))
            }
            Kind::ReadShares => {
                let wanted = self.read.wanted.is_some_and(|from| from <= cx.now) && self.read.after <= cx.now;
                wanted && self.read.in_flight.is_none() && self.in_hand()
            }
            Kind::ReadImage => {
                let due = self.busy.as_ref().and_then(|busy| busy.ask).is_some_and(|ask| ask <= cx.now);
                due && self.query.is_none() && self.in_hand()
            }
        }
    }

    fn has_group_to_send(&self, cx: &Context<'_>) -> bool {
        let due = |group: &Group| group.sendable_from().is_some_and(|from| from <= cx.now);
        self.groups.iter().any(|group| due(group) && self.has_next(group))
    }

    /// What is written next to an image: a group's turn, or the ready operations of the permission that has waited
    /// longest, with all others of that permission that fit.
    pub(super) fn choose_write(&mut self, cx: &mut Context<'_>) -> Option<Write> {
        if self.group_had_turn
            && let Some((permission, len)) = self.ready_list(cx, true)
        {
            return Some(self.take_ready(permission, len));
        }
        if let Some((group, members)) = self.next_of_groups(cx) {
            self.group_had_turn = true;
            return Some(Write { permission: group.permission, members, origin: Origin::Group(group) });
        }
        let (permission, len) = self.ready_list(cx, self.holds_ready())?;
        Some(self.take_ready(permission, len))
    }

    /// Whether ready operations wait for more of them: a group is about to go on after its reading, and what it sets
    /// free then travels with them.
    fn holds_ready(&self) -> bool {
        self.read.attempts == 0 && self.groups.iter().any(|group| group.read_from.is_some())
    }

    /// The permission whose ready operations have waited longest, and how many of them fit into a request; only a full
    /// one, if `full`.
    fn ready_list(&self, cx: &Context<'_>, full: bool) -> Option<(Permission, usize)> {
        let batch_max = cx.lane.batch_max;
        let room = self.share_room(cx).min(batch_max);
        let cancel = self.ready_cancels.first();
        let share = self.ready_shares.first().filter(|_| room > 0);
        let (permission, len_max) = match (cancel, share) {
            (Some(cancel), Some(share)) if cancel < share => (Permission::Cancel, batch_max),
            (_, Some(_)) => (Permission::Share, room),
            (Some(_), None) => (Permission::Cancel, batch_max),
            (None, None) => return None,
        };
        let len = self.ready(permission).len().min(len_max);
        (!full || len == len_max).then_some((permission, len))
    }

    fn take_ready(&mut self, permission: Permission, len: usize) -> Write {
        self.group_had_turn = false;
        let members = self.ready(permission).iter().take(len).map(|&(_, account)| account).collect();
        Write { permission, members, origin: Origin::Ready }
    }

    /// Begins the next write, if there is one. Other calls may be in flight, but no write.
    pub(crate) fn begin_write(&mut self, cx: &mut Context<'_>, call: CallId) -> Option<Action> {
        debug_assert!(self.write.is_none(), "one write in flight at a time");
        let write = self.choose_write(cx)?;
        let account_ids = write.members.iter().map(|&member| self.store.accounts[member].id).collect();
        for &member in &write.members {
            self.set_stage(member, Stage::InFlight);
            self.store.accounts[member].sends = self.store.accounts[member].sends.saturating_add(1);
            self.count_request(call, member);
        }
        let permission = write.permission;
        self.write = Some(write);
        Some(Action::Modify { region: self.name.region, image_id: self.name.id, permission, account_ids })
    }

    /// Begins to read who has the image.
    pub(crate) fn begin_listing(&mut self, call: CallId) -> Action {
        self.read.wanted = None;
        self.read.in_flight = Some(call);
        Action::ReadShares { region: self.name.region, image_id: self.name.id }
    }

    /// Begins to ask for the image's state.
    pub(crate) fn begin_query(&mut self, call: CallId) -> Action {
        self.query = Some(call);
        self.begin_probe()
    }

    /// Begins to ask for the image's state, to see whether the lane works.
    pub(crate) const fn begin_probe(&self) -> Action {
        Action::ReadImage { region: self.name.region, image_id: self.name.id }
    }

    /// Counts a request for each ticket that has an account of it in the operation, once a ticket.
    fn count_request(&mut self, call: CallId, member: Key<Account>) {
        let mut next = self.store.accounts[member].front;
        let permission = next.map(|front| self.store.wishes[front].permission);
        while let Some(wish) = next.filter(|&wish| Some(self.store.wishes[wish].permission) == permission) {
            let found = &self.store.wishes[wish];
            next = found.next_in_account;
            let ticket = &mut self.store.tickets[found.ticket];
            if core::mem::replace(&mut ticket.last_call, call) != call {
                ticket.requests += 1;
            }
        }
    }

    /// A request never left: it was none, for its accounts and for their tickets.
    pub(super) fn uncount_request(&mut self, call: CallId, members: &[Key<Account>]) {
        for &member in members {
            let found = &mut self.store.accounts[member];
            found.sends = found.sends.saturating_sub(1);
            let mut next = found.front;
            while let Some(wish) = next {
                let found = &self.store.wishes[wish];
                next = found.next_in_account;
                let ticket = &mut self.store.tickets[found.ticket];
                if ticket.last_call == call {
                    ticket.last_call = Ticket::NO_CALL;
                    ticket.requests -= 1;
                }
            }
        }
    }
}

//! Work on many accounts of an image at once: a part of it in each call of the engine.

use alloc::{collections::VecDeque, sync::Arc};

use imageshare_core::Permission;

use super::{
    Engine,
    account::{Account, Stage},
    image::Image,
};
use crate::{arena::Key, io::CallId, job::Failure, time::Instant};

/// Accounts to which the same is still to be done. Some may have moved on, or be forgotten.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) accounts: VecDeque<Key<Account>>,
    pub(super) step: Step,
}

/// What is to be done to each account of a backlog.
#[derive(Debug)]
pub(super) enum Step {
    /// A reading was awaited and came, or was refused: decide anew.
    Decide,
    /// A reading came that no call of a worker before can make untrue: compare the provisional outcome with it.
    Confirm,
    /// The image was refused: fail what is not in flight.
    Fail {
        /// Only operations of this permission.
        permission: Option<Permission>,
        /// Tickets of which that call carried no account are not given its request id.
        call: CallId,
        refused: Arc<Failure>,
        nameless: Arc<Failure>,
    },
    /// The lane was lost: drop the wishes, without a word.
    Forget,
    /// There is no room for this share: fail it.
    OverQuota(Arc<Failure>),
}

impl Engine {
    pub(super) fn add_backlog(&mut self, image: Key<Image>, accounts: VecDeque<Key<Account>>, step: Step) {
        self.images[image].backlogs.push_back(Backlog { accounts, step });
    }

    /// Whether something has to be done to accounts of this image before anything is sent about it and before another job
    /// begins there.
    pub(super) fn has_backlog(&self, image: Key<Image>) -> bool {
        !self.images[image].backlogs.is_empty()
    }

    /// Goes on with the backlogs of an image, in order, until all are done or so much work is.
    pub(super) fn work_off(&mut self, now: Instant, image: Key<Image>) {
        while !self.is_much_work()
            && let Some(mut backlog) = self.images[image].backlogs.pop_front()
        {
            while !self.is_much_work()
                && let Some(account) = backlog.accounts.pop_front()
            {
                self.work += 1;
                if self.accounts.get(account).is_some_and(|account| account.image == image) {
                    self.take_step(now, account, &backlog.step);
                }
            }
            if !backlog.accounts.is_empty() {
                return self.images[image].backlogs.push_front(backlog);
            }
            match backlog.step {
                Step::Decide => self.reading_decided(now, image),
                Step::Forget => {
                    for ticket in core::mem::take(&mut self.images[image].lost_tickets) {
                        self.tickets.remove(ticket);
                    }
                }
                Step::Confirm | Step::Fail { .. } | Step::OverQuota(_) => {}
            }
        }
    }

    fn take_step(&mut self, now: Instant, account: Key<Account>, step: &Step) {
        let found = &self.accounts[account];
        match step {
            Step::Decide if found.stage == Stage::Checking => self.decide(now, account),
            Step::Confirm => self.compare_provisional(now, account),
            Step::Forget => {
                self.forget_wishes(account);
                self.forget_account(now, account);
            }
            Step::Fail { permission, call, refused, nameless } if found.stage != Stage::InFlight => {
                let wished = found.front.map(|front| self.wishes[front].permission);
                if wished.is_some() && (permission.is_none() || wished == *permission) {
                    self.fail_front_by(account, |ticket| if ticket.last_call == *call { refused } else { nameless });
                    self.decide(now, account);
                }
            }
            Step::OverQuota(failure) if found.stage == Stage::Ready(Permission::Share) => {
                // What makes it full may be a write of ours for this very account.
                match self.known(account).filter(|known| known.state == Permission::Share) {
                    Some(known) => {
                        self.done_front(now, account, known);
                        self.decide(now, account);
                    }
                    None => self.fail(now, account, failure),
                }
            }
            Step::Decide | Step::Fail { .. } | Step::OverQuota(_) => {}
        }
    }
}

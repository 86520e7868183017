//! How a refused list is tried in parts until the account at fault is alone.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Stage},
    listing::Listing,
    split::{Sample, Split},
};
use crate::{
    arena::Key,
    context::{Context, Effect},
    job::Failure,
    limits::{LIST_FAILURES_MAX, SAMPLE_SIZE},
};

impl Image {
    /// A list of several was refused in a way that blames one of them: read who has the image now, drop those that are
    /// as requested, then try the halves. `rest` are the others of its split.
    pub(super) fn isolate(&mut self, cx: &mut Context<'_>, mut tried: Split, rest: &[Key<Account>]) {
        // One of those tried must be at fault, so nothing is known of the others any more.
        self.make_ready(cx, rest);
        cx.effects.push(Effect::Split);
        tried.culprit = true;
        tried.failures = 0;
        if self.listings.refused(cx.now).is_none() {
            tried.read_from = Some(cx.now);
            self.listings.want(cx.now);
        }
        self.splits.push(tried);
    }

    /// A list of several failed for the second time in a row with no account named: each half is tried by itself.
    pub(super) fn halve(&mut self, cx: &mut Context<'_>, mut tried: Split) {
        cx.effects.push(Effect::Split);
        let second = tried.members.split_off(tried.members.len() / 2);
        let mut other = Split::new(tried.permission, second, tried.failure.clone());
        other.after = tried.after;
        // One more failure is again the second in a row.
        other.failures = LIST_FAILURES_MAX - 1;
        tried.failures = LIST_FAILURES_MAX - 1;
        self.splits.push(other);
        self.splits.push(tried);
    }

    /// Before a list is halved for a reason that may be the caller's or the image's, some are tried alone.
    pub(super) fn sample(&mut self, tried: &mut Split) {
        let accepted = self.writes.is_any_accepted();
        if !accepted && tried.sample.is_none() && tried.members.len() > 2 * SAMPLE_SIZE {
            tried.sample = Some(Sample::draw(&mut tried.members));
        }
    }

    /// These leave their split, if they have not already, and go back to the ready ones or wherever they belong by now.
    pub(super) fn make_ready(&mut self, cx: &mut Context<'_>, accounts: &[Key<Account>]) {
        for &account in accounts {
            if self.store.accounts.get(account).is_some_and(|found| found.stage == Stage::Split) {
                self.set_stage(account, Stage::Idle);
                self.decide(cx, account);
            }
        }
    }

    /// After a listing: splits that waited for it drop their members that are as requested.
    pub(super) fn drop_done_members(&mut self, cx: &mut Context<'_>) {
        let began = self.listings.newest().map(Listing::began);
        let unreadable = self.listings.refused(cx.now).is_some();
        for mut split in self.splits.take() {
            let served = split.read_from.is_some_and(|from| unreadable || began.is_some_and(|began| began >= from));
            if served {
                split.read_from = None;
                let before = split.members.len();
                split.members.retain(|&member| !self.is_done_by_listing(cx, member, split.permission));
                if split.members.len() < before {
                    // The culprit may have been one of those that are done.
                    split.culprit &= split.members.len() > 1;
                }
            } else if let Some(from) = split.read_from {
                self.listings.want(from);
            }
            self.splits.push(split);
        }
    }

    /// Settles a member that the listing shows as requested. A doubt is not settled by a listing.
    fn is_done_by_listing(&mut self, cx: &mut Context<'_>, member: Key<Account>, permission: Permission) -> bool {
        let waits = self.store.accounts.get(member).is_some_and(|account| account.stage == Stage::Split);
        let in_doubt = |history| self.store.histories[history].in_doubt_at(cx.now).is_some();
        if !waits || self.store.accounts[member].history.is_some_and(in_doubt) {
            return false;
        }
        let done = self.known(cx, member).is_some_and(|known| known.state == permission && known.read);
        if done {
            self.make_ready(cx, &[member]);
        }
        done
    }

    /// Takes out of the splits what can be sent now: the split and the members to send. Splits whose members have all
    /// moved on are dropped.
    pub(super) fn next_of_splits(&mut self, cx: &mut Context<'_>) -> Option<(Split, Vec<Key<Account>>)> {
        self.settle_samples(cx);
        let mut splits = self.splits.take();
        splits.retain_mut(|split| {
            let permission = split.permission;
            let stays = |member: &Key<Account>| self.is_in_split(*member, permission);
            split.members.retain(stays);
            let sample = split.sample.as_mut();
            let sampling = sample.is_some_and(|sample| {
                sample.waiting.retain(stays);
                !sample.waiting.is_empty() || sample.tried.iter().any(|&tried| self.is_undecided(tried))
            });
            sampling || !split.members.is_empty()
        });
        let ready = |split: &Split| split.sendable_from().is_some_and(|from| from <= cx.now) && self.has_next(split);
        let chosen = splits.iter().rposition(ready).map(|place| splits.remove(place));
        self.splits.put_before(splits);
        let mut split = chosen?;
        let mut len_max = cx.lane.batch_max;
        if split.permission == Permission::Share {
            len_max = len_max.min(self.share_room(cx));
        }
        if len_max == 0 {
            // There is no room for shares: these wait with the others, in order of arrival.
            let members: Vec<_> =
                split.members.drain(..).chain(split.sample.into_iter().flat_map(|s| s.waiting)).collect();
            for member in members {
                if self.is_in_split(member, Permission::Share) {
                    self.set_ready(member, Permission::Share);
                }
            }
            self.quota_due(cx);
            return None;
        }
        let members = split.take_next(len_max);
        Some((split, members))
    }

    pub(super) fn has_next(&self, split: &Split) -> bool {
        match &split.sample {
            Some(sample) => {
                let undecided = sample.tried.iter().any(|&tried| self.is_undecided(tried));
                !sample.waiting.is_empty() || !undecided
            }
            None => !split.members.is_empty(),
        }
    }

    fn is_in_split(&self, member: Key<Account>, permission: Permission) -> bool {
        self.store.accounts.get(member).is_some_and(|account| {
            let requested = account.front.map(|front| self.store.items[front].permission);
            account.stage == Stage::Split && requested == Some(permission)
        })
    }

    /// Whether a sampled account is still being tried.
    fn is_undecided(&self, tried: Key<Account>) -> bool {
        self.store
            .accounts
            .get(tried)
            .is_some_and(|account| matches!(account.stage, Stage::Split | Stage::InFlight | Stage::Checking))
    }

    /// Looks at samples that are all decided: if all were refused and none was ever accepted, so is the rest.
    pub(super) fn settle_samples(&mut self, cx: &mut Context<'_>) {
        let accepted = self.writes.is_any_accepted();
        let mut condemned = Vec::new();
        let mut splits = self.splits.take();
        for split in &mut splits {
            let Some(sample) = &mut split.sample else { continue };
            let undecided = sample.tried.iter().any(|&tried| self.is_undecided(tried));
            if accepted {
                split.members.append(&mut sample.waiting);
                split.culprit &= sample.refused == 0 && !undecided;
                split.sample = None;
                continue;
            }
            if !sample.waiting.is_empty() || undecided {
                continue;
            }
            if sample.refused == SAMPLE_SIZE {
                condemned.push((core::mem::take(&mut split.members), split.permission, split.failure.clone()));
            }
            split.sample = None;
        }
        self.splits.put_before(splits);
        for (members, permission, failure) in condemned {
            for member in members {
                if self.is_in_split(member, permission) {
                    self.fail(cx, member, &failure);
                }
            }
        }
    }

    /// An account was refused alone, for good. It speaks for the rest if the code is the one that the list got.
    pub(super) fn count_sample(&mut self, account: Key<Account>, code: &str) {
        let same_code = |split: &&mut Split| *split.failure.code == *code;
        for split in self.splits.iter_mut().filter(same_code) {
            if let Some(sample) = split.sample.as_mut().filter(|sample| sample.tried.contains(&account)) {
                sample.refused += 1;
            }
        }
    }

    /// A write was accepted: what was refused before is no longer so.
    pub(super) fn forget_refusal(&self, cx: &mut Context<'_>, account: Key<Account>, permission: Permission) {
        cx.refusals.forget(self.name, self.store.accounts[account].id, permission);
    }

    /// Remembers a refusal that blames the account, for a job that comes back.
    pub(super) fn remember(
        &self,
        cx: &mut Context<'_>,
        account: Key<Account>,
        permission: Permission,
        failure: &Failure,
    ) {
        cx.refusals.remember(cx.now, self.name, self.store.accounts[account].id, permission, failure);
    }
}

impl Split {
    /// Takes out what is sent next. A list that must hold a culprit is not sent whole.
    fn take_next(&mut self, batch_max: usize) -> Vec<Key<Account>> {
        if let Some(sample) = &mut self.sample
            && let Some(alone) = sample.waiting.pop()
        {
            sample.tried.push(alone);
            return [alone].to_vec();
        }
        let len = self.members.len();
        let whole = if self.culprit && len > 1 { len / 2 } else { len };
        let rest = self.members.split_off(whole.min(batch_max));
        core::mem::replace(&mut self.members, rest)
    }
}

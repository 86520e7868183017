//! Rule 5: a list that fails is tried in parts until the account at fault is alone.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Class, Permission};

use super::{
    Engine,
    account::{Account, Stage},
    group::{Group, Sample},
    image::Image,
};
use crate::{
    arena::Key,
    job::Failure,
    time::{Instant, Millis},
};

impl Engine {
    /// How long a refusal of an account is remembered for jobs that come back.
    const REMEMBER_FOR: Millis = Millis::from_secs(60 * 60);
    /// Refusals remembered at most.
    const REMEMBERED_MAX: usize = 100_000;

    /// A list of several was refused in a way that blames one of them: read who has the image now, drop those that are
    /// as wished, then try the halves. `rest` are the others of its group.
    pub(super) fn isolate(&mut self, now: Instant, image: Key<Image>, mut tried: Group, rest: &[Key<Account>]) {
        // One of those tried must be at fault, so nothing is known of the others any more.
        self.make_ready(now, rest);
        self.count_split(image);
        tried.culprit = true;
        tried.failures = 0;
        if self.images[image].unreadable(now).is_none() {
            tried.read_from = Some(now);
            self.images[image].want_reading(now);
        }
        self.push_group(image, tried);
    }

    /// A list of several failed for the second time in a row with nobody blamed: each half is tried by itself.
    pub(super) fn halve(&mut self, image: Key<Image>, mut tried: Group) {
        self.count_split(image);
        let second = tried.members.split_off(tried.members.len() / 2);
        let mut other = Group::new(tried.permission, second, tried.failure.clone());
        other.after = tried.after;
        // One more failure is again the second in a row.
        other.failures = 1;
        tried.failures = 1;
        self.push_group(image, other);
        self.push_group(image, tried);
    }

    /// Before a list is halved for a reason that may be the caller's or the image's, some are tried alone.
    pub(super) fn sample(&mut self, image: Key<Image>, tried: &mut Group) {
        let accepted = self.images[image].accepted;
        if !accepted && tried.sample.is_none() && tried.members.len() > 2 * Sample::SIZE {
            tried.sample = Some(Sample::draw(&mut tried.members));
        }
    }

    /// Puts a group in hand: its members are sent as it decides.
    pub(super) fn push_group(&mut self, image: Key<Image>, group: Group) {
        self.images[image].groups.push(group);
    }

    /// These leave their group, if they have not already, and go back to the ready ones or wherever they belong by now.
    pub(super) fn make_ready(&mut self, now: Instant, accounts: &[Key<Account>]) {
        for &account in accounts {
            if self.accounts.get(account).is_some_and(|found| found.stage == Stage::Grouped) {
                self.set_stage(account, Stage::Idle);
                self.decide(now, account);
            }
        }
    }

    /// After a reading: groups that waited for it drop their members that are as wished.
    pub(super) fn drop_done_members(&mut self, now: Instant, image: Key<Image>) {
        let found = &self.images[image];
        let began = found.reading.as_ref().map(|reading| reading.began);
        let unreadable = found.unreadable(now).is_some();
        for mut group in core::mem::take(&mut self.images[image].groups) {
            let served = group.read_from.is_some_and(|from| unreadable || began.is_some_and(|began| began >= from));
            if served {
                group.read_from = None;
                let before = group.members.len();
                group.members.retain(|&member| !self.is_done_by_reading(now, member, group.permission));
                if group.members.len() < before {
                    // The culprit may have been one of those that are done.
                    group.culprit &= group.members.len() > 1;
                }
            } else if let Some(from) = group.read_from {
                self.images[image].want_reading(from);
            }
            self.images[image].groups.push(group);
        }
    }

    /// Settles a member that the reading shows as wished. A doubt is not settled by a reading.
    fn is_done_by_reading(&mut self, now: Instant, member: Key<Account>, permission: Permission) -> bool {
        let waits = self.accounts.get(member).is_some_and(|account| account.stage == Stage::Grouped);
        let in_doubt = |history| self.histories[history].doubt_at(now).is_some();
        if !waits || self.accounts[member].history.is_some_and(in_doubt) {
            return false;
        }
        let done = self.known(member).is_some_and(|known| known.state == permission && known.read);
        if done {
            self.make_ready(now, &[member]);
        }
        done
    }

    /// Takes out of the groups what can be sent now: the group and the members to send. Groups whose members have all
    /// moved on are dropped.
    pub(super) fn next_of_groups(&mut self, now: Instant, image: Key<Image>) -> Option<(Group, Vec<Key<Account>>)> {
        self.settle_samples(now, image);
        let mut groups = core::mem::take(&mut self.images[image].groups);
        groups.retain_mut(|group| {
            let permission = group.permission;
            let stays = |member: &Key<Account>| self.is_grouped(image, *member, permission);
            group.members.retain(stays);
            let sample = group.sample.as_mut();
            let sampling = sample.is_some_and(|sample| {
                sample.waiting.retain(stays);
                !sample.waiting.is_empty() || sample.tried.iter().any(|&tried| self.is_undecided(image, tried))
            });
            sampling || !group.members.is_empty()
        });
        let ready =
            |group: &Group| group.sendable_from().is_some_and(|from| from <= now) && self.has_next(image, group);
        let chosen = groups.iter().rposition(ready).map(|place| groups.remove(place));
        self.images[image].groups = groups;
        let mut group = chosen?;
        let mut len_max = self.lane_of(image).batch_max();
        if group.permission == Permission::Share {
            len_max = len_max.min(self.share_room(now, image));
        }
        if len_max == 0 {
            // There is no room for shares: these wait with the others, in order of arrival.
            let members: Vec<_> =
                group.members.drain(..).chain(group.sample.into_iter().flat_map(|s| s.waiting)).collect();
            for member in members {
                if self.is_grouped(image, member, Permission::Share) {
                    self.set_ready(member, Permission::Share);
                }
            }
            self.quota_due(now, image);
            return None;
        }
        let members = group.take_next(len_max);
        Some((group, members))
    }

    pub(super) fn has_next(&self, image: Key<Image>, group: &Group) -> bool {
        match &group.sample {
            Some(sample) => {
                let undecided = sample.tried.iter().any(|&tried| self.is_undecided(image, tried));
                !sample.waiting.is_empty() || !undecided
            }
            None => !group.members.is_empty(),
        }
    }

    fn is_grouped(&self, image: Key<Image>, member: Key<Account>, permission: Permission) -> bool {
        self.accounts.get(member).is_some_and(|account| {
            let wished = account.front.map(|front| self.wishes[front].permission);
            account.image == image && account.stage == Stage::Grouped && wished == Some(permission)
        })
    }

    /// Whether a sampled account is still being tried.
    fn is_undecided(&self, image: Key<Image>, tried: Key<Account>) -> bool {
        self.accounts.get(tried).is_some_and(|account| {
            account.image == image && matches!(account.stage, Stage::Grouped | Stage::InFlight | Stage::Checking)
        })
    }

    /// Looks at samples that are all decided: if all were refused and none was ever accepted, so is the rest.
    pub(super) fn settle_samples(&mut self, now: Instant, image: Key<Image>) {
        let accepted = self.images[image].accepted;
        let mut condemned = Vec::new();
        let mut groups = core::mem::take(&mut self.images[image].groups);
        for group in &mut groups {
            let Some(sample) = &mut group.sample else { continue };
            let undecided = sample.tried.iter().any(|&tried| self.is_undecided(image, tried));
            if accepted {
                group.members.append(&mut sample.waiting);
                group.culprit &= sample.refused == 0 && !undecided;
                group.sample = None;
                continue;
            }
            if !sample.waiting.is_empty() || undecided {
                continue;
            }
            if sample.refused == Sample::SIZE {
                condemned.push((core::mem::take(&mut group.members), group.permission, group.failure.clone()));
            }
            group.sample = None;
        }
        groups.append(&mut self.images[image].groups);
        self.images[image].groups = groups;
        for (members, permission, failure) in condemned {
            for member in members {
                if self.is_grouped(image, member, permission) {
                    self.fail(now, member, &failure);
                }
            }
        }
    }

    /// An account was refused alone, for good. It speaks for the rest if the code is the one that the list got.
    pub(super) fn count_sample(&mut self, image: Key<Image>, account: Key<Account>, code: &str) {
        let same_code = |group: &&mut Group| *group.failure.code == *code;
        for group in self.images[image].groups.iter_mut().filter(same_code) {
            if let Some(sample) = group.sample.as_mut().filter(|sample| sample.tried.contains(&account)) {
                sample.refused += 1;
            }
        }
    }

    /// A write was accepted: what was refused before is no longer so.
    pub(super) fn forget_refusal(&mut self, account: Key<Account>, permission: Permission) {
        if !self.remembered.is_empty() {
            let found = &self.accounts[account];
            let Image { lane, region, id, .. } = self.images[found.image];
            self.remembered.remove(&(lane, region, id, found.id, permission));
        }
    }

    /// Remembers a refusal that blames the account, for a job that comes back.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        account: Key<Account>,
        permission: Permission,
        failure: &Arc<Failure>,
    ) {
        let found = &self.accounts[account];
        let Image { lane, region, id, .. } = self.images[found.image];
        let name = (lane, region, id, found.id, permission);
        // The job that comes back may not be the one that the request was made for.
        let failure = failure.without_request();
        let remembered = super::lane::Remembered { until: now + Self::REMEMBER_FOR, failure };
        if self.remembered.insert(name, remembered).is_none() {
            self.remembered_order.push_back(name);
        }
        while self.remembered_order.len() > Self::REMEMBERED_MAX {
            if let Some(oldest) = self.remembered_order.pop_front() {
                self.remembered.remove(&oldest);
            }
        }
    }
}

impl Group {
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

/// Whether a code may be about the caller or the image as well as about an account.
pub(super) const fn may_be_about_others(class: Class) -> bool {
    matches!(class, Class::AccountOrOther | Class::Transient | Class::Unknown)
}

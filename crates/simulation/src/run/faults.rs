//! The faults between two events, and what they replace: processes and keys.

use imageshare_core::{Permission, ids::AccountId};
use imageshare_engine::io::Input;

use super::{Event, LANE, Run};
use crate::{fault::InjectedFault, process::Process, scenario};

impl Run {
    pub(super) fn break_something(&mut self) {
        if self.now >= self.world.heals_at() {
            return;
        }
        let Some(fault) = self.world.faults.of_step(&mut self.random) else { return };
        self.ended.coverage.fault(fault);
        self.log(|| format!("   {}", fault.as_str()));
        match fault {
            InjectedFault::Kill => self.kill(),
            InjectedFault::Silent => self.silence(),
            InjectedFault::Lost => self.disconnect(),
            InjectedFault::Returned => {
                self.disconnect();
                let again_at = self.now + self.random.of(&[100, 2000, 10_000, 40_000]);
                self.at(again_at, Event::Disconnect);
            }
            InjectedFault::Drained => self.tell_to_end(),
            InjectedFault::Busy => {
                let image = scenario::image(self.random.below(self.world.images));
                self.world.ledger.occupy(image, self.now + 3_600_000);
            }
            InjectedFault::Outside => {
                let image = scenario::image(self.random.below(self.world.images));
                let account = scenario::account(self.random.below(self.world.accounts));
                let permission = Permission::of_presence(self.random.chance(50));
                self.world.ledger.impose(self.now, image, account, permission);
                let is_shared = self.world.ledger.is_shared(image, account);
                self.checker.note_state(self.now, image, account, is_shared);
                self.checker.disturbed(self.now, image);
            }
            InjectedFault::Revoked => {
                self.checker.revoked();
                let codes = ["UnauthorizedOperation", "UnauthorizedOperation.CamNoAuth", "IpNotInWhitelist"];
                let until = self.now + self.random.of(&[3000, 60_000, 400_000, 1_800_000]);
                self.revoked = (until, self.random.of(&codes), self.random.chance(50));
            }
            InjectedFault::ForeignKey => {
                self.replace_key(scenario::account_of(scenario::OTHER_OWNER));
                let until = self.now + self.random.of(&[2000, 20_000, 600_000]);
                self.at(until, Event::KeyReplaced(scenario::account_of(scenario::OWNER)));
            }
            InjectedFault::Outage => self.outage_until = self.now + self.random.between(1000, 150_000),
            _ => {}
        }
    }

    /// The active process is killed.
    fn kill(&mut self) {
        let id = self.active_process();
        let is_cut_off = self.process(id).is_some_and(|process| process.cut_off_until.is_some());
        // Otherwise the broker does not see it before its time-out.
        for consumer in self.queue.consumers_of(id).into_iter().filter(|_| !is_cut_off) {
            self.end_connection(consumer);
        }
        self.replace(id);
    }

    /// The active process receives SIGTERM. Without a lane it ends at once.
    fn tell_to_end(&mut self) {
        let id = self.active_process();
        let Some(process) = self.process(id).filter(|process| process.suspended_until.is_none()) else { return };
        if process.away.is_some() {
            return self.kill();
        }
        process.is_draining = true;
        self.input_to(id, Input::Drain);
    }

    /// A process ended, and another one takes its place.
    pub(super) fn replace(&mut self, id: u64) {
        self.checker.ended(id);
        let Some(place) = self.processes.iter().position(|process| process.id == id) else { return };
        let last_owner = self.processes.remove(place).key_owner;
        // A process without this information trusts its first key, so that must be the right one again.
        let is_told = self.world.expects_account && self.world.finds_owners;
        let next = self.begin_process(if is_told { last_owner } else { scenario::account_of(scenario::OWNER) });
        // Where there is a standby, that one has the lane meanwhile.
        let pause = if self.world.workers > 1 { self.random.of(&[300, 3000]) } else { 0 };
        self.at(self.now + pause, Event::Subscribe(next));
    }

    /// The key of all processes that run is replaced, unless it is of that account already.
    pub(super) fn replace_key(&mut self, owner: AccountId) {
        for id in self.processes.iter().map(|process| process.id).collect::<Vec<_>>() {
            let Some(process) = self.process(id).filter(|process| process.key_owner != owner) else { continue };
            (process.key_owner, process.has_foreign_key) = (owner, false);
            self.input_to(id, Input::CredentialRefreshed(LANE));
            self.identify(id, owner);
        }
    }

    /// A process receives its key's account, or that it is unavailable, at once or later.
    pub(super) fn identify(&mut self, id: u64, owner: AccountId) {
        let at = self.now + self.random.of(&[0, 20, 300, 6000]);
        let known = Some(owner).filter(|_| self.world.finds_owners);
        self.at(at, Event::OwnerLearned(id, known));
    }

    pub(super) fn learn_owner(&mut self, id: u64, owner: Option<AccountId>) {
        let Some(process) = self.process(id).filter(|process| owner.is_none_or(|owner| owner == process.key_owner))
        else {
            return;
        };
        process.has_foreign_key = owner.is_some_and(|owner| owner != scenario::account_of(scenario::OWNER));
        match owner {
            Some(owner) => self.input_to(id, Input::OwnAccount(LANE, owner)),
            None => self.input_to(id, Input::OwnerUnknown(LANE)),
        }
    }

    pub(super) fn begin_process(&mut self, key_owner: AccountId) -> u64 {
        let id = self.next_process;
        self.next_process += 1;
        self.processes.push(Process::new(id, &self.world, key_owner));
        self.introduce(id);
        id
    }

    /// Sends a process that begins the account of its key, and the expected one, if they are known.
    fn introduce(&mut self, id: u64) {
        let owner = scenario::account_of(scenario::OWNER);
        if self.world.expects_account {
            self.input_to(id, Input::ExpectAccount(LANE, Some(owner)));
        }
        let key_owner = self.process(id).map(|process| process.key_owner);
        let known = key_owner.filter(|_| self.world.finds_owners);
        self.happen(Event::OwnerLearned(id, known));
    }

    /// In the end nothing goes wrong any more and the cloud permits everything.
    pub(super) fn heal(&mut self) {
        if self.now < self.world.heals_at() {
            return;
        }
        self.world.faults.end();
        self.revoked.0 = 0;
        if self.processes.iter().any(|process| process.key_owner != scenario::account_of(scenario::OWNER)) {
            self.replace_key(scenario::account_of(scenario::OWNER));
        }
        for nth in 0..self.world.images {
            self.world.ledger.permit(scenario::image(nth));
        }
    }
}

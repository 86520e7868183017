//! What becomes of a lane's credential while the lane is used.

use imageshare_core::{Credential, request::Signer};
use imageshare_engine::io::{CloseReason, Input, LaneId, Notice};
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    time::{Instant, timeout_at},
};

use super::{Driver, Said, carry_out::OpenLane, event::News};
use crate::{
    credentials::{Identity, Loaded, Newest, Owner},
    events,
    lane::{LaneConflict, Regions},
};

/// Tells the driver of every credential that its keeper gets after `last`, and of what keeps it from getting one, each once.
async fn follow(lane: LaneId, mut last: Newest, mut newest: watch::Receiver<Newest>, news: UnboundedSender<News>) {
    while newest.changed().await.is_ok() {
        let next = newest.borrow_and_update().clone();
        let told = match (&next.loaded, &next.problem) {
            (Some(loaded), _) if next.credential() != last.credential() => {
                News::Renewed { lane, loaded: loaded.clone() }
            }
            (_, Some(problem)) => News::SourceFailed { lane, problem: problem.clone() },
            (_, None) => News::SourceWorks { lane },
        };
        if news.send(told).is_err() {
            return;
        }
        last = next;
    }
}

/// Tells the driver whenever more is known of whose the credential of a lane is.
async fn follow_owner(lane: LaneId, mut identity: watch::Receiver<Identity>, news: UnboundedSender<News>) {
    loop {
        identity.mark_unchanged();
        if news.send(News::Owner { lane }).is_err() || identity.changed().await.is_err() {
            return;
        }
    }
}

impl OpenLane {
    /// Its host and its regions.
    fn place(&self) -> (&str, &Regions) {
        (self.uri.host().unwrap_or_default(), &self.regions)
    }
}

impl<I: Send + 'static> Driver<I> {
    /// Takes in from now on whose the credentials of the lanes are.
    pub(super) fn follow_owners(&mut self) {
        for id in self.ids() {
            let identity = self.lane(id).keeper.identity();
            self.tasks.spawn(follow_owner(id, identity, self.news_sender.clone()));
        }
    }

    /// Waits until that is known, as far as it can be, but no longer than a connection may take: what the first jobs are
    /// told of the key's own account is not to depend on who is faster.
    pub(super) async fn learn_owners(&mut self) {
        self.follow_owners();
        let identities: Vec<_> = self.ids().map(|id| (id, self.lane(id).keeper.identity())).collect();
        let deadline = Instant::now() + self.client.time_outs().connect;
        for (id, mut identity) in identities {
            let learned = timeout_at(deadline, identity.wait_for(|identity| identity.owner != Owner::Asked)).await;
            if learned.is_ok() {
                self.owner(id);
            }
        }
    }

    /// Takes in whose the credential that a lane signs with is. Where that cannot be learned the lane goes on without.
    pub(super) fn owner(&mut self, lane: LaneId) {
        let open = self.lane(lane);
        let Some(signer) = &open.signer else { return };
        let owner = open.keeper.owner_of(signer.credential());
        let said = std::mem::replace(&mut open.owner, owner.clone());
        let (told, input) = match owner {
            Owner::Asked => {
                open.owner = said;
                return;
            }
            Owner::Known(account) => {
                ((said != Owner::Known(account)).then_some(Ok(account)), Some(Input::OwnAccount(lane, account)))
            }
            Owner::Unreached(reason) | Owner::Unknown(reason) => {
                let is_said = matches!(said, Owner::Unreached(_) | Owner::Unknown(_));
                let is_over = matches!(open.owner, Owner::Unknown(_));
                ((!is_said).then_some(Err(reason)), is_over.then_some(Input::OwnerUnknown(lane)))
            }
        };
        if let Some(owner) = &told {
            events::OwnerLearned { lane: self.status.lane(lane), owner }.record();
        }
        if let Some(input) = input {
            self.engine.handle(self.now(), input);
        }
    }

    /// Tells the engine that a lane signs with another credential, and whose it is as far as that is known.
    fn credential_fresh(&mut self, lane: LaneId) {
        self.engine.handle(self.now(), Input::CredentialRefreshed(lane));
        self.owner(lane);
    }

    /// Takes in from now on what the keepers of the lanes get. Lanes without a credential stay closed until there is one.
    pub(super) fn follow_credentials(&mut self) {
        for id in self.ids() {
            let (mut newest, news) = (self.lane(id).keeper.newest(), self.news_sender.clone());
            let known = newest.borrow_and_update().clone();
            match known.loaded.clone() {
                None => self.await_credential(id, known.problem.clone().unwrap_or_default()),
                Some(loaded) if self.lane(id).signer.is_none() => self.renewed(id, loaded),
                Some(loaded) => {
                    self.status.lane(id).metrics.shows_credential(loaded.expires_at);
                    // It may have changed since the lane was made.
                    self.sign_with(id, loaded.credential);
                }
            }
            self.tasks.spawn(follow(id, known, newest, news));
        }
    }

    /// Keeps a lane closed, for this reason, until it has its first credential.
    fn await_credential(&mut self, lane: LaneId, problem: String) {
        self.lane(lane).source_problem = Some(problem.clone());
        self.notice(lane, Notice::Closed { reason: CloseReason::Credential, detail: problem.into() });
    }

    /// A credential was refused: another one is wanted than what it was signed with.
    pub(super) fn refresh(&mut self, lane: LaneId) {
        let open = self.lane(lane);
        // A call that was signed before the credential was replaced says nothing of the one that is there now.
        if open.refused < Some(open.generation) {
            return self.credential_fresh(lane);
        }
        let (keeper, sender) = (open.keeper.clone(), self.news_sender.clone());
        self.tasks.spawn(async move {
            let found = keeper.refresh().await;
            drop(sender.send(News::Refreshed { lane, found }));
        });
    }

    /// Asks the lane's source what it has now. What is new is told by its keeper.
    pub(super) fn reread(&mut self, lane: LaneId) {
        let keeper = self.lane(lane).keeper.clone();
        self.tasks.spawn(async move { drop(keeper.refresh().await) });
    }

    /// What a refresh brought that the engine asked for.
    pub(super) fn refreshed(&mut self, lane: LaneId, found: Result<Credential, String>) {
        let is_other = match found {
            Ok(credential) => self.sign_with(lane, credential),
            Err(problem) => {
                self.source_failed(lane, problem);
                false
            }
        };
        if is_other {
            self.credential_fresh(lane);
        } else {
            self.engine.handle(self.now(), Input::RefreshFailed(lane));
        }
    }

    /// Another credential is there, whether anybody waited for it or not.
    pub(super) fn renewed(&mut self, lane: LaneId, loaded: Loaded) {
        let is_first = self.lane(lane).signer.is_none();
        // A worker that starts with the keys refuses such settings. Of keys that come later the first one is used.
        if is_first && let Some(problem) = self.shared_key(lane, &loaded.credential) {
            return self.await_credential(lane, problem);
        }
        let of = self.status.lane(lane);
        of.metrics.shows_credential(loaded.expires_at);
        events::CredentialRenewed { lane: of, expires_at: loaded.expires_at }.record();
        self.lane(lane).source_problem = None;
        if self.sign_with(lane, loaded.credential) {
            self.credential_fresh(lane);
        }
        if is_first {
            self.notice(lane, Notice::Opened);
        }
    }

    /// Why a lane may not use a credential whose key another lane uses, if that is so.
    fn shared_key(&self, lane: LaneId, credential: &Credential) -> Option<String> {
        let open = self.lanes.get(lane.place())?;
        self.lanes.iter().zip(self.status.lanes()).find_map(|(other, of)| {
            let is_same =
                other.signer.as_ref().is_some_and(|signer| signer.credential().secret_id == credential.secret_id);
            let LaneConflict { what, .. } = LaneConflict::by(&open.place(), &other.place()).filter(|_| is_same)?;
            Some(format!("the key is also that of lane {}, and both have {what} (expected another key)", of.name()))
        })
    }

    /// A source gives none, for this reason. Says so once.
    pub(super) fn source_failed(&mut self, lane: LaneId, problem: String) {
        let said = &mut self.lane(lane).source_problem;
        if said.as_ref() != Some(&problem) {
            *said = Some(problem.clone());
            self.outbox.push_back(Said::RefreshFailed(lane, problem));
        }
    }

    /// A source gives again what it gave before.
    pub(super) fn source_works(&mut self, lane: LaneId) {
        if self.lane(lane).source_problem.take().is_some() {
            events::SourceWorks { lane: self.status.lane(lane) }.record();
        }
    }

    /// Signs with this from now on. Says whether it is another one than before.
    fn sign_with(&mut self, lane: LaneId, credential: Credential) -> bool {
        let open = self.lane(lane);
        if open.signer.as_ref().is_some_and(|signer| credential == *signer.credential()) {
            return false;
        }
        open.signer = Some(Signer::new(credential));
        open.generation += 1;
        true
    }
}

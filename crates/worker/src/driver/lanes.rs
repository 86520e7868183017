//! The lanes of a driver: for each one its API sender, its credential, and the account that owns the credential.

use std::collections::BTreeMap;

use imageshare_core::{Class, Credential, ids::AccountId};
use imageshare_engine::{
    io::{CloseReason, Input, LaneId, Notice, Outcome},
    limits::LaneLimits,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::jobs::JobsInHand;
use crate::{
    api::{ApiSender, SharedClock},
    credentials::{Loaded, Newest, OwnedCredential, Owner},
    endpoint::Endpoint,
    events,
    http::{Client, WaitGuard},
    lane::LaneConflict,
    lanes::OpenLane,
};

/// Changes that the driver has not handled yet. A task that has another one waits.
const CHANGES_MAX: usize = 16;

/// The lanes, and the tasks that follow their credentials.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<DrivenLane>,
    sender: mpsc::Sender<CredentialChange>,
    changes: mpsc::Receiver<CredentialChange>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct DrivenLane {
    /// Without a credential until the lane has its first one. It is not consumed before that, so it makes no calls.
    api: ApiSender,
    open: OpenLane,
    /// The account of the credential, as the engine last received it.
    owner: Owner,
    /// The generation of the newest credential that was refused.
    refused: Option<u64>,
    /// Why the source has no credential, as the last event said.
    source_problem: Option<String>,
    /// From the first call without a response to the next one with a response.
    unanswered: Option<WaitGuard>,
}

/// A change of a lane's credential.
#[derive(Debug)]
pub(super) enum CredentialChange {
    /// The cache has another credential.
    Renewed(LaneId, Box<Loaded>),
    /// The credential was loaded again because it was refused: what the source has, or why it has none.
    Refreshed(LaneId, Result<Credential, String>),
    /// More is known of the account of the credential.
    Owner(LaneId),
    /// The source has no credential, for this reason: one printable line. The last credential stays in use.
    SourceFailed(LaneId, String),
    /// The source has the same credential again.
    SourceWorks(LaneId),
}

impl Lanes {
    pub(super) fn new(lanes: &[OpenLane], client: &Client) -> Self {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        // Lanes with the same endpoint share its clock.
        let mut clocks: BTreeMap<Endpoint, SharedClock> = BTreeMap::new();
        let driven = |lane: &OpenLane| {
            let clock = clocks.entry(lane.endpoint.clone()).or_default().clone();
            DrivenLane {
                api: ApiSender::new(client.clone(), lane.endpoint.clone(), clock, lane.credentials.credential()),
                open: lane.clone(),
                owner: Owner::Asked,
                refused: None,
                source_problem: None,
                unanswered: None,
            }
        };
        Self { lanes: lanes.iter().map(driven).collect(), sender, changes, tasks: JoinSet::new() }
    }

    /// Returns the lanes in their order.
    pub(super) fn ids(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..).map(LaneId).take(self.lanes.len())
    }

    /// Returns what the calls of a lane are made with.
    pub(super) fn api(&self, lane: LaneId) -> &ApiSender {
        &self.get(lane).api
    }

    pub(super) fn limits(&self, lane: LaneId) -> LaneLimits {
        self.get(lane).open.limits
    }

    pub(super) fn is_paused(&self, lane: LaneId) -> bool {
        self.get(lane).open.is_paused
    }

    /// Records what an outcome shows of the lane: whether its endpoint gives a response, and a refused credential.
    pub(super) fn record(&mut self, lane: LaneId, outcome: &Outcome, generation: Option<u64>) {
        let DrivenLane { api, refused, unanswered, .. } = self.get_mut(lane);
        if matches!(outcome, Outcome::Unanswered { .. }) {
            unanswered.get_or_insert_with(|| api.wait());
        } else {
            *unanswered = None;
        }
        if matches!(outcome, Outcome::Refused { class: Class::Credential, .. }) {
            *refused = (*refused).max(generation);
        }
    }

    /// Waits for the next change. Cancel safe.
    pub(super) async fn next(&mut self) -> CredentialChange {
        self.changes.recv().await.expect("this holds a sender")
    }

    /// Handles a change.
    pub(super) fn handle<I>(&mut self, change: CredentialChange, jobs: &mut JobsInHand<I>) {
        // The tasks that have ended have sent all their changes.
        while self.tasks.try_join_next().is_some() {}
        match change {
            CredentialChange::Renewed(lane, loaded) => self.renewed(lane, *loaded, jobs),
            CredentialChange::Refreshed(lane, result) => self.refreshed(lane, result, jobs),
            CredentialChange::Owner(lane) => self.read_owner(lane, jobs),
            CredentialChange::SourceFailed(lane, problem) => self.source_failed(lane, problem, jobs),
            CredentialChange::SourceWorks(lane) => {
                if self.get_mut(lane).source_problem.take().is_some() {
                    events::SourceWorks { lane: jobs.status().lane(lane) }.record();
                }
            }
        }
    }

    /// Follows the accounts of the credentials from now on.
    pub(super) fn follow_owners(&mut self) {
        for (id, lane) in (0..).map(LaneId).zip(&self.lanes) {
            self.tasks.spawn(follow_owner(id, lane.open.credentials.identity(), self.sender.clone()));
        }
    }

    /// Follows the accounts of the credentials, and waits for the first result about each, for at most the connect
    /// time-out. Otherwise the report of an early job that names the key's own account would depend on which response
    /// arrives first.
    pub(super) async fn await_owners<I>(&mut self, jobs: &mut JobsInHand<I>) {
        self.follow_owners();
        let identities: Vec<_> = self.lanes.iter().map(|lane| lane.open.credentials.identity()).collect();
        let patience = self.lanes.first().map(|lane| lane.api.time_outs().connect).unwrap_or_default();
        let deadline = Instant::now() + patience;
        for (id, mut identity) in self.ids().zip(identities) {
            let known = timeout_at(deadline, identity.wait_for(|identity| identity.owner != Owner::Asked)).await;
            if known.is_ok() {
                self.read_owner(id, jobs);
            }
        }
    }

    /// Follows the credentials of the lanes from now on. Lanes without one stay closed until there is one.
    pub(super) fn follow_credentials<I>(&mut self, jobs: &mut JobsInHand<I>) {
        for id in self.ids() {
            let mut newest = self.get(id).open.credentials.newest();
            let known = newest.borrow_and_update().clone();
            match known.loaded.clone() {
                None => self.await_credential(id, known.problem.clone().unwrap_or_default(), jobs),
                Some(loaded) if self.api(id).credential().is_none() => self.renewed(id, loaded, jobs),
                Some(loaded) => {
                    jobs.status().lane(id).metrics.shows_credential(loaded.expires_at);
                    // It may have changed since the lane was made.
                    self.api(id).replace_credential(loaded.credential);
                }
            }
            self.tasks.spawn(follow_credential(id, known, newest, self.sender.clone()));
        }
    }

    /// Loads another credential, since the one in use was refused.
    pub(super) fn refresh<I>(&mut self, lane: LaneId, jobs: &mut JobsInHand<I>) {
        let DrivenLane { api, refused, open, .. } = self.get(lane);
        // The credential was replaced after the refused call was signed, so the one in use is not known to be refused.
        if *refused < Some(api.generation()) {
            return self.credential_replaced(lane, jobs);
        }
        let (credentials, sender) = (open.credentials.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let result = credentials.refresh().await;
            drop(sender.send(CredentialChange::Refreshed(lane, result)).await);
        });
    }

    /// Replaces settings of a lane, and loads its credential again. A different credential arrives as
    /// [`CredentialChange::Renewed`].
    pub(super) fn reload(&mut self, lane: LaneId, limits: LaneLimits, is_paused: bool) {
        while self.tasks.try_join_next().is_some() {}
        let OpenLane { config, credentials } = &mut self.get_mut(lane).open;
        (config.limits, config.is_paused) = (limits, is_paused);
        let credentials = credentials.clone();
        self.tasks.spawn(async move { drop(credentials.refresh().await) });
    }

    /// The engine asked for another credential, and its source answered.
    fn refreshed<I>(&mut self, lane: LaneId, result: Result<Credential, String>, jobs: &mut JobsInHand<I>) {
        let is_replaced = match result {
            Ok(credential) => self.api(lane).replace_credential(credential),
            Err(problem) => {
                self.source_failed(lane, problem, jobs);
                false
            }
        };
        if is_replaced {
            self.credential_replaced(lane, jobs);
        } else {
            jobs.handle(Input::RefreshFailed(lane));
        }
    }

    /// The cache of a lane has another credential.
    fn renewed<I>(&mut self, lane: LaneId, loaded: Loaded, jobs: &mut JobsInHand<I>) {
        let is_first = self.api(lane).credential().is_none();
        // If the keys are loaded at startup, such settings are refused. Otherwise the first lane to load the key uses
        // it, and the other one stays closed.
        if is_first && let Some(problem) = self.shared_key(lane, &loaded.credential, jobs) {
            return self.await_credential(lane, problem, jobs);
        }
        let status = jobs.status().lane(lane);
        status.metrics.shows_credential(loaded.expires_at);
        events::CredentialRenewed { lane: status, expires_at: loaded.expires_at }.record();
        self.get_mut(lane).source_problem = None;
        if self.api(lane).replace_credential(loaded.credential) {
            self.credential_replaced(lane, jobs);
        }
        if is_first {
            jobs.notice(lane, Notice::Opened);
        }
    }

    /// Informs the engine that a lane signs with another credential, and of its account as far as that is known.
    fn credential_replaced<I>(&mut self, lane: LaneId, jobs: &mut JobsInHand<I>) {
        jobs.handle(Input::CredentialRefreshed(lane));
        self.read_owner(lane, jobs);
        // A lane whose first key was that of this lane can use it now.
        for id in self.ids() {
            let loaded = self.get(id).open.credentials.newest().borrow().loaded.clone();
            if let Some(loaded) = loaded.filter(|_| self.api(id).credential().is_none())
                && self.shared_key(id, &loaded.credential, jobs).is_none()
            {
                self.renewed(id, loaded, jobs);
            }
        }
    }

    /// Informs the engine of the account of the credential that a lane signs with. If it cannot be identified, the lane
    /// continues without it.
    fn read_owner<I>(&mut self, lane: LaneId, jobs: &mut JobsInHand<I>) {
        let driven = self.get_mut(lane);
        let Some(credential) = driven.api.credential() else { return };
        let owner = driven.open.credentials.owner_of(&credential);
        if owner == Owner::Asked {
            return;
        }
        let before = std::mem::replace(&mut driven.owner, owner.clone());
        let was_unknown = matches!(before, Owner::Unreached(_) | Owner::Unknown(_));
        let news: Option<Result<AccountId, String>> = match &owner {
            Owner::Known(account) => (before != owner).then_some(Ok(*account)),
            Owner::Unreached(reason) | Owner::Unknown(reason) => (!was_unknown).then(|| Err(reason.clone())),
            Owner::Asked => None,
        };
        if let Some(owner) = &news {
            events::OwnerIdentified { lane: jobs.status().lane(lane), owner }.record();
        }
        match owner {
            Owner::Known(account) => jobs.handle(Input::OwnAccount(lane, account)),
            Owner::Unknown(_) => jobs.handle(Input::OwnerUnknown(lane)),
            Owner::Unreached(_) | Owner::Asked => {}
        }
    }

    /// Keeps a lane closed, for this reason, until it has its first credential.
    fn await_credential<I>(&mut self, lane: LaneId, problem: String, jobs: &mut JobsInHand<I>) {
        self.get_mut(lane).source_problem = Some(problem.clone());
        jobs.notice(lane, Notice::Closed { reason: CloseReason::Credential, detail: problem.into() });
    }

    /// The source of a lane has no credential, for this reason. One event reports it.
    fn source_failed<I>(&mut self, lane: LaneId, problem: String, jobs: &mut JobsInHand<I>) {
        let reported = &mut self.get_mut(lane).source_problem;
        if reported.as_ref() != Some(&problem) {
            *reported = Some(problem.clone());
            jobs.credential_failed(lane, problem);
        }
    }

    /// Returns why a lane may not use a credential whose key another lane uses, if that is so.
    fn shared_key<I>(&self, lane: LaneId, credential: &Credential, jobs: &JobsInHand<I>) -> Option<String> {
        let place = self.get(lane).open.place();
        self.lanes.iter().zip(jobs.status().lanes()).find_map(|(other, status)| {
            let is_same = other.api.credential().is_some_and(|key| key.secret_id == credential.secret_id);
            let LaneConflict { what: shared, .. } =
                LaneConflict::by(&place, &other.open.place()).filter(|_| is_same)?;
            let name = status.name();
            Some(format!("the key is also that of lane {name}, and both have {shared} (expected another key)"))
        })
    }

    fn get(&self, lane: LaneId) -> &DrivenLane {
        self.lanes.get(lane.place()).expect("the engine names only lanes of the driver")
    }

    fn get_mut(&mut self, lane: LaneId) -> &mut DrivenLane {
        self.lanes.get_mut(lane.place()).expect("the engine names only lanes of the driver")
    }
}

/// Sends a change for every credential that a cache has after `last`, and one for each new problem of its source.
async fn follow_credential(
    lane: LaneId,
    mut last: Newest,
    mut newest: watch::Receiver<Newest>,
    changes: mpsc::Sender<CredentialChange>,
) {
    while newest.changed().await.is_ok() {
        let next = newest.borrow_and_update().clone();
        let change = match (&next.loaded, &next.problem) {
            (Some(loaded), _) if next.credential() != last.credential() => {
                CredentialChange::Renewed(lane, Box::new(loaded.clone()))
            }
            (_, Some(problem)) => CredentialChange::SourceFailed(lane, problem.clone()),
            (_, None) => CredentialChange::SourceWorks(lane),
        };
        if changes.send(change).await.is_err() {
            return;
        }
        last = next;
    }
}

/// Sends a change whenever more is known of the account of a lane's credential.
async fn follow_owner(
    lane: LaneId,
    mut identity: watch::Receiver<OwnedCredential>,
    changes: mpsc::Sender<CredentialChange>,
) {
    loop {
        identity.mark_unchanged();
        if changes.send(CredentialChange::Owner(lane)).await.is_err() || identity.changed().await.is_err() {
            return;
        }
    }
}

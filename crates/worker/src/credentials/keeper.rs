//! Keeps a credential good: asks its source ahead of the end, and looks whether somebody changed it.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use imageshare_core::{Credential, ids::AccountId};
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{CredentialsError, Loaded, Provider};
use crate::pauses::Renewals;

/// How often files are looked at, at least. Each time half of it passes and a random part of the other half: a file is read
/// on a thread of its own, and a hundred keepers are not to need a hundred threads at once.
const LOOK: Duration = Duration::from_secs(1);

/// How long before its end a credential is renewed, at least.
const AHEAD_MIN: Duration = Duration::from_mins(10);

/// How long the first answer of a source is waited for where the work does not need it at once.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(2);

/// The longest pause between questions to a source that has given no credential yet.
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often it is asked in a row whose a credential is, if nobody answers.
const OWNER_TRIES: u32 = 5;

/// How long after that it is asked again.
const OWNER_AGAIN: Duration = Duration::from_mins(5);

/// The part of its life that is left when it is renewed.
const AHEAD_PART: u32 = 5;

type Asked = Pin<Box<dyn Future<Output = Result<Loaded, CredentialsError>> + Send>>;

/// Keeps one credential, for all who use it. Cheap to clone; it asks as long as anybody has it.
#[derive(Clone)]
pub struct Keeper {
    kept: Arc<Kept>,
    _asking: Option<Arc<Asking>>,
    /// Who is asked whose the credential is.
    identify: Option<Provider>,
    /// The task that asks that, once anybody wants to know.
    learning: Arc<OnceLock<Asking>>,
}

/// What to do if a source gives no credential when it is asked for the first time, and may give one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// It is an error.
    Fail,
    /// Start without a credential, and ask until there is one. The first question takes at most 2 s.
    Wait,
}

/// What is known of a credential.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The last one that the source gave; `None` if it has given none yet.
    pub loaded: Option<Loaded>,
    /// Why it gives none now, if so: one printable line without secrets.
    pub problem: Option<String>,
}

/// Whose a credential is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// It is being asked for.
    #[default]
    Asked,
    /// It is this account's.
    Known(AccountId),
    /// Nobody could be reached yet, for this reason: one printable line without secrets. It is asked again at once.
    Unreached(String),
    /// It cannot be learned, for this reason: one printable line without secrets.
    Unknown(String),
}

/// A credential, and whose it is as far as that is known.
#[derive(Clone, Debug)]
pub struct Identity {
    credential: Option<Credential>,
    /// Whose it is.
    pub owner: Owner,
}

struct Kept {
    ask: Box<dyn Fn() -> Asked + Send + Sync>,
    /// How long an answer of the source may take.
    patience: Duration,
    newest: watch::Sender<Newest>,
    /// Held while the source is asked: one asks, and the others take what it gets. Holds how that ended.
    flight: Mutex<Option<String>>,
    identity: watch::Sender<Identity>,
    /// How often it was asked.
    landed: AtomicU64,
}

/// A task that asks. It ends with the last keeper.
struct Asking(AbortHandle);

impl Keeper {
    /// Asks for a credential, and keeps it. Must be called on the runtime.
    ///
    /// # Errors
    /// If there is none, unless that [can pass](CredentialsError::can_pass) and may be waited for.
    pub async fn start(provider: Provider, if_missing: IfMissing) -> Result<Self, CredentialsError> {
        let (patience, is_on_disk, of) = (provider.patience(), provider.is_on_disk(), provider.clone());
        let ask = move || -> Asked {
            let provider = provider.clone();
            Box::pin(async move { provider.load().await })
        };
        let mut keeper = Self::asking(ask, patience, is_on_disk, if_missing).await?;
        keeper.identify = Some(of);
        keeper.kept.identity.send_modify(|identity| identity.owner = Owner::Asked);
        Ok(keeper)
    }

    /// Keeps what this gives.
    pub(crate) async fn asking(
        ask: impl Fn() -> Asked + Send + Sync + 'static,
        patience: Duration,
        is_on_disk: bool,
        if_missing: IfMissing,
    ) -> Result<Self, CredentialsError> {
        let ask = Box::new(ask);
        let first_patience = match if_missing {
            IfMissing::Fail => patience,
            IfMissing::Wait => patience.min(FIRST_ANSWER_MAX),
        };
        let newest = match once(&*ask, first_patience).await {
            Ok(loaded) => Newest { loaded: Some(loaded), problem: None },
            Err(error) if if_missing == IfMissing::Wait && error.can_pass() => {
                Newest { loaded: None, problem: Some(error.to_string()) }
            }
            Err(error) => return Err(error),
        };
        let kept = Arc::new(Kept::new(ask, patience, newest));
        let asking = tokio::spawn(Arc::clone(&kept).keep_asking(is_on_disk)).abort_handle();
        Ok(Self { kept, _asking: Some(Arc::new(Asking(asking))), identify: None, learning: Arc::default() })
    }

    /// Keeps this one of this account for ever: the sandbox's own.
    #[must_use]
    pub fn fixed(credential: Credential, owner: AccountId) -> Self {
        let loaded = Loaded::lasting(credential, "built in".to_owned());
        let again = loaded.clone();
        let ask = Box::new(move || -> Asked {
            let loaded = again.clone();
            Box::pin(async { Ok(loaded) })
        });
        let kept = Kept::new(ask, Duration::MAX, Newest { loaded: Some(loaded), problem: None });
        kept.identity.send_modify(|identity| identity.owner = Owner::Known(owner));
        Self { kept: Arc::new(kept), _asking: None, identify: None, learning: Arc::default() }
    }

    /// The newest credential; `None` if the source has given none yet.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        self.kept.credential()
    }

    /// The newest credential and what is known of it, now and whenever that changes.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Newest> {
        self.kept.newest.subscribe()
    }

    /// Whose this credential is, as far as that is known by now. One that another took the place of is not asked about any
    /// more.
    #[must_use]
    pub fn owner_of(&self, credential: &Credential) -> Owner {
        let identity = self.kept.identity.borrow();
        if self.identify.is_some() && identity.credential.as_ref() != Some(credential) {
            Owner::Asked
        } else {
            identity.owner.clone()
        }
    }

    /// Whose the newest credential is, now and whenever that changes. It is asked for from the first call of this on. Must
    /// be called on the runtime.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<Identity> {
        if let Some(provider) = &self.identify {
            self.learning.get_or_init(|| {
                let learning = Arc::clone(&self.kept).learn_owner(provider.clone());
                Asking(tokio::spawn(learning).abort_handle())
            });
        }
        self.kept.identity.subscribe()
    }

    /// Asks the source now, or waits for somebody who does. Answers what the source has, which may be what it had before,
    /// or in one printable line without secrets why it has nothing.
    ///
    /// # Errors
    /// If it has nothing. The last credential is kept.
    pub async fn refresh(&self) -> Result<Credential, String> {
        self.kept.refresh().await
    }
}

impl Newest {
    /// The last credential that the source gave.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.loaded.as_ref().map(|loaded| &loaded.credential)
    }
}

impl Kept {
    fn new(ask: Box<dyn Fn() -> Asked + Send + Sync>, patience: Duration, newest: Newest) -> Self {
        let credential = newest.credential().cloned();
        let identity = watch::Sender::new(Identity { credential, owner: Owner::Unknown("nobody asks".to_owned()) });
        let newest = watch::Sender::new(newest);
        Self { ask, patience, newest, flight: Mutex::new(None), identity, landed: AtomicU64::new(0) }
    }

    fn credential(&self) -> Option<Credential> {
        self.newest.borrow().credential().cloned()
    }

    async fn refresh(&self) -> Result<Credential, String> {
        let before = self.landed.load(Ordering::Acquire);
        let mut problem = self.flight.lock().await;
        if self.landed.load(Ordering::Acquire) == before {
            let found = once(&*self.ask, self.patience).await;
            *problem = found.as_ref().err().map(ToString::to_string);
            self.take_in(found.ok(), problem.as_ref());
            self.landed.fetch_add(1, Ordering::Release);
        }
        match &*problem {
            None => Ok(self.credential().expect("a question without a problem brought a credential")),
            Some(problem) => Err(problem.clone()),
        }
    }

    /// Tells those who listen, if there is anything new.
    fn take_in(&self, found: Option<Loaded>, problem: Option<&String>) {
        self.newest.send_if_modified(|newest| {
            // Its end is told anew each time, and not always to the same second.
            let other = found.filter(|loaded| Some(&loaded.credential) != newest.credential());
            let is_new = other.is_some() || newest.problem.as_ref() != problem;
            if other.is_some() {
                newest.loaded = other;
            }
            newest.problem = problem.cloned();
            is_new
        });
    }

    async fn keep_asking(self: Arc<Self>, is_on_disk: bool) {
        let (mut pauses, mut last) = (Renewals::default(), None);
        loop {
            let newest = self.newest.borrow().loaded.clone();
            let pause = match &newest {
                None => Some(pauses.next().min(FIRST_PAUSE_MAX)),
                Some(_) if newest == last => Some(pauses.next()),
                Some(loaded) => {
                    pauses.reset();
                    until_renewal(loaded)
                }
            };
            last = newest;
            match (is_on_disk, pause) {
                (true, _) => sleep(until_look()).await,
                (false, Some(pause)) => sleep(pause).await,
                (false, None) => return,
            }
            // How it ended is told to those who listen.
            drop(self.refresh().await);
        }
    }

    /// Asks whose each credential is, until that is known or refused, or until another one took its place.
    async fn learn_owner(self: Arc<Self>, provider: Provider) {
        let mut newest = self.newest.subscribe();
        loop {
            let credential = newest.borrow_and_update().credential().cloned();
            self.identity.send_replace(Identity { credential: credential.clone(), owner: Owner::Asked });
            let asking = async {
                if let Some(credential) = &credential {
                    self.identify(&provider, credential).await;
                }
            };
            let mut replaced =
                pin!(async { newest.wait_for(|newest| newest.credential() != credential.as_ref()).await.is_ok() });
            let is_replaced = tokio::select! {
                is_replaced = &mut replaced => is_replaced,
                () = asking => replaced.await,
            };
            if !is_replaced {
                return;
            }
        }
    }

    /// Asks whose a credential is. Where nobody can be reached it is asked again; a refusal is the last word.
    async fn identify(&self, provider: &Provider, credential: &Credential) {
        let tell = |owner| self.identity.send_modify(|identity| identity.owner = owner);
        let (mut pauses, mut tried) = (Renewals::default(), 0);
        loop {
            match provider.identify(credential.clone()).await {
                Ok(identity) => return tell(Owner::Known(identity.account_id)),
                Err(error) if !error.is_out_of_reach() => return tell(Owner::Unknown(error.to_string())),
                Err(error) => {
                    tried += 1;
                    let is_over = tried >= OWNER_TRIES;
                    tell(if is_over { Owner::Unknown(error.to_string()) } else { Owner::Unreached(error.to_string()) });
                    sleep(if is_over { OWNER_AGAIN } else { pauses.next() }).await;
                }
            }
        }
    }
}

/// Asks once. A bug in a source ends nothing else.
async fn once(ask: &(dyn Fn() -> Asked + Send + Sync), patience: Duration) -> Result<Loaded, CredentialsError> {
    let mut asked = tokio::spawn(ask());
    match timeout(patience, &mut asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err(CredentialsError::BrokeDown),
        Err(_) => {
            asked.abort();
            Err(CredentialsError::Slow { after: patience })
        }
    }
}

/// How long until files are looked at again.
fn until_look() -> Duration {
    let part = RandomState::new().hash_one(()) % 1000;
    LOOK / 2 + LOOK / 2 * u32::try_from(part).unwrap_or_default() / 1000
}

/// How long until a credential that was just given is to be renewed; `None` if it has no end. A fifth of its life is to be
/// left, and no less than ten minutes, but where it does not live so long, half of it. One that is at its end already
/// leaves time to be given another one.
fn until_renewal(loaded: &Loaded) -> Option<Duration> {
    let life = loaded.expires_at?.duration_since(SystemTime::now()).unwrap_or_default();
    let ahead = (life / AHEAD_PART).max(AHEAD_MIN).min(life / 2);
    Some(life.saturating_sub(ahead).max(LOOK))
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Keeper {
    /// Shows neither key nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("newest", &*self.kept.newest.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::atomic::AtomicU32};

    use tokio::time::Instant;

    use super::*;
    use crate::{
        credentials::Source,
        environment::Environment,
        http::{Client, TimeOuts},
    };

    const PATIENCE: Duration = Duration::from_secs(10);

    fn loaded(number: u32, life: Option<Duration>) -> Loaded {
        let credential = Credential {
            secret_id: format!("AKID{number}").parse().unwrap(),
            secret_key: "topsecret".parse().unwrap(),
            token: None,
        };
        Loaded { credential, origin: "test".into(), expires_at: life.map(|life| SystemTime::now() + life) }
    }

    /// A keeper whose source numbers what it gives, and how often it was asked.
    async fn numbered(
        life: Option<Duration>,
        give: impl Fn(u32) -> Result<u32, CredentialsError> + Send + Sync + 'static,
    ) -> (Keeper, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let ask = move || -> Asked {
            let given = give(count.fetch_add(1, Ordering::SeqCst)).map(|number| loaded(number, life));
            Box::pin(async move { given })
        };
        (Keeper::asking(ask, PATIENCE, false, IfMissing::Wait).await.unwrap(), asked)
    }

    fn id(keeper: &Keeper) -> String {
        keeper.credential().unwrap().secret_id.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_is_renewed_ahead_of_its_end() {
        for (life, ahead) in [(43_200, 8_640), (3_600, 720), (2_000, 600), (1_200, 600), (60, 30)] {
            let (keeper, _) = numbered(Some(Duration::from_secs(life)), Ok).await;
            let (begun, mut newest) = (Instant::now(), keeper.newest());
            newest.changed().await.unwrap();
            assert_eq!(id(&keeper), "AKID1");
            let took = begun.elapsed().as_secs();
            assert!((life - ahead - 1..=life - ahead).contains(&took), "{life}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_is_asked_again_with_growing_pauses_and_said_once() {
        let fails = |number| match number {
            1..5 => Err(CredentialsError::BrokeDown),
            number => Ok(number),
        };
        let (keeper, asked) = numbered(Some(Duration::from_secs(3_600)), fails).await;
        let mut newest = keeper.newest();
        newest.changed().await.unwrap();
        let problem = newest.borrow_and_update().problem.clone();
        assert_eq!((problem.as_deref(), id(&keeper)), (Some("the credential's source broke down"), "AKID0".into()));
        let begun = Instant::now();
        newest.changed().await.unwrap();
        assert_eq!((newest.borrow().problem.clone(), id(&keeper)), (None, "AKID5".into()));
        assert_eq!(asked.load(Ordering::SeqCst), 6);
        let took = begun.elapsed();
        assert!(Duration::from_secs(7) <= took && took <= Duration::from_secs(24), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_source_is_waited_for_in_the_background() {
        let begun = Instant::now();
        let ask = move || -> Asked {
            Box::pin(async move {
                sleep(if begun.elapsed() < Duration::from_mins(1) { PATIENCE * 2 } else { FIRST_ANSWER_MAX * 2 }).await;
                Ok(loaded(1, None))
            })
        };
        let keeper = Keeper::asking(ask, PATIENCE, false, IfMissing::Wait).await.unwrap();
        assert_eq!((begun.elapsed(), keeper.credential()), (FIRST_ANSWER_MAX, None));
        keeper.newest().wait_for(|newest| newest.loaded.is_some()).await.unwrap();
        assert_eq!(id(&keeper), "AKID1");
        let latest = Duration::from_mins(1) + PATIENCE + FIRST_PAUSE_MAX + FIRST_ANSWER_MAX * 2;
        assert!(begun.elapsed() <= latest, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_without_an_end_is_asked_for_when_somebody_wants_it_only() {
        let (keeper, asked) = numbered(None, Ok).await;
        sleep(Duration::from_hours(1_000)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(keeper.refresh().await.unwrap().secret_id.as_str(), "AKID1");
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_question() {
        let (release, wait) = watch::channel(false);
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let ask = move || -> Asked {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let mut wait = wait.clone();
            Box::pin(async move {
                if number > 0 {
                    wait.wait_for(|released| *released).await.unwrap();
                }
                Ok(loaded(number, None))
            })
        };
        let keeper = Keeper::asking(ask, PATIENCE, false, IfMissing::Fail).await.unwrap();
        let all: Vec<_> = (0..10)
            .map(|_| {
                let keeper = keeper.clone();
                tokio::spawn(async move { keeper.refresh().await.unwrap().secret_id.to_string() })
            })
            .collect();
        while asked.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // All of them have come to wait.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        release.send(true).unwrap();
        for one in all {
            assert_eq!(one.await.unwrap(), "AKID1");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes_and_half_of_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let whole = |id: &str| format!(r#"{{"secret_id": "{id}", "secret_key": "topsecret"}}"#);
        let endpoint = "http://127.0.0.1:1".parse().unwrap();
        let client = Client::new(TimeOuts::default()).unwrap();
        let source = Source::File { path: path.clone() };
        let provider = Provider::new(source, Environment::of([]), client, &endpoint);
        assert!(Keeper::start(provider.clone(), IfMissing::Fail).await.is_err());
        let keeper = Keeper::start(provider, IfMissing::Wait).await.unwrap();
        let mut newest = keeper.newest();
        let problem = newest.borrow().problem.clone().unwrap();
        assert!(problem.contains("No such file") && keeper.credential().is_none(), "{problem}");
        fs::write(&path, whole("AKIDone")).unwrap();
        newest.changed().await.unwrap();
        assert_eq!((id(&keeper), newest.borrow_and_update().problem.clone()), ("AKIDone".into(), None));
        fs::write(&path, whole("AKIDtwo")).unwrap();
        newest.changed().await.unwrap();
        assert_eq!((id(&keeper), newest.borrow_and_update().problem.clone()), ("AKIDtwo".into(), None));
        fs::write(&path, whole("AKIDthree").get(..30).unwrap()).unwrap();
        newest.changed().await.unwrap();
        let problem = newest.borrow_and_update().problem.clone().unwrap();
        assert!(problem.contains("found only the beginning"), "{problem}");
        assert_eq!(id(&keeper), "AKIDtwo");
        fs::write(&path, whole("AKIDthree")).unwrap();
        newest.changed().await.unwrap();
        assert_eq!((id(&keeper), newest.borrow().problem.clone()), ("AKIDthree".into(), None));
        assert!(!format!("{keeper:?}").contains("topsecret"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_credential_stays_what_it_is() {
        let keeper = Keeper::fixed(loaded(7, None).credential, "100009999999".parse().unwrap());
        assert_eq!(keeper.refresh().await.ok(), keeper.credential());
        assert!(!format!("{keeper:?}").contains("topsecret"));
    }
}

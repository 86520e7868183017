//! The cache of a credential: renews it before it expires, and re-reads files that may have changed.

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
use crate::pauses::Pauses;

/// The longest time between two reads of a file. Each time half of it passes and a random part of the other half: a file
/// is read on a thread of its own, and a hundred caches must not need a hundred threads at once.
const REREAD: Duration = Duration::from_secs(1);

/// The shortest time before its end at which a credential is renewed.
const AHEAD_MIN: Duration = Duration::from_mins(10);

/// How long a worker waits at its start for the first credential of a source.
const FIRST_LOAD_MAX: Duration = Duration::from_secs(2);

/// The longest pause between loads from a source that has given no credential yet.
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Requests in a row for the account of a credential, if STS cannot be reached.
const OWNER_TRIES: u32 = 5;

/// The pause after them.
const OWNER_AGAIN: Duration = Duration::from_mins(5);

/// The part of its lifetime that is left when it is renewed: a fifth.
const AHEAD_PART: u32 = 5;

type Load = Pin<Box<dyn Future<Output = Result<Loaded, CredentialsError>> + Send>>;

/// The credential of one source, for all lanes that use it. Clones share it. It is renewed until the last clone is dropped.
#[derive(Clone)]
pub struct CredentialCache {
    state: Arc<CacheState>,
    _renewing: Option<Arc<AbortOnDrop>>,
    /// Identifies the account of a credential; `None` if that is fixed.
    identify: Option<Provider>,
    /// The task that does, from the first call of [`identity`](Self::identity) on.
    identifying: Arc<OnceLock<AbortOnDrop>>,
}

/// What to do if a source has no credential at first, and may have one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// It is an error.
    Fail,
    /// Start without a credential, and load until there is one. The first load takes at most 2 s.
    Wait,
}

/// The newest credential of a source.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The last credential that was loaded; `None` before the first one.
    pub loaded: Option<Loaded>,
    /// Why the last load failed, if it did: one printable line without secrets.
    pub problem: Option<String>,
}

/// The account that a credential belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// No response yet.
    #[default]
    Asked,
    /// This account.
    Known(AccountId),
    /// STS could not be reached yet, for this reason: one printable line without secrets. The request is repeated.
    Unreached(String),
    /// It cannot be identified, for this reason: one printable line without secrets.
    Unknown(String),
}

/// A credential and the account that it belongs to.
#[derive(Clone, Debug)]
pub struct OwnedCredential {
    credential: Option<Credential>,
    /// The account.
    pub owner: Owner,
}

struct CacheState {
    load: Box<dyn Fn() -> Load + Send + Sync>,
    /// How long a load may take.
    patience: Duration,
    newest: watch::Sender<Newest>,
    /// Held during a load: one caller loads, and the others take its result. Holds the problem of the last load.
    loading: Mutex<Option<String>>,
    identity: watch::Sender<OwnedCredential>,
    /// How often it was loaded.
    loads: AtomicU64,
}

/// A task that ends with its last user.
struct AbortOnDrop(AbortHandle);

impl CredentialCache {
    /// Loads a credential, and renews it from then on. Must be called on the runtime.
    ///
    /// # Errors
    /// If the source has none, unless that [can pass](CredentialsError::can_pass) and may be waited for.
    pub async fn start(provider: Provider, if_missing: IfMissing) -> Result<Self, CredentialsError> {
        let (patience, is_on_disk, of) = (provider.patience(), provider.is_on_disk(), provider.clone());
        let load = move || -> Load {
            let provider = provider.clone();
            Box::pin(async move { provider.load().await })
        };
        let mut cache = Self::by(load, patience, is_on_disk, if_missing).await?;
        cache.identify = Some(of);
        cache.state.identity.send_modify(|identity| identity.owner = Owner::Asked);
        Ok(cache)
    }

    /// Caches what a function loads.
    pub(crate) async fn by(
        load: impl Fn() -> Load + Send + Sync + 'static,
        patience: Duration,
        is_on_disk: bool,
        if_missing: IfMissing,
    ) -> Result<Self, CredentialsError> {
        let load = Box::new(load);
        let first_patience = match if_missing {
            IfMissing::Fail => patience,
            IfMissing::Wait => patience.min(FIRST_LOAD_MAX),
        };
        let newest = match load_once(&*load, first_patience).await {
            Ok(loaded) => Newest { loaded: Some(loaded), problem: None },
            Err(error) if if_missing == IfMissing::Wait && error.can_pass() => {
                Newest { loaded: None, problem: Some(error.to_string()) }
            }
            Err(error) => return Err(error),
        };
        let state = Arc::new(CacheState::new(load, patience, newest));
        let renewing = AbortOnDrop(tokio::spawn(Arc::clone(&state).keep_renewing(is_on_disk)).abort_handle());
        Ok(Self { state, _renewing: Some(Arc::new(renewing)), identify: None, identifying: Arc::default() })
    }

    /// Returns the cache of a credential that never changes, of this account: the sandbox's own.
    #[must_use]
    pub fn fixed(credential: Credential, owner: AccountId) -> Self {
        let loaded = Loaded::lasting(credential, "built in".to_owned());
        let again = loaded.clone();
        let load = Box::new(move || -> Load {
            let loaded = again.clone();
            Box::pin(async { Ok(loaded) })
        });
        let state = CacheState::new(load, Duration::MAX, Newest { loaded: Some(loaded), problem: None });
        state.identity.send_modify(|identity| identity.owner = Owner::Known(owner));
        Self { state: Arc::new(state), _renewing: None, identify: None, identifying: Arc::default() }
    }

    /// Returns the newest credential; `None` before the first one.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        self.state.credential()
    }

    /// Returns the newest credential, now and whenever it changes.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Newest> {
        self.state.newest.subscribe()
    }

    /// Returns the account of a credential, as far as it is known by now. A credential that was replaced is not identified
    /// any more.
    #[must_use]
    pub fn owner_of(&self, credential: &Credential) -> Owner {
        let identity = self.state.identity.borrow();
        if self.identify.is_some() && identity.credential.as_ref() != Some(credential) {
            Owner::Asked
        } else {
            identity.owner.clone()
        }
    }

    /// Returns the account of the newest credential, now and whenever it changes. STS is asked from the first call of this
    /// on. Must be called on the runtime.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<OwnedCredential> {
        if let Some(provider) = &self.identify {
            self.identifying.get_or_init(|| {
                let identifying = Arc::clone(&self.state).keep_identifying(provider.clone());
                AbortOnDrop(tokio::spawn(identifying).abort_handle())
            });
        }
        self.state.identity.subscribe()
    }

    /// Loads the credential now, or waits for a load that is under way. Returns what the source has, which may be the same
    /// credential as before.
    ///
    /// # Errors
    /// Why the source has none: one printable line without secrets. The last credential is kept.
    pub async fn refresh(&self) -> Result<Credential, String> {
        self.state.refresh().await
    }
}

impl Newest {
    /// Returns the last credential that was loaded.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.loaded.as_ref().map(|loaded| &loaded.credential)
    }
}

impl CacheState {
    fn new(load: Box<dyn Fn() -> Load + Send + Sync>, patience: Duration, newest: Newest) -> Self {
        let credential = newest.credential().cloned();
        let identity =
            watch::Sender::new(OwnedCredential { credential, owner: Owner::Unknown("not requested".to_owned()) });
        let newest = watch::Sender::new(newest);
        Self { load, patience, newest, loading: Mutex::new(None), identity, loads: AtomicU64::new(0) }
    }

    fn credential(&self) -> Option<Credential> {
        self.newest.borrow().credential().cloned()
    }

    async fn refresh(&self) -> Result<Credential, String> {
        let before = self.loads.load(Ordering::Acquire);
        let mut problem = self.loading.lock().await;
        if self.loads.load(Ordering::Acquire) == before {
            let result = load_once(&*self.load, self.patience).await;
            *problem = result.as_ref().err().map(ToString::to_string);
            self.publish(result.ok(), problem.as_ref());
            self.loads.fetch_add(1, Ordering::Release);
        }
        match &*problem {
            None => Ok(self.credential().expect("a load without a problem brought a credential")),
            Some(problem) => Err(problem.clone()),
        }
    }

    /// Publishes the result of a load, if it differs from the one before.
    fn publish(&self, loaded: Option<Loaded>, problem: Option<&String>) {
        self.newest.send_if_modified(|newest| {
            // The time at which it expires may differ by a second at each load.
            let other = loaded.filter(|loaded| Some(&loaded.credential) != newest.credential());
            let is_new = other.is_some() || newest.problem.as_ref() != problem;
            if other.is_some() {
                newest.loaded = other;
            }
            newest.problem = problem.cloned();
            is_new
        });
    }

    async fn keep_renewing(self: Arc<Self>, is_on_disk: bool) {
        let (mut pauses, mut last) = (Pauses::between_loads(), None);
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
                (true, _) => sleep(until_reread()).await,
                (false, Some(pause)) => sleep(pause).await,
                (false, None) => return,
            }
            // The result is published.
            drop(self.refresh().await);
        }
    }

    /// Identifies the account of each credential, until that is known or refused, or the credential is replaced.
    async fn keep_identifying(self: Arc<Self>, provider: Provider) {
        let mut newest = self.newest.subscribe();
        loop {
            let credential = newest.borrow_and_update().credential().cloned();
            self.identity.send_replace(OwnedCredential { credential: credential.clone(), owner: Owner::Asked });
            let identifying = async {
                if let Some(credential) = &credential {
                    self.identify(&provider, credential).await;
                }
            };
            let mut replaced =
                pin!(async { newest.wait_for(|newest| newest.credential() != credential.as_ref()).await.is_ok() });
            let is_replaced = tokio::select! {
                is_replaced = &mut replaced => is_replaced,
                () = identifying => replaced.await,
            };
            if !is_replaced {
                return;
            }
        }
    }

    /// Identifies the account of a credential. The request is repeated while STS cannot be reached; a refusal is final.
    async fn identify(&self, provider: &Provider, credential: &Credential) {
        let publish = |owner| self.identity.send_modify(|identity| identity.owner = owner);
        let (mut pauses, mut tried) = (Pauses::between_loads(), 0);
        loop {
            match provider.identify(credential.clone()).await {
                Ok(identity) => return publish(Owner::Known(identity.account_id)),
                Err(error) if !error.is_out_of_reach() => return publish(Owner::Unknown(error.to_string())),
                Err(error) => {
                    tried += 1;
                    let is_over = tried >= OWNER_TRIES;
                    let owner = if is_over { Owner::Unknown } else { Owner::Unreached };
                    publish(owner(error.to_string()));
                    sleep(if is_over { OWNER_AGAIN } else { pauses.next() }).await;
                }
            }
        }
    }
}

/// Loads once, in a task, so that a bug in a source ends nothing else.
async fn load_once(load: &(dyn Fn() -> Load + Send + Sync), patience: Duration) -> Result<Loaded, CredentialsError> {
    let mut task = tokio::spawn(load());
    match timeout(patience, &mut task).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(CredentialsError::BrokeDown),
        Err(_) => {
            task.abort();
            Err(CredentialsError::Slow { after: patience })
        }
    }
}

/// Returns how long until files are read again.
fn until_reread() -> Duration {
    let part = RandomState::new().hash_one(()) % 1000;
    REREAD / 2 + REREAD / 2 * u32::try_from(part).unwrap_or_default() / 1000
}

/// Returns how long until a credential that was just loaded must be renewed; `None` if it does not expire. A fifth of its
/// lifetime is left then, and at least ten minutes, but at most half of it. For one that has expired already it is
/// [`REREAD`], so that a source cannot make this loop spin.
fn until_renewal(loaded: &Loaded) -> Option<Duration> {
    let life = loaded.expires_at?.duration_since(SystemTime::now()).unwrap_or_default();
    let ahead = (life / AHEAD_PART).max(AHEAD_MIN).min(life / 2);
    Some(life.saturating_sub(ahead).max(REREAD))
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for CredentialCache {
    /// Shows neither key nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache").field("newest", &*self.state.newest.borrow()).finish_non_exhaustive()
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

    /// A cache whose source numbers its credentials, and how often it was loaded.
    async fn numbered(
        life: Option<Duration>,
        give: impl Fn(u32) -> Result<u32, CredentialsError> + Send + Sync + 'static,
    ) -> (CredentialCache, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let ask = move || -> Load {
            let given = give(count.fetch_add(1, Ordering::SeqCst)).map(|number| loaded(number, life));
            Box::pin(async move { given })
        };
        (CredentialCache::by(ask, PATIENCE, false, IfMissing::Wait).await.unwrap(), asked)
    }

    fn id(cache: &CredentialCache) -> String {
        cache.credential().unwrap().secret_id.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn credential_is_renewed_before_it_expires() {
        for (life, ahead) in [(43_200, 8_640), (3_600, 720), (2_000, 600), (1_200, 600), (60, 30)] {
            let (cache, _) = numbered(Some(Duration::from_secs(life)), Ok).await;
            let (begun, mut newest) = (Instant::now(), cache.newest());
            newest.changed().await.unwrap();
            assert_eq!(id(&cache), "AKID1");
            let took = begun.elapsed().as_secs();
            assert!((life - ahead - 1..=life - ahead).contains(&took), "{life}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failing_source_is_loaded_with_growing_pauses() {
        let fails = |number| match number {
            1..5 => Err(CredentialsError::BrokeDown),
            number => Ok(number),
        };
        let (cache, asked) = numbered(Some(Duration::from_secs(3_600)), fails).await;
        let mut newest = cache.newest();
        newest.changed().await.unwrap();
        let problem = newest.borrow_and_update().problem.clone();
        assert_eq!((problem.as_deref(), id(&cache)), (Some("the credential's source broke down"), "AKID0".into()));
        let begun = Instant::now();
        newest.changed().await.unwrap();
        assert_eq!((newest.borrow().problem.clone(), id(&cache)), (None, "AKID5".into()));
        assert_eq!(asked.load(Ordering::SeqCst), 6);
        let took = begun.elapsed();
        assert!(Duration::from_secs(7) <= took && took <= Duration::from_secs(24), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_source_is_waited_for_in_background() {
        let begun = Instant::now();
        let ask = move || -> Load {
            Box::pin(async move {
                sleep(if begun.elapsed() < Duration::from_mins(1) { PATIENCE * 2 } else { FIRST_LOAD_MAX * 2 }).await;
                Ok(loaded(1, None))
            })
        };
        let cache = CredentialCache::by(ask, PATIENCE, false, IfMissing::Wait).await.unwrap();
        assert_eq!((begun.elapsed(), cache.credential()), (FIRST_LOAD_MAX, None));
        cache.newest().wait_for(|newest| newest.loaded.is_some()).await.unwrap();
        assert_eq!(id(&cache), "AKID1");
        let latest = Duration::from_mins(1) + PATIENCE + FIRST_PAUSE_MAX + FIRST_LOAD_MAX * 2;
        assert!(begun.elapsed() <= latest, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_credential_is_loaded_on_request_only() {
        let (cache, asked) = numbered(None, Ok).await;
        sleep(Duration::from_hours(1_000)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(cache.refresh().await.unwrap().secret_id.as_str(), "AKID1");
    }

    #[tokio::test]
    async fn concurrent_refreshes_share_one_load() {
        let (release, wait) = watch::channel(false);
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let ask = move || -> Load {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let mut wait = wait.clone();
            Box::pin(async move {
                if number > 0 {
                    wait.wait_for(|released| *released).await.unwrap();
                }
                Ok(loaded(number, None))
            })
        };
        let cache = CredentialCache::by(ask, PATIENCE, false, IfMissing::Fail).await.unwrap();
        let all: Vec<_> = (0..10)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.refresh().await.unwrap().secret_id.to_string() })
            })
            .collect();
        while asked.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // All of them wait by now.
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
    async fn changed_file_is_reread_unless_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let whole = |id: &str| format!(r#"{{"secret_id": "{id}", "secret_key": "topsecret"}}"#);
        let endpoint = "http://127.0.0.1:1".parse().unwrap();
        let client = Client::new(TimeOuts::default()).unwrap();
        let source = Source::File { path: path.clone() };
        let provider = Provider::new(source, Environment::of([]), client, &endpoint);
        assert!(CredentialCache::start(provider.clone(), IfMissing::Fail).await.is_err());
        let cache = CredentialCache::start(provider, IfMissing::Wait).await.unwrap();
        let mut newest = cache.newest();
        let problem = newest.borrow().problem.clone().unwrap();
        assert!(problem.contains("No such file") && cache.credential().is_none(), "{problem}");
        fs::write(&path, whole("AKIDone")).unwrap();
        newest.changed().await.unwrap();
        assert_eq!((id(&cache), newest.borrow_and_update().problem.clone()), ("AKIDone".into(), None));
        fs::write(&path, whole("AKIDtwo")).unwrap();
        newest.changed().await.unwrap();
        assert_eq!((id(&cache), newest.borrow_and_update().problem.clone()), ("AKIDtwo".into(), None));
        fs::write(&path, whole("AKIDthree").get(..30).unwrap()).unwrap();
        newest.changed().await.unwrap();
        let problem = newest.borrow_and_update().problem.clone().unwrap();
        assert!(problem.contains("incomplete JSON"), "{problem}");
        assert_eq!(id(&cache), "AKIDtwo");
        fs::write(&path, whole("AKIDthree")).unwrap();
        newest.changed().await.unwrap();
        assert_eq!((id(&cache), newest.borrow().problem.clone()), ("AKIDthree".into(), None));
        assert!(!format!("{cache:?}").contains("topsecret"));
    }

    #[tokio::test(start_paused = true)]
    async fn fixed_credential_never_changes() {
        let cache = CredentialCache::fixed(loaded(7, None).credential, "100009999999".parse().unwrap());
        assert_eq!(cache.refresh().await.ok(), cache.credential());
        assert!(!format!("{cache:?}").contains("topsecret"));
    }
}

//! Name lookups. Each blocks a thread for as long as the name servers are silent, so a few run at a time, and callers that
//! look up the same name share one.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::Instant,
};

/// Lookups at once. A lookup without a caller counts until it ends, because its thread is blocked all the same.
const LOOKUPS_MAX: usize = 4;

/// How long addresses are cached. A resolver whose first server is silent takes 5 s or more: without a cache, a caller with
/// less patience would begin the same lookup again and again and never receive its result.
const CACHED: Duration = Duration::from_secs(10);

/// The same if no caller had the patience: longer than any pause before the next try.
const KEPT: Duration = Duration::from_secs(90);

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The system's resolver failed.
    #[error("{0}")]
    Resolver(Arc<io::Error>),
    /// No result in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimeOut(Duration),
    /// The task of the lookup broke down.
    #[error("the lookup broke down")]
    BrokeDown,
}

type LookupResult = Result<Vec<IpAddr>, LookupError>;

/// Empty until the lookup has ended; then its result, and until when it is usable.
type Pending = watch::Receiver<Option<(Instant, LookupResult)>>;

/// Looks up names. Clones share everything.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Arc<Lookup>,
    room: Arc<Semaphore>,
    /// By name. The names of a process are those of its settings, so there are few.
    pending: Arc<Mutex<HashMap<String, Pending>>>,
}

impl Resolver {
    /// Returns a resolver by a function that may block.
    pub(super) fn by(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), room: Arc::new(Semaphore::new(LOOKUPS_MAX)), pending: Arc::default() }
    }

    /// Returns the system's resolver.
    pub(super) fn system() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Returns the addresses of a name.
    ///
    /// # Errors
    /// If it has none, or the lookup failed.
    pub(super) async fn lookup(&self, name: &str) -> LookupResult {
        let mut pending = self.pending(name);
        match pending.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((_, result))) => result.clone(),
            _ => Err(LookupError::BrokeDown),
        }
    }

    /// Returns the lookup of a name that is under way or whose addresses are cached, or begins one.
    fn pending(&self, name: &str) -> Pending {
        let is_usable = |pending: &Pending| match &*pending.borrow() {
            None => pending.has_changed().is_ok(),
            Some((until, result)) => result.is_ok() && Instant::now() < *until,
        };
        let mut all = self.pending.lock();
        all.retain(|_, pending| is_usable(pending));
        let begin = || {
            let (sender, receiver) = watch::channel(None);
            tokio::spawn(self.clone().run(name.to_owned(), sender));
            receiver
        };
        all.entry(name.to_owned()).or_insert_with(begin).clone()
    }

    async fn run(self, name: String, sender: watch::Sender<Option<(Instant, LookupResult)>>) {
        let Self { lookup, room, .. } = self;
        let Ok(_place) = room.acquire().await else { return };
        let Ok(result) = spawn_blocking(move || lookup(&name)).await else { return };
        let result = result.map_err(|error| LookupError::Resolver(Arc::new(error)));
        // One receiver is in the cache.
        let usable = if sender.receiver_count() > 1 { CACHED } else { KEPT };
        sender.send_replace(Some((Instant::now() + usable, result)));
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{
            Condvar, Mutex as StdMutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::time::timeout;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A resolver that is silent until it is opened, and the number of its lookups.
    struct Gated {
        resolver: Resolver,
        count: Arc<AtomicUsize>,
        gate: Arc<(StdMutex<bool>, Condvar)>,
    }

    impl Gated {
        fn silent() -> Self {
            let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new((StdMutex::new(false), Condvar::new())));
            let (counted, silent) = (Arc::clone(&count), Arc::clone(&gate));
            let resolver = Resolver::by(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                let is_open = silent.0.lock().unwrap();
                drop(silent.1.wait_while(is_open, |is_open| !*is_open).unwrap());
                Ok(vec![LOCAL])
            });
            Self { resolver, count, gate }
        }

        fn open(&self) {
            *self.gate.0.lock().unwrap() = true;
            self.gate.1.notify_all();
        }

        async fn is_answered_soon(&self, name: &str) -> bool {
            timeout(Duration::from_millis(50), self.resolver.lookup(name)).await.is_ok()
        }
    }

    #[tokio::test]
    async fn silent_name_servers_block_few_threads() {
        let gated = Gated::silent();
        for number in 0..20 {
            assert!(!gated.is_answered_soon(&format!("api-{number}.example")).await);
        }
        assert_eq!(gated.count.load(Ordering::SeqCst), LOOKUPS_MAX);
        gated.open();
        assert_eq!(gated.resolver.lookup("api.example").await.unwrap(), [LOCAL]);
    }

    #[tokio::test]
    async fn late_answer_serves_the_next_caller() {
        let gated = Gated::silent();
        for _ in 0..3 {
            assert!(!gated.is_answered_soon("api.example").await);
        }
        gated.open();
        for _ in 0..3 {
            assert_eq!(gated.resolver.lookup("api.example").await.unwrap(), [LOCAL]);
        }
        assert_eq!(gated.count.load(Ordering::SeqCst), 1, "one lookup serves all");
    }

    #[tokio::test]
    async fn late_result_is_kept_for_the_next_try() {
        let gated = Gated::silent();
        assert!(!gated.is_answered_soon("api.example").await);
        gated.open();
        while !gated.resolver.pending.lock().values().all(|pending| pending.borrow().is_some()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        gated.resolver.lookup("api.example").await.unwrap();
        assert_eq!(gated.count.load(Ordering::SeqCst), 1, "a probe a minute later uses it");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_cached_and_failures_are_not() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let resolver = Resolver::by(move |name| {
            counted.fetch_add(1, Ordering::SeqCst);
            if name == "good.example" { Ok(vec![LOCAL]) } else { Err(io::Error::other("no such name")) }
        });
        for _ in 0..2 {
            let error = resolver.lookup("bad.example").await.unwrap_err();
            assert!(matches!(&error, LookupError::Resolver(_)) && error.to_string() == "no such name", "{error:?}");
        }
        assert_eq!(count.swap(0, Ordering::SeqCst), 2);
        for _ in 0..2 {
            resolver.lookup("good.example").await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        tokio::time::advance(CACHED).await;
        resolver.lookup("good.example").await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}

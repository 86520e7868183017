//! Name lookups. Each blocks a thread for as long as the name servers are silent, so a few run at a time, and callers that
//! ask for the same name share one.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::Instant,
};

/// Lookups at once. One that no caller waits for any more counts until it ends: its thread is blocked all the same.
const LOOKUPS_MAX: usize = 4;

/// How long an answer is used. A resolver whose first server is silent takes 5 s or more: without this, a caller with less
/// patience would begin the same lookup again and again and never see its answer.
const KEPT: Duration = Duration::from_secs(10);

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The addresses, or the resolver's words.
type Answer = Result<Vec<IpAddr>, String>;

/// Empty until the lookup has ended; then its answer, and when it came.
type Pending = watch::Receiver<Option<(Instant, Answer)>>;

/// Looks up names. Clones share everything.
#[derive(Clone)]
pub(super) struct Names {
    lookup: Arc<Lookup>,
    room: Arc<Semaphore>,
    /// By name. The names of a process are those of its settings, so there are few.
    pending: Arc<Mutex<HashMap<String, Pending>>>,
}

impl Names {
    /// Looks up names with a function that may block.
    pub(super) fn by(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), room: Arc::new(Semaphore::new(LOOKUPS_MAX)), pending: Arc::default() }
    }

    /// Looks up names as the system does.
    pub(super) fn of_system() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Returns the addresses of a name.
    ///
    /// # Errors
    /// With the resolver's words, if it has none.
    pub(super) async fn lookup(&self, name: &str) -> Answer {
        let mut pending = self.pending(name);
        let answered = pending.wait_for(Option::is_some).await;
        match answered.as_deref() {
            Ok(Some((_, answer))) => answer.clone(),
            _ => Err("the lookup failed".to_owned()),
        }
    }

    /// Returns the lookup of a name that is under way or has just ended well, or begins one.
    fn pending(&self, name: &str) -> Pending {
        let is_usable = |pending: &Pending| match &*pending.borrow() {
            None => pending.has_changed().is_ok(),
            Some((at, answer)) => answer.is_ok() && at.elapsed() < KEPT,
        };
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, pending| is_usable(pending));
        let begin = || {
            let (sender, receiver) = watch::channel(None);
            tokio::spawn(self.clone().answer(name.to_owned(), sender));
            receiver
        };
        all.entry(name.to_owned()).or_insert_with(begin).clone()
    }

    async fn answer(self, name: String, sender: watch::Sender<Option<(Instant, Answer)>>) {
        let Self { lookup, room, .. } = self;
        let Ok(_place) = room.acquire().await else { return };
        let answer = spawn_blocking(move || lookup(&name)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        sender.send_replace(Some((Instant::now(), answer.map_err(|error| error.to_string()))));
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{
            Condvar,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::time::timeout;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A resolver that answers nothing before it is opened, and how many lookups it has had.
    struct Resolver {
        names: Names,
        count: Arc<AtomicUsize>,
        gate: Arc<(Mutex<bool>, Condvar)>,
    }

    impl Resolver {
        fn silent() -> Self {
            let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
            let (counted, silent) = (Arc::clone(&count), Arc::clone(&gate));
            let names = Names::by(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                let is_open = silent.0.lock().unwrap();
                drop(silent.1.wait_while(is_open, |is_open| !*is_open).unwrap());
                Ok(vec![LOCAL])
            });
            Self { names, count, gate }
        }

        fn open(&self) {
            *self.gate.0.lock().unwrap() = true;
            self.gate.1.notify_all();
        }

        async fn is_answered_soon(&self, name: &str) -> bool {
            timeout(Duration::from_millis(50), self.names.lookup(name)).await.is_ok()
        }
    }

    #[tokio::test]
    async fn silent_name_servers_block_few_threads() {
        let resolver = Resolver::silent();
        for number in 0..20 {
            assert!(!resolver.is_answered_soon(&format!("api-{number}.example")).await);
        }
        assert_eq!(resolver.count.load(Ordering::SeqCst), LOOKUPS_MAX);
        resolver.open();
        assert_eq!(resolver.names.lookup("api.example").await, Ok(vec![LOCAL]));
    }

    #[tokio::test]
    async fn late_answer_serves_the_next_caller() {
        let resolver = Resolver::silent();
        for _ in 0..3 {
            assert!(!resolver.is_answered_soon("api.example").await);
        }
        resolver.open();
        for _ in 0..3 {
            assert_eq!(resolver.names.lookup("api.example").await, Ok(vec![LOCAL]));
        }
        assert_eq!(resolver.count.load(Ordering::SeqCst), 1, "one lookup serves all");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_a_short_time_and_failures_not_at_all() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let names = Names::by(move |name| {
            counted.fetch_add(1, Ordering::SeqCst);
            if name == "good.example" { Ok(vec![LOCAL]) } else { Err(io::Error::other("no such name")) }
        });
        for _ in 0..2 {
            assert_eq!(names.lookup("bad.example").await, Err("no such name".to_owned()));
        }
        assert_eq!(count.swap(0, Ordering::SeqCst), 2);
        for _ in 0..2 {
            names.lookup("good.example").await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        tokio::time::advance(KEPT).await;
        names.lookup("good.example").await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}

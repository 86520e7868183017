//! How much the client library holds, and when no more is given to it.
//!
//! The library reads whatever comes as fast as it comes, and keeps it. So no more is given to it while it holds
//! [`BODIES_LEN_MAX`] bytes of messages that nobody has taken.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use super::BrokerVersion;

/// Bytes of bodies that the library may hold. A few more may come with what is being read then.
pub const BODIES_LEN_MAX: usize = 16 * 1024 * 1024;

/// How much the library holds that nobody has taken.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    /// Whether somebody takes, and says so.
    is_limited: bool,
    /// Who wants to read more.
    waiting: Option<Waker>,
    broker: BrokerVersion,
}

impl State {
    fn is_full(&self) -> bool {
        self.is_limited && self.bytes >= BODIES_LEN_MAX
    }
}

impl Held {
    /// From now on no more is read while too much is held. Whoever takes has to say so.
    pub(super) fn limit(&self) {
        self.lock().is_limited = true;
    }

    /// The library got so much.
    pub(super) fn add(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes += bytes;
    }

    /// What the broker reported of itself.
    pub(super) fn opened_by(&self, broker: BrokerVersion) {
        self.lock().broker = broker;
    }

    /// The version of the broker.
    pub(super) fn broker(&self) -> BrokerVersion {
        self.lock().broker.clone()
    }

    /// So much was taken from it.
    pub(super) fn took(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.bytes < BODIES_LEN_MAX
            && let Some(waiting) = state.waiting.take()
        {
            waiting.wake();
        }
    }

    /// Whether there is room for more; if not, this one is woken when there is.
    pub(super) fn has_room(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        let has_room = !state.is_full();
        if !has_room {
            state.waiting = Some(waker.clone());
        }
        has_room
    }

    /// What a panic left behind is whole: everything in here is set in one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn no_more_is_read_while_too_much_is_held() {
        struct Count(AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = std::sync::Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(std::sync::Arc::clone(&count));
        let held = Held::default();
        held.add(BODIES_LEN_MAX);
        assert!(held.has_room(&waker), "nobody takes anything from this one");
        held.limit();
        assert!(!held.has_room(&waker));
        held.took(1);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(held.has_room(&waker));
        held.took(usize::MAX);
        held.add(1);
        assert!(held.has_room(&waker));
    }
}

//! Limits how many bytes of messages the client library holds.
//!
//! lapin 4.12.3 reads as fast as the broker sends and buffers all messages that the consumer has not taken. Therefore the
//! transport under it stops reading while the library holds [`BODIES_LEN_MAX`] bytes of them.

use std::task::Waker;

use parking_lot::Mutex;

/// Bytes of bodies that the library may hold. The last read may exceed it.
pub const BODIES_LEN_MAX: usize = 16 * 1024 * 1024;

/// The bytes that the library of one connection holds.
#[derive(Debug, Default)]
pub struct ReadLimit(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    is_on: bool,
    /// The waiting reader.
    waiting: Option<Waker>,
}

impl ReadLimit {
    /// Enables the limit. From now on the consumer must report the bytes that it takes.
    pub fn turn_on(&self) {
        self.0.lock().is_on = true;
    }

    /// Adds bytes that the library received.
    pub fn received(&self, bytes: usize) {
        self.0.lock().bytes += bytes;
    }

    /// Subtracts bytes that the consumer took.
    pub fn taken(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.bytes < BODIES_LEN_MAX
            && let Some(waiting) = state.waiting.take()
        {
            waiting.wake();
        }
    }

    /// Returns whether the transport may read. If not, wakes the reader when it may.
    pub fn has_room(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        let has_room = !state.is_on || state.bytes < BODIES_LEN_MAX;
        if !has_room {
            state.waiting = Some(waker.clone());
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn reading_stops_at_the_limit() {
        struct WakeCount(AtomicU32);
        impl std::task::Wake for WakeCount {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = std::sync::Arc::new(WakeCount(AtomicU32::new(0)));
        let waker = Waker::from(std::sync::Arc::clone(&count));
        let limit = ReadLimit::default();
        limit.received(BODIES_LEN_MAX);
        assert!(limit.has_room(&waker), "it is off");
        limit.turn_on();
        assert!(!limit.has_room(&waker));
        limit.taken(1);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(limit.has_room(&waker));
        limit.taken(usize::MAX);
        limit.received(1);
        assert!(limit.has_room(&waker));
    }
}

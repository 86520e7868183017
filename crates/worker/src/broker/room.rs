//! Room for outgoing messages, in bytes and in messages. It is reserved before a message is written, and released when the
//! broker has confirmed the message.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of bodies in each pool. The client library holds a copy of those that are not yet in the socket.
const ROOM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages in each pool.
pub const IN_FLIGHT_MAX: usize = 1_000;

/// Bytes that a message takes besides its body: properties, headers, bookkeeping.
const OVERHEAD: usize = 1024;

/// The room of a process. Dead letters have a pool of their own, so that a full queue of dead letters delays no report.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    dead_letters: RoomPool,
    others: RoomPool,
}

#[derive(Clone, Debug)]
struct RoomPool {
    bytes: Arc<Semaphore>,
    messages: Arc<Semaphore>,
}

/// The pool of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomClass {
    DeadLetter,
    Other,
}

/// Reserved room. Dropping it releases it.
#[derive(Debug)]
pub(super) struct Room {
    bytes: OwnedSemaphorePermit,
    _message: OwnedSemaphorePermit,
}

impl Default for Rooms {
    fn default() -> Self {
        let pool = || RoomPool {
            bytes: Arc::new(Semaphore::new(ROOM_BYTES_MAX)),
            messages: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        };
        Self { dead_letters: pool(), others: pool() }
    }
}

impl Rooms {
    /// Waits until there is room for a message with a body of this length. One that is longer than the whole pool has to be
    /// alone in it.
    pub(super) async fn reserve(&self, class: RoomClass, len: usize) -> Room {
        let pool = self.pool(class);
        let open = "the pool is never closed";
        let message = Arc::clone(&pool.messages).acquire_owned().await.expect(open);
        let bytes = Arc::clone(&pool.bytes).acquire_many_owned(permits(len)).await.expect(open);
        Room { bytes, _message: message }
    }

    /// Reserves room if there is some now. Those that wait come first.
    pub(super) fn try_reserve(&self, class: RoomClass, len: usize) -> Option<Room> {
        self.pool(class).try_reserve(len)
    }

    const fn pool(&self, class: RoomClass) -> &RoomPool {
        match class {
            RoomClass::DeadLetter => &self.dead_letters,
            RoomClass::Other => &self.others,
        }
    }
}

impl RoomPool {
    fn try_reserve(&self, len: usize) -> Option<Room> {
        let message = Arc::clone(&self.messages).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(permits(len)).ok()?;
        Some(Room { bytes, _message: message })
    }
}

impl Room {
    /// Releases what a body of this length does not need.
    pub(super) fn shrink_to(&mut self, len: usize) {
        let surplus = self.bytes.num_permits().saturating_sub(permits(len) as usize);
        drop(self.bytes.split(surplus));
    }
}

fn permits(len: usize) -> u32 {
    u32::try_from(len.saturating_add(OVERHEAD).min(ROOM_BYTES_MAX)).expect("the pool has less than 4 GiB")
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn reserve(rooms: &Rooms, class: RoomClass, len: usize) -> Option<Room> {
        match pin!(rooms.reserve(class, len)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room),
            Poll::Pending => None,
        }
    }

    #[test]
    fn bodies_are_bounded_by_their_bytes() {
        let rooms = Rooms::default();
        let half = ROOM_BYTES_MAX / 2;
        let mut first = reserve(&rooms, RoomClass::Other, half).unwrap();
        assert!(reserve(&rooms, RoomClass::Other, half).is_none());
        first.shrink_to(10);
        let second = reserve(&rooms, RoomClass::Other, half).unwrap();
        assert!(reserve(&rooms, RoomClass::Other, half).is_none());
        drop(second);
        assert!(reserve(&rooms, RoomClass::Other, half).is_some());
    }

    #[test]
    fn messages_are_bounded_by_their_number() {
        let rooms = Rooms::default();
        let taken: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| reserve(&rooms, RoomClass::Other, 1).unwrap()).collect();
        assert!(reserve(&rooms, RoomClass::Other, 1).is_none());
        drop(taken);
        assert!(reserve(&rooms, RoomClass::Other, 1).is_some());
    }

    #[test]
    fn dead_letters_take_no_room_from_reports() {
        let rooms = Rooms::default();
        let _all = reserve(&rooms, RoomClass::DeadLetter, usize::MAX).unwrap();
        assert!(reserve(&rooms, RoomClass::DeadLetter, 0).is_none());
        assert!(reserve(&rooms, RoomClass::Other, usize::MAX).is_some());
    }
}

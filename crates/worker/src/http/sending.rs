//! Whether a request has left: the one fact that a call without an answer must not get wrong.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The turning point of a call. Before it nothing was written; after it the request may have been applied, whatever
/// comes back.
///
/// It is passed when the HTTP library asks for the body, which it does when it has an open connection and writes the
/// head into it. The caller may close the way first ([`Sending::abandon`]); then the request can not leave any more,
/// although the library works in a task of its own. So "nothing was sent" is never a guess.
pub struct Sending(Mutex<State>);

enum State {
    Waiting(Box<dyn FnOnce() -> bool + Send>),
    Sent,
    Abandoned,
}

impl Sending {
    /// A call that was not yet sent. `may_leave` is asked at the turning point, inside the HTTP library's task: it must
    /// not wait. If it says no, the way is closed.
    pub fn new(may_leave: impl FnOnce() -> bool + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Waiting(Box::new(may_leave)))))
    }

    /// Makes sure that nothing is sent any more, and says whether it was in time: false if the request had left.
    pub fn abandon(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Sent) {
            *state = State::Abandoned;
        }
        matches!(*state, State::Abandoned)
    }

    /// Passes the turning point, unless the way is closed.
    fn pass(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Waiting(may_leave) = std::mem::replace(&mut *state, State::Abandoned)
            // Asked under the lock, so that whoever sees that the request left can rely on it having been asked.
            && may_leave()
        {
            *state = State::Sent;
        }
        matches!(*state, State::Sent)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Waiting(_) => "Waiting",
            State::Sent => "Sent",
            State::Abandoned => "Abandoned",
        })
    }
}

/// A request body that passes the turning point when it is first asked for. Must not be empty: nobody asks for an
/// empty body.
#[derive(Debug)]
pub(super) struct WatchedBody {
    bytes: Option<Bytes>,
    sending: Arc<Sending>,
}

/// The way was closed before the body was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the call was given up before it was sent")]
pub(super) struct GivenUp;

impl WatchedBody {
    pub(super) const fn new(bytes: Bytes, sending: Arc<Sending>) -> Self {
        Self { bytes: Some(bytes), sending }
    }

    /// No body: for what is read and not sent.
    pub(super) fn none() -> Self {
        Self { bytes: None, sending: Sending::new(|| true) }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let bytes = self.bytes.take();
        Poll::Ready(bytes.map(|bytes| if self.sending.pass() { Ok(Frame::data(bytes)) } else { Err(GivenUp) }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    fn counted() -> (Arc<AtomicU32>, Arc<Sending>) {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        let may_leave = move || {
            counter.store(counter.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
            true
        };
        (calls, Sending::new(may_leave))
    }

    #[tokio::test]
    async fn the_first_look_at_the_body_is_the_turning_point() {
        let (calls, sending) = counted();
        let body = WatchedBody::new(Bytes::from_static(b"{}"), Arc::clone(&sending));
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(2));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(!sending.abandon(), "what has left cannot be called back");
    }

    #[tokio::test]
    async fn what_was_abandoned_never_leaves() {
        let (calls, sending) = counted();
        assert!(sending.abandon());
        assert!(sending.abandon(), "asking again changes nothing");
        assert!(WatchedBody::new(Bytes::from_static(b"{}"), sending).collect().await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn what_may_not_leave_does_not_and_was_not_sent() {
        let sending = Sending::new(|| false);
        assert!(WatchedBody::new(Bytes::from_static(b"{}"), Arc::clone(&sending)).collect().await.is_err());
        assert!(sending.abandon());
    }
}

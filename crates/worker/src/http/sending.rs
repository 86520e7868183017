//! Records whether a request has left: the fact that decides whether a call without a response is in doubt.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

/// The moment at which a request leaves. Before it nothing was written; after it the call may have taken effect, whatever
/// the response is.
///
/// It is the moment at which the HTTP library polls the body, which it does when it writes the head into an open connection.
/// The caller may abandon the request before ([`Sending::abandon`]). Then the request cannot leave any more, although the
/// library works in a task of its own. So "nothing was sent" is never a guess.
pub struct Sending(Mutex<SendingState>);

enum SendingState {
    Waiting(Box<dyn FnOnce() -> bool + Send>),
    Sent,
    Abandoned,
}

impl Sending {
    /// Returns a request that was not sent yet. `may_leave` is called when the request would leave, inside the HTTP library's
    /// task, so it must not wait. If it returns false the request is abandoned.
    pub fn new(may_leave: impl FnOnce() -> bool + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(SendingState::Waiting(Box::new(may_leave)))))
    }

    /// Abandons the request. Returns whether that was in time: false if the request had left.
    pub fn abandon(&self) -> bool {
        let mut state = self.0.lock();
        if !matches!(*state, SendingState::Sent) {
            *state = SendingState::Abandoned;
        }
        matches!(*state, SendingState::Abandoned)
    }

    /// Lets the request leave, unless it was abandoned. Returns whether it leaves.
    fn pass(&self) -> bool {
        let mut state = self.0.lock();
        if let SendingState::Waiting(may_leave) = std::mem::replace(&mut *state, SendingState::Abandoned)
            // Called under the lock, so that it was called before any caller sees that the request left.
            && may_leave()
        {
            *state = SendingState::Sent;
        }
        matches!(*state, SendingState::Sent)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.0.lock() {
            SendingState::Waiting(_) => "Waiting",
            SendingState::Sent => "Sent",
            SendingState::Abandoned => "Abandoned",
        })
    }
}

/// A request body that lets its request leave when it is first polled. Must not be empty: the library does not poll an empty
/// body.
#[derive(Debug)]
pub(super) struct WatchedBody {
    bytes: Option<Bytes>,
    sending: Arc<Sending>,
}

/// The request was abandoned before the body was polled.
#[derive(Debug, thiserror::Error)]
#[error("the request was abandoned before it was sent")]
pub(super) struct Abandoned;

impl WatchedBody {
    pub(super) const fn new(bytes: Bytes, sending: Arc<Sending>) -> Self {
        Self { bytes: Some(bytes), sending }
    }

    /// Returns no body, for GET.
    pub(super) fn none() -> Self {
        Self { bytes: None, sending: Sending::new(|| true) }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        let bytes = self.bytes.take();
        Poll::Ready(bytes.map(|bytes| if self.sending.pass() { Ok(Frame::data(bytes)) } else { Err(Abandoned) }))
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
    async fn first_poll_of_body_sends_request() {
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
    async fn abandoned_request_never_leaves() {
        let (calls, sending) = counted();
        assert!(sending.abandon());
        assert!(sending.abandon(), "asking again changes nothing");
        assert!(WatchedBody::new(Bytes::from_static(b"{}"), sending).collect().await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn request_that_may_not_leave_is_not_sent() {
        let sending = Sending::new(|| false);
        assert!(WatchedBody::new(Bytes::from_static(b"{}"), Arc::clone(&sending)).collect().await.is_err());
        assert!(sending.abandon());
    }
}

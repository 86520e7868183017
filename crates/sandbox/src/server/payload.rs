//! Bodies of answers, sound and spoiled.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes of each piece of a body without end.
const PIECE: [u8; 16 * 1024] = [b' '; 16 * 1024];

/// A body.
#[derive(Debug)]
pub(super) enum Payload {
    /// All of it.
    Whole(Option<Bytes>),
    /// The first half of what its length promises, then the end of the connection.
    Truncated {
        /// What is sent, until it is.
        half: Option<Bytes>,
        /// Bytes promised.
        promised: u64,
        /// Whether the connection was given the time to send the half.
        is_sent: bool,
    },
    /// JSON white space without end, after this beginning.
    Endless(Option<Bytes>),
}

/// The connection ends here, on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection is ended on purpose")]
pub(super) struct Aborted;

impl Payload {
    pub(super) fn whole(body: impl Into<Bytes>) -> Self {
        Self::Whole(Some(body.into()))
    }

    pub(super) fn truncated(body: String) -> Self {
        let body = Bytes::from(body);
        let promised = u64::try_from(body.len()).unwrap_or(u64::MAX);
        Self::Truncated { half: Some(body.slice(..body.len() / 2)), promised, is_sent: false }
    }

    pub(super) const fn endless() -> Self {
        Self::Endless(Some(Bytes::from_static(br#"{"Response":"#)))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(body) => body.take().map(|body| Ok(Frame::data(body))),
            Self::Truncated { half, is_sent, .. } => match half.take() {
                Some(half) => Some(Ok(Frame::data(half))),
                None if *is_sent => Some(Err(Aborted)),
                None => {
                    // An error at once would discard what is not on its way yet; after a pause it has been sent.
                    *is_sent = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            },
            Self::Endless(first) => Some(Ok(Frame::data(first.take().unwrap_or(Bytes::from_static(&PIECE))))),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Truncated { promised, .. } => SizeHint::with_exact(*promised),
            Self::Endless(_) => SizeHint::default(),
        }
    }
}

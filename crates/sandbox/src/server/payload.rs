//! Bodies of responses, complete and faulty.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A piece of an endless body.
const PIECE: [u8; 16 * 1024] = [b' '; 16 * 1024];

/// A body.
#[derive(Debug)]
pub(super) enum Payload {
    /// The complete body.
    Whole(Option<Bytes>),
    /// Half of the announced content length, then the end of the connection.
    Truncated {
        /// The half, until it is sent.
        half: Option<Bytes>,
        /// The content length.
        promised: u64,
        /// Whether the connection had time to send the half.
        is_sent: bool,
    },
    /// This beginning, then endless white space.
    Endless(Option<Bytes>),
}

/// The connection was aborted on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("connection aborted on purpose")]
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
                    // An immediate error would discard the half before it is sent.
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

//! Calls in flight.

use crate::{
    arena::Key,
    images::Entry,
    io::{CallId, LaneId},
    reaction::KeyTrust,
    time::Instant,
};

/// The kinds of calls, each paced by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Write,
    ReadShares,
    ReadImage,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Write, Self::ReadShares, Self::ReadImage];
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Work,
    /// It also shows whether a closed lane works again.
    Probe,
}

/// A call in flight.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) lane: LaneId,
    pub(crate) image: Key<Entry>,
    pub(crate) kind: Kind,
    /// The place in arrival of the first job that arrived after it began.
    pub(crate) seq: u64,
    pub(crate) purpose: Purpose,
    pub(crate) began: Instant,
    pub(crate) sent: Option<Instant>,
}

/// A call that ended, as its image sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedCall {
    pub(crate) id: CallId,
    pub(crate) kind: Kind,
    pub(crate) seq: u64,
    pub(crate) began: Instant,
    pub(crate) sent: Option<Instant>,
    /// Whether it was signed with a key that was replaced since.
    pub(crate) by_former_key: bool,
}

impl EndedCall {
    /// Whether the key of the call may be another account's, where `in_use` holds for the key in use.
    pub(crate) const fn trust(&self, in_use: KeyTrust) -> KeyTrust {
        if self.by_former_key { KeyTrust::Unproven } else { in_use }
    }
}

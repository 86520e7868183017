//! What is kept of a delivery until it is settled.

use alloc::boxed::Box;

use imageshare_core::ids::AccountId;

use super::account::Item;
use crate::{
    arena::Key,
    io::{CallId, DeliveryId},
    job::Mode,
    time::Instant,
};

/// One delivery of one job. There may be millions: what few have is kept elsewhere.
#[derive(Debug)]
pub(crate) struct HeldJob {
    pub(super) id: DeliveryId,
    /// The place in arrival.
    pub(super) seq: u64,
    pub(super) mode: Mode,
    pub(super) force: bool,
    pub(super) redelivered: bool,
    /// When nothing of it is to be begun any more; [`Instant::NEVER`] if there is no such moment.
    pub(super) deadline: Instant,
    /// The job's accounts until they become items: while it waits behind a SYNC, or is one that has not begun.
    pub(super) account_ids: Box<[AccountId]>,
    pub(super) first: Option<Key<Item>>,
    pub(super) last: Option<Key<Item>>,
    /// Wishes without an outcome.
    pub(super) open: u32,
    /// Accounts that an earlier job, not settled, names too.
    pub(super) blocked: u32,
    /// Until when a write that carried one of its accounts may still be applied.
    pub(super) in_doubt_until: Instant,
    pub(super) duplicates: u32,
    pub(super) requests: u32,
    /// The last call that carried an account of it, so that each is counted once; [`HeldJob::NO_CALL`] before the first.
    pub(super) last_call: CallId,
}

impl HeldJob {
    /// No call has this number.
    pub(super) const NO_CALL: CallId = CallId(u64::MAX);
}

//! Refusals of single accounts, kept for jobs that are redelivered.

use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use imageshare_core::{Permission, ids::AccountId};

use crate::{
    image::ImageName,
    job::Failure,
    limits::{REFUSAL_KEPT_FOR, REFUSALS_MAX},
    time::Instant,
};

/// An account of an image, and the refused change.
type Name = (ImageName, AccountId, Permission);

/// The refusals of all images.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_name: BTreeMap<Name, (Instant, Arc<Failure>)>,
    order: VecDeque<Name>,
}

impl Refusals {
    /// Returns the refusal of this change, if it still counts.
    pub(crate) fn get(
        &self,
        now: Instant,
        image: ImageName,
        account: AccountId,
        permission: Permission,
    ) -> Option<&Arc<Failure>> {
        // Not removed when it expires: `remember` bounds the number, and the next write replaces it.
        let (until, failure) = self.by_name.get(&(image, account, permission))?;
        (*until > now).then_some(failure)
    }

    /// Keeps a refusal that is about the account.
    pub(crate) fn remember(
        &mut self,
        now: Instant,
        image: ImageName,
        account: AccountId,
        permission: Permission,
        failure: &Failure,
    ) {
        let name = (image, account, permission);
        // The request may not have been sent for the job that is redelivered.
        let remembered = (now + REFUSAL_KEPT_FOR, failure.without_request());
        if self.by_name.insert(name, remembered).is_none() {
            self.order.push_back(name);
        }
        // Accounts of endless jobs must not fill the memory; the oldest refusal is the least useful.
        while self.order.len() > REFUSALS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_name.remove(&oldest);
            }
        }
    }

    /// A write was accepted: an earlier refusal no longer counts.
    pub(crate) fn forget(&mut self, image: ImageName, account: AccountId, permission: Permission) {
        // The name stays in the order, where it costs no more than its place.
        self.by_name.remove(&(image, account, permission));
    }
}

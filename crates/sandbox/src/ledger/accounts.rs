//! The accounts that exist, and those that are refused.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
};

use imageshare_core::{Permission, ids::AccountId};

use super::Refusal;

/// The accounts of the world.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Whether every well-formed id is an account, except those in `unknown`.
    pub open: bool,
    /// Accounts that exist while `open` is false.
    pub known: BTreeSet<AccountId>,
    /// Ids that do not exist, regardless of the other fields.
    pub unknown: BTreeSet<AccountId>,
    /// Accounts that are collaborators, not root accounts.
    pub sub_accounts: BTreeSet<AccountId>,
    /// Accounts that fail every request with a code.
    pub faults: BTreeMap<AccountId, String>,
}

impl Accounts {
    /// Every well-formed id is an account.
    #[must_use]
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Whether an id is an account.
    #[must_use]
    pub fn exists(&self, account: AccountId) -> bool {
        let is_known = self.open || self.known.contains(&account) || self.sub_accounts.contains(&account);
        is_known && !self.unknown.contains(&account)
    }

    /// Checks an account of a request; `shared` is whether it has the image.
    pub(super) fn check(
        &self,
        caller: AccountId,
        account: AccountId,
        permission: Permission,
        shared: bool,
    ) -> Result<(), Refusal> {
        if account == caller {
            return Err(Refusal::own_account(account));
        }
        if let Some(code) = self.faults.get(&account) {
            return Err(Refusal::account_fault(code.clone(), account));
        }
        // An account that was closed after the share can still be cancelled.
        if permission == Permission::Cancel && shared {
            return Ok(());
        }
        if !self.exists(account) {
            return Err(Refusal::account_unknown(account));
        }
        if self.sub_accounts.contains(&account) {
            return Err(Refusal::sub_account(account));
        }
        Ok(())
    }
}

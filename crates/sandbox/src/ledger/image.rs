//! One image: what it is, and who has it, now and a while ago.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use imageshare_core::ids::{AccountId, Region};
use serde::Deserialize;

/// The states of an image as DescribeImages spells them. Only `NORMAL` can be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ImageState {
    /// `CREATING`
    Creating,
    /// `CREATEFAILED`
    CreateFailed,
    /// `IMPORTFAILED`
    ImportFailed,
    /// `IMPORTING`
    Importing,
    /// `NORMAL`
    #[default]
    Normal,
    /// `SYNCING`
    Syncing,
    /// `USING`, of older documents.
    Using,
}

impl ImageState {
    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::CreateFailed => "CREATEFAILED",
            Self::ImportFailed => "IMPORTFAILED",
            Self::Importing => "IMPORTING",
            Self::Normal => "NORMAL",
            Self::Syncing => "SYNCING",
            Self::Using => "USING",
        }
    }
}

/// The kinds of images. Only private ones can be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ImageType {
    /// `PRIVATE_IMAGE`
    #[default]
    #[serde(rename = "PRIVATE_IMAGE")]
    Private,
    /// `PUBLIC_IMAGE`
    #[serde(rename = "PUBLIC_IMAGE")]
    Public,
    /// `SHARED_IMAGE`: of another account, which shares it.
    #[serde(rename = "SHARED_IMAGE")]
    Shared,
}

impl ImageType {
    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "PRIVATE_IMAGE",
            Self::Public => "PUBLIC_IMAGE",
            Self::Shared => "SHARED_IMAGE",
        }
    }
}

/// The licences of images. BYOL images cannot be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum License {
    /// `BYOL`: bring your own licence.
    #[serde(rename = "BYOL")]
    Byol,
    /// `TencentCloud`
    #[default]
    TencentCloud,
}

impl License {
    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Byol => "BYOL",
            Self::TencentCloud => "TencentCloud",
        }
    }
}

/// What the access policy of the owner's key allows on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// DescribeImages.
    pub describe: bool,
    /// DescribeImageSharePermission.
    pub list: bool,
    /// ModifyImageSharePermission.
    pub write: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self { describe: true, list: true, write: true }
    }
}

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The root account it belongs to.
    pub owner: AccountId,
    /// The region it lives in; elsewhere it does not exist.
    pub region: Region,
    /// Its name, for people.
    pub name: String,
    /// Its state until `normal_at`.
    pub state: ImageState,
    /// When it becomes `NORMAL`, in milliseconds of the ledger's clock; `None` for never.
    pub normal_at: Option<u64>,
    /// Its kind.
    pub image_type: ImageType,
    /// Its licence.
    pub license: License,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether it is an image of a whole instance.
    pub instance_image: bool,
    /// What the access policy allows.
    pub access: Access,
}

impl Image {
    /// A private image that can be shared at once.
    #[must_use]
    pub fn normal(owner: AccountId, region: Region) -> Self {
        Self {
            owner,
            region,
            name: String::new(),
            state: ImageState::Normal,
            normal_at: None,
            image_type: ImageType::Private,
            license: License::TencentCloud,
            encrypted: false,
            instance_image: false,
            access: Access::default(),
        }
    }
}

/// An image in the ledger.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) image: Image,
    /// Who has it now, and since when.
    pub(super) shares: BTreeMap<AccountId, u64>,
    /// Changes of the last while, oldest first, so that a reading can be answered as of an earlier time.
    changes: VecDeque<Change>,
}

/// What an account had before a change.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: u64,
    account: AccountId,
    before: Option<u64>,
}

impl Entry {
    pub(super) const fn new(image: Image) -> Self {
        Self { image, shares: BTreeMap::new(), changes: VecDeque::new() }
    }

    /// The state at a time, as far as the image itself goes.
    pub(super) fn state(&self, now: u64) -> ImageState {
        if self.image.normal_at.is_some_and(|at| at <= now) { ImageState::Normal } else { self.image.state }
    }

    /// What kind of image it is to a caller.
    pub(super) fn type_for(&self, caller: AccountId) -> ImageType {
        let is_receiver = self.image.owner != caller && self.shares.contains_key(&caller);
        if is_receiver { ImageType::Shared } else { self.image.image_type }
    }

    /// Whether a caller sees the image in a region.
    pub(super) fn is_visible(&self, caller: AccountId, region: Region) -> bool {
        let is_for_caller = self.image.owner == caller || self.type_for(caller) != ImageType::Private;
        self.image.region == region && is_for_caller
    }

    /// Shares or takes back, whatever the rules; false if it was so already.
    pub(super) fn set(&mut self, at: u64, account: AccountId, shared: bool) -> bool {
        let before = self.shares.get(&account).copied();
        if before.is_some() == shared {
            return false;
        }
        if shared {
            self.shares.insert(account, at);
        } else {
            self.shares.remove(&account);
        }
        self.changes.push_back(Change { at, account, before });
        true
    }

    /// Where in the history we are, for [`Self::roll_back`].
    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Undoes every change since a mark.
    pub(super) fn roll_back(&mut self, mark: usize) {
        while self.changes.len() > mark {
            let Some(change) = self.changes.pop_back() else { return };
            match change.before {
                Some(created) => self.shares.insert(change.account, created),
                None => self.shares.remove(&change.account),
            };
        }
    }

    /// Forgets changes from before a time.
    pub(super) fn forget(&mut self, before: u64) {
        while self.changes.front().is_some_and(|change| change.at < before) {
            self.changes.pop_front();
        }
    }

    /// Who had it at a time, in order of the ids, at most `limit`. A time from before what is remembered is answered
    /// with the oldest state that is.
    pub(super) fn shares_at(&self, as_of: u64, limit: usize) -> Vec<(AccountId, u64)> {
        let mut then = BTreeMap::new();
        for change in self.changes.iter().rev().take_while(|change| change.at > as_of) {
            then.insert(change.account, change.before);
        }
        if then.is_empty() {
            return self.shares.iter().take(limit).map(|(&account, &created)| (account, created)).collect();
        }
        let unchanged = self.shares.iter().filter(|(account, _)| !then.contains_key(account)).map(|(&a, &c)| (a, c));
        let undone = then.iter().filter_map(|(&account, before)| before.map(|created| (account, created)));
        let mut found: Vec<_> = unchanged.chain(undone).collect();
        found.sort_unstable();
        found.truncate(limit);
        found
    }
}

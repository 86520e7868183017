//! One image: its attributes, its shares and their recent history.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use imageshare_core::ids::{AccountId, Region};
use serde::Deserialize;

/// The states of an image as DescribeImages spells them. Only `NORMAL` can be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema, serde::Serialize))]
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
    /// `USING`, from older documents.
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
#[cfg_attr(feature = "server", derive(schemars::JsonSchema, serde::Serialize))]
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

/// The licenses of images. BYOL images cannot be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema, serde::Serialize))]
pub enum License {
    /// `BYOL`: bring your own license.
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

/// The actions on an image that the access policy of the owner's key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema, serde::Serialize))]
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

/// The creation time of images without one: 2026-11-02T08:15:30Z in Unix seconds.
const CREATED_DEFAULT: u64 = 1_793_607_330;

#[cfg(feature = "server")]
const fn created_default() -> u64 {
    CREATED_DEFAULT
}

/// The attributes of an image. The server reads and writes them in its state file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(Deserialize, serde::Serialize), serde(deny_unknown_fields))]
pub struct Image {
    /// The root account that owns it.
    pub owner: AccountId,
    /// Its region; in other regions it does not exist.
    pub region: Region,
    /// Its name.
    #[cfg_attr(feature = "server", serde(default))]
    pub name: String,
    /// Its description.
    #[cfg_attr(feature = "server", serde(default))]
    pub description: String,
    /// Its family.
    #[cfg_attr(feature = "server", serde(default))]
    pub family: Option<String>,
    /// Whether it is deprecated.
    #[cfg_attr(feature = "server", serde(default))]
    pub deprecated: bool,
    /// When it was created, in Unix seconds.
    #[cfg_attr(feature = "server", serde(default = "created_default", with = "crate::saved_state::seconds"))]
    pub created: u64,
    /// Its tags, as keys and values.
    #[cfg_attr(feature = "server", serde(default, with = "crate::saved_state::tags"))]
    pub tags: Vec<(String, String)>,
    /// Its state until `normal_at`.
    #[cfg_attr(feature = "server", serde(default))]
    pub state: ImageState,
    /// When it becomes `NORMAL`, in milliseconds of the ledger's clock; `None` is never.
    #[cfg_attr(feature = "server", serde(default, with = "crate::saved_state::optional_millis"))]
    pub normal_at: Option<u64>,
    /// Its kind.
    #[cfg_attr(feature = "server", serde(default, rename = "type"))]
    pub image_type: ImageType,
    /// Its license.
    #[cfg_attr(feature = "server", serde(default))]
    pub license: License,
    /// Whether it is encrypted.
    #[cfg_attr(feature = "server", serde(default))]
    pub encrypted: bool,
    /// Whether it is an image of a whole instance.
    #[cfg_attr(feature = "server", serde(default))]
    pub instance_image: bool,
    /// The actions that the access policy allows.
    #[cfg_attr(feature = "server", serde(default))]
    pub access: Access,
}

impl Image {
    /// Returns a private image in state `NORMAL`.
    #[must_use]
    pub fn normal(owner: AccountId, region: Region) -> Self {
        Self {
            owner,
            region,
            name: String::new(),
            description: String::new(),
            family: None,
            deprecated: false,
            created: CREATED_DEFAULT,
            tags: Vec::new(),
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
    /// The accounts that have it, each with the time of its share.
    pub(super) shares: BTreeMap<AccountId, u64>,
    /// Recent changes, oldest first, so that a listing can be answered as of an earlier time.
    changes: VecDeque<Change>,
}

/// The share of an account before a change.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: u64,
    account: AccountId,
    before: Option<u64>,
}

impl Entry {
    pub(super) const fn new(image: Image) -> Self {
        Self::shared(image, BTreeMap::new())
    }

    pub(super) const fn shared(image: Image, shares: BTreeMap<AccountId, u64>) -> Self {
        Self { image, shares, changes: VecDeque::new() }
    }

    /// Returns the state at a time, without regard to other operations.
    pub(super) fn state(&self, now: u64) -> ImageState {
        if self.image.normal_at.is_some_and(|at| at <= now) { ImageState::Normal } else { self.image.state }
    }

    /// Returns the type that a caller sees.
    pub(super) fn type_for(&self, caller: AccountId) -> ImageType {
        let is_receiver = self.image.owner != caller && self.shares.contains_key(&caller);
        if is_receiver { ImageType::Shared } else { self.image.image_type }
    }

    /// Whether the image is visible to a caller in a region.
    pub(super) fn is_visible(&self, caller: AccountId, region: Region) -> bool {
        let is_for_caller = self.image.owner == caller || self.type_for(caller) != ImageType::Private;
        self.image.region == region && is_for_caller
    }

    /// Adds or removes a share without any check. Returns whether that was a change.
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

    /// Returns the position in the history, for [`Self::roll_back`].
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

    /// Drops the changes from before a time.
    pub(super) fn forget(&mut self, before: u64) {
        while self.changes.front().is_some_and(|change| change.at < before) {
            self.changes.pop_front();
        }
    }

    /// Returns the shares at a time, ordered by account id, at most `limit`. For a time before the history begins, it
    /// returns the oldest known state.
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
        let mut shares: Vec<_> = unchanged.chain(undone).collect();
        shares.sort_unstable();
        shares.truncate(limit);
        shares
    }
}

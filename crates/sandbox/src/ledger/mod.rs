//! The ledger: images, their shares, and the rules of the API for changing and listing them.
//!
//! It is pure and deterministic. `now` and `as_of` are milliseconds of one clock of the caller: virtual time in the
//! simulation, wall time in the server. A late write is a call of [`Ledger::modify`] with a later `now`. A stale listing
//! is a call of [`Ledger::shares`] with an earlier `as_of`.

mod accounts;
mod dials;
mod image;
mod lifecycle;
mod machines;
mod refusal;
mod regions;

#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};

pub use accounts::Accounts;
pub use dials::{Dials, FailingBatch, Repeat, SimultaneousWrite, Unknown};
use image::Entry;
pub use image::{Access, Image, ImageState, ImageType, License};
pub use lifecycle::{Attributes, CREATED_IMAGES_MAX, Execution, ImageCopy, Scope};
pub use machines::{INSTANCES_MAX, Instance, KEY_PAIRS_MAX, KeyPair, Machines};
pub use refusal::Refusal;
pub use regions::{REGIONS, RegionInfo};

/// The maximum number of images in an open world, which creates each image at its first write.
pub(crate) const OPEN_IMAGES_MAX: usize = 100_000;

/// Images, accounts, shares and dials.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    images: BTreeMap<ImageId, Entry>,
    /// The end of a simulated operation on an image. The image need not exist yet.
    busy: BTreeMap<ImageId, u64>,
    /// The deleted images of an open world, which would otherwise exist again.
    deleted: BTreeSet<ImageId>,
    /// Instances and key pairs.
    pub machines: Machines,
    /// Whether every well-formed image id exists and is owned by the first account that writes to it.
    pub open_images: bool,
    /// Which accounts exist.
    pub accounts: Accounts,
    /// Undocumented behavior. May change at any time.
    pub dials: Dials,
    repeated_accounts: u64,
}

/// An image as a caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// The root account that owns it.
    pub owner: AccountId,
    /// Its name.
    pub name: &'a str,
    /// Its description.
    pub description: &'a str,
    /// Its family.
    pub family: Option<&'a str>,
    /// Whether it is deprecated.
    pub deprecated: bool,
    /// When it was created, in Unix seconds.
    pub created: u64,
    /// Its tags, as keys and values.
    pub tags: &'a [(String, String)],
    /// Its state at the time of the read.
    pub state: ImageState,
    /// The progress of its creation or copy in percent, if a dial sets the duration.
    pub percent: Option<u64>,
    /// Its type for this caller: accounts that it is shared with see a `SHARED_IMAGE`.
    pub image_type: ImageType,
    /// Its license.
    pub license: License,
}

impl Ledger {
    /// Returns a ledger where every well-formed image and account exists.
    #[must_use]
    pub fn open() -> Self {
        Self { open_images: true, accounts: Accounts::open(), ..Self::default() }
    }

    /// Adds an image, or replaces its attributes without changing its shares.
    pub fn put_image(&mut self, id: ImageId, image: Image) {
        match self.images.get_mut(&id) {
            Some(entry) => entry.image = image,
            None => {
                self.images.insert(id, Entry::new(image));
            }
        }
    }

    /// Starts a simulated operation on an image, which ends at a time. The image need not exist yet.
    pub fn occupy(&mut self, id: ImageId, until: u64) {
        self.busy.insert(id, until);
    }

    /// Ends all simulated operations.
    pub fn release_all(&mut self) {
        self.busy.clear();
    }

    /// Allows the owner's key all actions on an image.
    pub fn permit(&mut self, id: ImageId) {
        if let Some(entry) = self.images.get_mut(&id) {
            entry.image.access = Access::default();
        }
    }

    /// Returns the actions on an image that the owner's key is allowed, or `None` if the image does not exist.
    #[must_use]
    pub fn access(&self, id: ImageId) -> Option<Access> {
        self.images.get(&id).map(|entry| entry.image.access)
    }

    /// Adds or removes a share without any check. Returns whether that was a change; false if the image does not exist.
    pub fn impose(&mut self, now: u64, id: ImageId, account: AccountId, permission: Permission) -> bool {
        let horizon = now.saturating_sub(self.dials.history_ms);
        self.images.get_mut(&id).is_some_and(|entry| {
            entry.forget(horizon);
            entry.set(now, account, permission == Permission::Share)
        })
    }

    /// ModifyImageSharePermission. `now` does not run backwards.
    ///
    /// # Errors
    /// With the documented code. The dial `failing_batch` decides which accounts still change.
    pub fn modify(
        &mut self,
        now: u64,
        caller: AccountId,
        region: Region,
        image: ImageId,
        accounts: &[AccountId],
        permission: Permission,
    ) -> Result<(), Refusal> {
        if accounts.is_empty() {
            return Err(Refusal::missing_parameter("AccountIds"));
        }
        if let Some(limit) = self.dials.batch_limit.filter(|&limit| accounts.len() > limit) {
            return Err(Refusal::too_many_ids(accounts.len(), limit));
        }
        self.materialize(Scope { now, caller, region }, image)?;
        let entry = self
            .images
            .get_mut(&image)
            .filter(|entry| entry.image.region == region)
            .ok_or_else(|| Refusal::image_unknown(image, region))?;
        check_image(&entry.image, state(entry, &self.busy, image, now), caller, region, image)?;
        entry.forget(now.saturating_sub(self.dials.history_ms));
        let mut write = Write {
            now,
            caller,
            image,
            permission,
            alone: accounts.len() == 1,
            accounts: &self.accounts,
            dials: &self.dials,
            shared_before: entry.shares.len(),
            added: accounts.iter().filter(|account| !entry.shares.contains_key(account)).collect::<BTreeSet<_>>().len(),
            entry,
            repeated: 0,
        };
        write.apply(accounts)?;
        self.repeated_accounts += write.repeated;
        Ok(())
    }

    /// DescribeImageSharePermission as of a time at most `history_ms` ago: the accounts with the times of their shares,
    /// ordered by account id.
    ///
    /// # Errors
    /// With the documented code.
    pub fn shares(
        &self,
        as_of: u64,
        caller: AccountId,
        region: Region,
        image: ImageId,
    ) -> Result<Vec<(AccountId, u64)>, Refusal> {
        let Some(entry) = self.images.get(&image).filter(|entry| entry.image.region == region) else {
            return match self.dials.list_unknown {
                Unknown::Error if !self.is_virtual(image) => Err(Refusal::image_unknown(image, region)),
                _ => Ok(Vec::new()),
            };
        };
        if !entry.image.access.list {
            return Err(Refusal::not_authorized("DescribeImageSharePermission", region, caller, image));
        }
        if entry.image.owner != caller {
            return Err(Refusal::image_of_another(image));
        }
        Ok(entry.shares_at(as_of, self.dials.listing_limit.unwrap_or(usize::MAX)))
    }

    /// DescribeImages for one image. Returns `None` if the caller sees no such image and the response is an empty set.
    ///
    /// # Errors
    /// With the documented code.
    pub fn image(
        &self,
        now: u64,
        caller: AccountId,
        region: Region,
        image: ImageId,
    ) -> Result<Option<ImageView<'_>>, Refusal> {
        if self.is_virtual(image) {
            let Image { owner, created, image_type, license, .. } = Image::normal(caller, region);
            let state = if self.busy.get(&image).is_some_and(|&until| now < until) { BUSY } else { ImageState::Normal };
            return Ok(Some(ImageView {
                owner,
                name: "",
                description: "",
                family: None,
                deprecated: false,
                created,
                tags: &[],
                state,
                percent: None,
                image_type,
                license,
            }));
        }
        let Some(entry) = self.images.get(&image).filter(|entry| entry.is_visible(caller, region)) else {
            return match self.dials.describe_unknown {
                Unknown::Error => Err(Refusal::image_unknown(image, region)),
                Unknown::Empty => Ok(None),
            };
        };
        if !entry.image.access.describe {
            return Err(Refusal::not_authorized("DescribeImages", region, caller, image));
        }
        Ok(Some(self.view(image, entry, now, caller)))
    }

    /// DescribeImages for all images that a caller sees in a region, ordered by image id.
    pub fn images(
        &self,
        now: u64,
        caller: AccountId,
        region: Region,
    ) -> impl Iterator<Item = (ImageId, ImageView<'_>)> + '_ {
        self.images
            .iter()
            .filter(move |(_, entry)| entry.image.access.describe && entry.is_visible(caller, region))
            .map(move |(&id, entry)| (id, self.view(id, entry, now, caller)))
    }

    /// Whether an account has an image now.
    #[must_use]
    pub fn is_shared(&self, image: ImageId, account: AccountId) -> bool {
        self.images.get(&image).is_some_and(|entry| entry.shares.contains_key(&account))
    }

    /// Returns the number of accounts that have an image now.
    #[must_use]
    pub fn shared_count(&self, image: ImageId) -> usize {
        self.images.get(&image).map_or(0, |entry| entry.shares.len())
    }

    /// Returns every image with the accounts that have it now, both ordered by id.
    pub fn state(&self) -> impl Iterator<Item = (ImageId, impl Iterator<Item = AccountId> + '_)> + '_ {
        self.images.iter().map(|(&id, entry)| (id, entry.shares.keys().copied()))
    }

    /// Returns every image with its attributes and, by account, the times of its shares, ordered by id.
    pub fn records(&self) -> impl Iterator<Item = (ImageId, &Image, &BTreeMap<AccountId, u64>)> {
        self.images.iter().map(|(&id, entry)| (id, &entry.image, &entry.shares))
    }

    /// Replaces all images and their shares. Listings as of an earlier time return the new shares too.
    pub fn replace_images(&mut self, images: impl IntoIterator<Item = (ImageId, Image, BTreeMap<AccountId, u64>)>) {
        self.images = images.into_iter().map(|(id, image, shares)| (id, Entry::shared(image, shares))).collect();
        self.deleted.clear();
    }

    /// Returns how many accounts in accepted writes were already in the requested state.
    #[must_use]
    pub const fn repeated_accounts(&self) -> u64 {
        self.repeated_accounts
    }

    /// Whether an image exists only because the world is open.
    fn is_virtual(&self, image: ImageId) -> bool {
        self.open_images && !self.contains(image)
    }

    /// Adds an image that exists only because the world is open. Its owner is the caller.
    fn materialize(&mut self, scope: Scope, image: ImageId) -> Result<(), Refusal> {
        if self.is_virtual(image) {
            let images = self.images.len() + self.deleted.len();
            if images >= OPEN_IMAGES_MAX {
                return Err(Refusal::no_room(images));
            }
            self.images.insert(image, Entry::new(Image::normal(scope.caller, scope.region)));
        }
        Ok(())
    }

    fn view<'a>(&self, id: ImageId, entry: &'a Entry, now: u64, caller: AccountId) -> ImageView<'a> {
        let image = &entry.image;
        let state = state(entry, &self.busy, id, now);
        let duration = match state {
            ImageState::Creating => self.dials.create_ms,
            ImageState::Syncing => self.dials.copy_ms,
            _ => 0,
        };
        let remaining = image.normal_at.map(|at| at.saturating_sub(now)).filter(|&remaining| remaining <= duration);
        ImageView {
            owner: image.owner,
            name: &image.name,
            description: &image.description,
            family: image.family.as_deref(),
            deprecated: image.deprecated,
            created: image.created,
            tags: &image.tags,
            state,
            percent: remaining.and_then(|remaining| ((duration - remaining) * 100).checked_div(duration)),
            image_type: entry.type_for(caller),
            license: image.license,
        }
    }
}

/// The state of an image during another operation. Copying to another region is the common one.
const BUSY: ImageState = ImageState::Syncing;

/// Returns the state of an image at a time.
fn state(entry: &Entry, busy: &BTreeMap<ImageId, u64>, id: ImageId, now: u64) -> ImageState {
    if busy.get(&id).is_some_and(|&until| now < until) { BUSY } else { entry.state(now) }
}

/// Checks the image of a write.
fn check_image(
    image: &Image,
    state: ImageState,
    caller: AccountId,
    region: Region,
    id: ImageId,
) -> Result<(), Refusal> {
    if !image.access.write {
        return Err(Refusal::not_authorized("ModifyImageSharePermission", region, caller, id));
    }
    if image.image_type != ImageType::Private {
        return Err(Refusal::image_not_shareable(id, image.image_type.as_str()));
    }
    if image.owner != caller {
        return Err(Refusal::image_of_another(id));
    }
    if image.instance_image {
        return Err(Refusal::instance_image(id));
    }
    if image.encrypted {
        return Err(Refusal::encrypted(id));
    }
    if image.license == License::Byol {
        return Err(Refusal::byol(id));
    }
    match state {
        ImageState::Normal => Ok(()),
        state => Err(Refusal::image_busy(id, state.as_str())),
    }
}

/// A write whose image has passed its checks.
struct Write<'a> {
    now: u64,
    caller: AccountId,
    image: ImageId,
    permission: Permission,
    alone: bool,
    shared_before: usize,
    /// Distinct accounts of the request that do not have the image.
    added: usize,
    accounts: &'a Accounts,
    dials: &'a Dials,
    entry: &'a mut Entry,
    repeated: u64,
}

impl Write<'_> {
    fn apply(&mut self, accounts: &[AccountId]) -> Result<(), Refusal> {
        match self.dials.failing_batch {
            FailingBatch::Nothing => {
                let mark = self.entry.mark();
                let done = accounts.iter().try_for_each(|&account| self.one(account));
                if done.is_err() {
                    self.entry.roll_back(mark);
                }
                done
            }
            FailingBatch::UntilFirst => accounts.iter().try_for_each(|&account| self.one(account)),
            FailingBatch::UntilLast => accounts.iter().rev().try_for_each(|&account| self.one(account)),
            FailingBatch::Others => {
                let mut first = Ok(());
                for &account in accounts {
                    let done = self.one(account);
                    first = first.and(done);
                }
                first
            }
        }
    }

    fn one(&mut self, account: AccountId) -> Result<(), Refusal> {
        let shared = self.entry.shares.contains_key(&account);
        self.accounts.check(self.caller, account, self.permission, shared)?;
        if Permission::of_presence(shared) == self.permission {
            let (repeat, refusal): (_, fn(ImageId, AccountId) -> Refusal) = match self.permission {
                Permission::Cancel => (self.dials.cancel_absent, Refusal::not_shared),
                Permission::Share if self.alone => (self.dials.share_again_alone, Refusal::already_shared),
                Permission::Share => (self.dials.share_again_in_batch, Refusal::already_shared),
            };
            if repeat == Repeat::Fails {
                return Err(refusal(self.image, account));
            }
            self.repeated += 1;
            return Ok(());
        }
        if self.permission == Permission::Share && self.entry.shares.len() >= self.dials.cap {
            return Err(Refusal::over_quota(self.image, self.shared_before, self.added, self.dials.cap));
        }
        self.entry.set(self.now, account, self.permission == Permission::Share);
        Ok(())
    }
}

//! The ledger: which image is shared with whom, and the rules of the API for changing and reading that.
//!
//! Pure and deterministic. `now` and `as_of` are milliseconds of one clock that the caller keeps: virtual time in the
//! simulation, wall time in the server. A write that arrives late is a call of [`Ledger::modify`] with a later `now`;
//! a reading that lags is a call of [`Ledger::shares`] with an earlier `as_of`.

mod accounts;
mod dials;
mod image;
mod refusal;

#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, vec::Vec};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};

pub use accounts::Accounts;
pub use dials::{Dials, FailingBatch, Repeat, Unknown};
use image::Entry;
pub use image::{Access, Image, ImageState, ImageType, License};
pub use refusal::Refusal;

/// Images that come into being by being named, at most, so that a client cannot fill the memory.
const OPEN_IMAGES_MAX: usize = 100_000;

/// Images, accounts, shares and dials.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    images: BTreeMap<ImageId, Entry>,
    /// Until when another operation occupies an image, held already or not.
    busy: BTreeMap<ImageId, u64>,
    /// Whether every well-formed image id is an image of whoever writes to it first.
    pub open_images: bool,
    /// Which accounts exist.
    pub accounts: Accounts,
    /// What nobody outside the cloud knows. May change at any time.
    pub dials: Dials,
    repeated_accounts: u64,
}

/// An image as a caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// The root account it belongs to.
    pub owner: AccountId,
    /// Its name, for people.
    pub name: &'a str,
    /// Its state at the time of the reading.
    pub state: ImageState,
    /// Its kind to this caller: who an image is shared with sees a `SHARED_IMAGE`.
    pub image_type: ImageType,
    /// Its licence.
    pub license: License,
}

impl Ledger {
    /// A ledger in which every well-formed image and account exists.
    #[must_use]
    pub fn open() -> Self {
        Self { open_images: true, accounts: Accounts::open(), ..Self::default() }
    }

    /// Puts an image into the world, or changes what it is without changing who has it.
    pub fn put_image(&mut self, id: ImageId, image: Image) {
        match self.images.get_mut(&id) {
            Some(entry) => entry.image = image,
            None => {
                self.images.insert(id, Entry::new(image));
            }
        }
    }

    /// Lets another operation occupy an image until a time, whether the ledger holds the image or not.
    pub fn occupy(&mut self, id: ImageId, until: u64) {
        self.busy.insert(id, until);
    }

    /// Ends every other operation.
    pub fn release_all(&mut self) {
        self.busy.clear();
    }

    /// Lets the owner's key do everything with an image from now on.
    pub fn permit(&mut self, id: ImageId) {
        if let Some(entry) = self.images.get_mut(&id) {
            entry.image.access = Access::default();
        }
    }

    /// What the owner's key may do with an image, if the ledger holds it.
    #[must_use]
    pub fn access(&self, id: ImageId) -> Option<Access> {
        self.images.get(&id).map(|entry| entry.image.access)
    }

    /// Changes who has an image past all rules, as somebody at the console would. False if it was so already or the
    /// ledger does not hold the image.
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
    /// With the documented code. What is applied then, the dial `failing_batch` says.
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
        if self.open_images && !self.images.contains_key(&image) {
            if self.images.len() >= OPEN_IMAGES_MAX {
                return Err(Refusal::no_room(self.images.len()));
            }
            self.images.insert(image, Entry::new(Image::normal(caller, region)));
        }
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
            entry,
            repeated: 0,
        };
        write.apply(accounts)?;
        self.repeated_accounts += write.repeated;
        Ok(())
    }

    /// DescribeImageSharePermission as of a time at most `history_ms` ago: who had the image, and since when, in
    /// order of the ids.
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
            let exists = self.open_images && !self.images.contains_key(&image);
            return match self.dials.list_unknown {
                Unknown::Error if !exists => Err(Refusal::image_unknown(image, region)),
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

    /// DescribeImages for one image. `None` if it does not exist for the caller and the answer is an empty set.
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
        if self.open_images && !self.images.contains_key(&image) {
            let (image_type, license) = (ImageType::default(), License::default());
            let state = if self.busy.get(&image).is_some_and(|&until| now < until) { BUSY } else { ImageState::Normal };
            return Ok(Some(ImageView { owner: caller, name: "", state, image_type, license }));
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

    /// DescribeImages for all images a caller sees in a region, in order of the ids.
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

    /// How many accounts have an image now.
    #[must_use]
    pub fn shared_count(&self, image: ImageId) -> usize {
        self.images.get(&image).map_or(0, |entry| entry.shares.len())
    }

    /// The whole truth now: every image the ledger holds and who has it, both in order of the ids.
    pub fn state(&self) -> impl Iterator<Item = (ImageId, impl Iterator<Item = AccountId> + '_)> + '_ {
        self.images.iter().map(|(&id, entry)| (id, entry.shares.keys().copied()))
    }

    /// Accounts in accepted writes that were already as asked for.
    #[must_use]
    pub const fn repeated_accounts(&self) -> u64 {
        self.repeated_accounts
    }

    fn view<'a>(&self, id: ImageId, entry: &'a Entry, now: u64, caller: AccountId) -> ImageView<'a> {
        let image = &entry.image;
        ImageView {
            owner: image.owner,
            name: &image.name,
            state: state(entry, &self.busy, id, now),
            image_type: entry.type_for(caller),
            license: image.license,
        }
    }
}

/// The state of an image while another operation occupies it: being copied to another region is the common case.
const BUSY: ImageState = ImageState::Syncing;

/// The state of an image at a time.
fn state(entry: &Entry, busy: &BTreeMap<ImageId, u64>, id: ImageId, now: u64) -> ImageState {
    if busy.get(&id).is_some_and(|&until| now < until) { BUSY } else { entry.state(now) }
}

/// What forbids any write to an image.
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

/// A write that has passed the checks of its image.
struct Write<'a> {
    now: u64,
    caller: AccountId,
    image: ImageId,
    permission: Permission,
    alone: bool,
    shared_before: usize,
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
                let done = accounts.iter().try_for_each(|&account| self.one(account, accounts.len()));
                if done.is_err() {
                    self.entry.roll_back(mark);
                }
                done
            }
            FailingBatch::UntilFirst => accounts.iter().try_for_each(|&account| self.one(account, accounts.len())),
            FailingBatch::UntilLast => accounts.iter().rev().try_for_each(|&account| self.one(account, accounts.len())),
            FailingBatch::Others => {
                let mut first = Ok(());
                for &account in accounts {
                    let done = self.one(account, accounts.len());
                    first = first.and(done);
                }
                first
            }
        }
    }

    fn one(&mut self, account: AccountId, named: usize) -> Result<(), Refusal> {
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
            return Err(Refusal::over_quota(self.image, self.shared_before, named, self.dials.cap));
        }
        self.entry.set(self.now, account, self.permission == Permission::Share);
        Ok(())
    }
}

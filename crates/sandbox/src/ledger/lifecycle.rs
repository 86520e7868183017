//! Creation, copies, attributes and deletion of images.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use imageshare_core::ids::{AccountId, ImageId, Region};

use super::{Entry, Image, ImageState, ImageType, Ledger, OPEN_IMAGES_MAX, Refusal, regions, state};

/// Once there are this many images, requests can create no more.
pub const CREATED_IMAGES_MAX: usize = 5000;

/// The time, the account and the region of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// In milliseconds.
    pub now: u64,
    /// The account of the key.
    pub caller: AccountId,
    /// The region of the request.
    pub region: Region,
}

/// Whether a request takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// The request is only checked. If it is valid, it is refused with `DryRunOperation`.
    DryRun,
    /// The request takes effect.
    Real,
}

/// The attributes of an image that requests set. `None` keeps the current value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Unique among the images of an account in a region.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The family.
    pub family: Option<String>,
    /// Whether it is deprecated.
    pub deprecated: Option<bool>,
    /// The tags, as keys and values.
    pub tags: Option<Vec<(String, String)>>,
}

/// The parameters of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCopy {
    /// The image to copy.
    pub image: ImageId,
    /// The name of the copies; `None` is the name of the image.
    pub name: Option<String>,
    /// Whether the copies are encrypted.
    pub encrypted: bool,
    /// The regions and the new ids.
    pub targets: Vec<(Region, ImageId)>,
}

impl Execution {
    pub(super) fn check(self) -> Result<(), Refusal> {
        match self {
            Self::DryRun => {
                Err(Refusal::new("DryRunOperation", "The request would have succeeded, but the DryRun flag is set."))
            }
            Self::Real => Ok(()),
        }
    }
}

impl Attributes {
    fn apply(self, image: &mut Image) {
        let Self { name, description, family, deprecated, tags } = self;
        let Image { name: old_name, description: old_description, tags: old_tags, .. } = image;
        *old_name = name.unwrap_or_else(|| core::mem::take(old_name));
        *old_description = description.unwrap_or_else(|| core::mem::take(old_description));
        *old_tags = tags.unwrap_or_else(|| core::mem::take(old_tags));
        image.family = family.or_else(|| image.family.take());
        image.deprecated = deprecated.unwrap_or(image.deprecated);
    }
}

impl Ledger {
    /// Whether an image is in the ledger, in any region, or was deleted from an open world.
    #[must_use]
    pub fn contains(&self, image: ImageId) -> bool {
        self.images.contains_key(&image) || self.deleted.contains(&image)
    }

    /// CreateImage from an instance. The image is `CREATING` for the time of the dial `create_ms`. Its id must be new.
    ///
    /// # Errors
    /// With the documented code.
    pub fn create_image(
        &mut self,
        scope: Scope,
        id: ImageId,
        instance: &str,
        attributes: Attributes,
        execution: Execution,
    ) -> Result<(), Refusal> {
        let Scope { now, caller, region } = scope;
        let normal_at = now.saturating_add(self.dials.create_ms);
        self.check_room(caller, region, attributes.name.as_deref().unwrap_or_default(), None)?;
        let instance = self.machines.instance_mut(scope, instance)?;
        if instance.imaged_until > now {
            let message = "An image of the instance is being created. Try again later.";
            return Err(Refusal::new("MutexOperation.TaskRunning", message));
        }
        execution.check()?;
        instance.imaged_until = normal_at;
        let mut image = Image {
            created: now / 1000,
            state: ImageState::Creating,
            normal_at: Some(normal_at),
            ..Image::normal(caller, region)
        };
        attributes.apply(&mut image);
        self.images.insert(id, Entry::new(image));
        Ok(())
    }

    /// SyncImages. The copies, and the image itself, are `SYNCING` for the time of the dial `copy_ms`. The ids of the
    /// copies must be new.
    ///
    /// # Errors
    /// With the documented code.
    pub fn copy_image(&mut self, scope: Scope, copy: &ImageCopy, execution: Execution) -> Result<(), Refusal> {
        let Scope { now, caller, region } = scope;
        let ImageCopy { image, name, encrypted, targets } = copy;
        self.materialize(scope, *image)?;
        let (source, kind) = self.copyable(scope, *image)?;
        let source = source.clone();
        let name = name.as_ref().unwrap_or(&source.name);
        // A shared image, and an encrypted copy, stay in the region of the image.
        let stays = kind == ImageType::Shared || *encrypted;
        let mut seen = BTreeSet::new();
        for &(target, _) in targets {
            if (target == region) != stays {
                let expected =
                    if stays { "only the region of the image" } else { "other regions than that of the image" };
                return Err(Refusal::new(
                    "InvalidParameterValue.InvalidRegion",
                    format!("The image `{image}` cannot be copied to the region `{target}` (expected {expected})."),
                ));
            }
            if !seen.insert(target) {
                return Err(Refusal::name_taken(name, target));
            }
            regions::check_copy(region, target)?;
            self.check_room(caller, target, name, None)?;
        }
        execution.check()?;
        let normal_at = now.saturating_add(self.dials.copy_ms);
        for &(region, id) in targets {
            let copy = Image {
                name: name.clone(),
                description: source.description.clone(),
                family: source.family.clone(),
                license: source.license,
                encrypted: *encrypted,
                created: now / 1000,
                state: ImageState::Syncing,
                normal_at: Some(normal_at),
                ..Image::normal(caller, region)
            };
            self.images.insert(id, Entry::new(copy));
        }
        if kind == ImageType::Private
            && let Some(source) = self.images.get_mut(image)
        {
            (source.image.state, source.image.normal_at) = (ImageState::Syncing, Some(normal_at));
        }
        Ok(())
    }

    /// DeleteImages. If one image is refused, all remain.
    ///
    /// # Errors
    /// With the documented code.
    pub fn delete_images(&mut self, scope: Scope, images: &[ImageId], execution: Execution) -> Result<(), Refusal> {
        for &id in images {
            self.materialize(scope, id)?;
            let entry = self.visible(scope, id)?;
            match entry.type_for(scope.caller) {
                ImageType::Private => {}
                ImageType::Public => return Err(Refusal::image_not_shareable(id, ImageType::Public.as_str())),
                ImageType::Shared => {
                    return Err(Refusal::new(
                        "InvalidParameterValue.InvalidImageIdIsShared",
                        format!("The image `{id}` belongs to another account, which shares it."),
                    ));
                }
            }
            if !entry.shares.is_empty() {
                let message = format!("The image `{id}` is shared with {} accounts.", entry.shares.len());
                return Err(Refusal::new("InvalidImageId.InShared", message));
            }
            match state(entry, &self.busy, id, scope.now) {
                ImageState::Normal | ImageState::CreateFailed | ImageState::ImportFailed => {}
                state => return Err(Refusal::incorrect_state(id, state)),
            }
        }
        execution.check()?;
        for id in images {
            self.images.remove(id);
            self.busy.remove(id);
            if self.open_images {
                self.deleted.insert(*id);
            }
        }
        Ok(())
    }

    /// ModifyImageAttribute.
    ///
    /// # Errors
    /// With the documented code.
    pub fn set_attributes(&mut self, scope: Scope, id: ImageId, attributes: Attributes) -> Result<(), Refusal> {
        self.materialize(scope, id)?;
        let entry = self.visible(scope, id)?;
        if entry.type_for(scope.caller) != ImageType::Private {
            return Err(Refusal::new(
                "UnsupportedOperation.SharedImageModifyUnsupported",
                format!("The image `{id}` belongs to another account."),
            ));
        }
        match state(entry, &self.busy, id, scope.now) {
            ImageState::Normal => {}
            state => return Err(Refusal::incorrect_state(id, state)),
        }
        if let Some(name) = &attributes.name {
            self.check_name(scope.caller, scope.region, name, Some(id))?;
        }
        if let Some(entry) = self.images.get_mut(&id) {
            attributes.apply(&mut entry.image);
        }
        Ok(())
    }

    /// Returns an image that can be copied, with its type for the caller.
    fn copyable(&self, scope: Scope, id: ImageId) -> Result<(&Image, ImageType), Refusal> {
        let entry = self.visible(scope, id)?;
        let kind = entry.type_for(scope.caller);
        if kind == ImageType::Public {
            return Err(Refusal::image_not_shareable(id, ImageType::Public.as_str()));
        }
        if entry.image.instance_image {
            return Err(Refusal::instance_image(id));
        }
        if entry.image.encrypted {
            return Err(Refusal::encrypted(id));
        }
        match state(entry, &self.busy, id, scope.now) {
            ImageState::Normal => Ok((&entry.image, kind)),
            state @ (ImageState::CreateFailed | ImageState::ImportFailed) => Err(Refusal::incorrect_state(id, state)),
            state => Err(Refusal {
                code: "FailedOperation.InvalidImageState".into(),
                ..Refusal::image_busy(id, state.as_str())
            }),
        }
    }

    /// Returns an image that the caller sees in the region.
    fn visible(&self, scope: Scope, id: ImageId) -> Result<&Entry, Refusal> {
        let entry = self.images.get(&id).filter(|entry| entry.is_visible(scope.caller, scope.region));
        entry.ok_or_else(|| Refusal::image_unknown(id, scope.region))
    }

    /// Checks that an account may have one more image in a region, with that name.
    fn check_room(&self, owner: AccountId, region: Region, name: &str, id: Option<ImageId>) -> Result<(), Refusal> {
        let images = self.images.values().filter(|entry| entry.image.owner == owner && entry.image.region == region);
        let quota = self.dials.image_quota;
        if images.count() >= quota {
            let message =
                format!("The region `{region}` holds {quota} custom images of the account, which is its quota.");
            return Err(Refusal::new("ImageQuotaLimitExceeded", message));
        }
        let known = self.images.len() + self.deleted.len();
        if self.images.len() >= CREATED_IMAGES_MAX || known >= OPEN_IMAGES_MAX {
            return Err(Refusal::no_room(known));
        }
        self.check_name(owner, region, name, id)
    }

    fn check_name(&self, owner: AccountId, region: Region, name: &str, except: Option<ImageId>) -> Result<(), Refusal> {
        let is_taken = self.images.iter().any(|(&id, Entry { image, .. })| {
            !name.is_empty()
                && image.name == name
                && image.owner == owner
                && image.region == region
                && Some(id) != except
        });
        if is_taken { Err(Refusal::name_taken(name, region)) } else { Ok(()) }
    }
}

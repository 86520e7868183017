//! The images of a job: one, or a list.

use std::{collections::BTreeMap, fmt, ops::Deref, str::FromStr};

use imageshare_core::{
    ids::{ImageId, ImageIdError, Region, RegionError},
    text::excerpt,
};
use serde::{Deserialize, Serialize};

use super::{
    job::{self, ACCOUNTS_MAX, AccountLists, MemberProblem},
    value::{Value, unknown_member},
};

/// Images that a job may name. A report of 1,000 images fits the broker's limit for messages.
pub const IMAGES_MAX: usize = 1_000;

/// The members of an image in `images`, with their aliases.
const MEMBERS: [&[&str]; 3] = [&["region", "Region"], &["image_id", "ImageId"], &["account_ids", "AccountIds"]];

/// An image in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobImage {
    /// The region of the image.
    pub region: Region,
    /// The image.
    pub image_id: ImageId,
}

/// The images that a job names: 1 to [`IMAGES_MAX`], none twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Images(Box<[JobImage]>);

/// Why a list is not one of a job's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImagesError {
    /// It has no image.
    #[error("empty list (expected 1 to {max} images)", max = IMAGES_MAX)]
    Empty,
    /// It has too many images.
    #[error("{0} images (expected 1 to {max} images)", max = IMAGES_MAX)]
    TooMany(usize),
    /// An image is in it twice.
    #[error("{image} is in the list twice (expected each image once)")]
    Repeated {
        /// The image.
        image: JobImage,
        /// The index where it is named again.
        index: usize,
    },
}

impl Images {
    /// Validates a list of images.
    ///
    /// # Errors
    /// If it is empty or too long, or names an image twice.
    pub fn new(images: impl Into<Box<[JobImage]>>) -> Result<Self, ImagesError> {
        let images = images.into();
        match images.len() {
            0 => return Err(ImagesError::Empty),
            1..=IMAGES_MAX => {}
            more => return Err(ImagesError::TooMany(more)),
        }
        let mut named = BTreeMap::new();
        for (index, image) in images.iter().enumerate() {
            if named.insert(image, index).is_some() {
                return Err(ImagesError::Repeated { image: *image, index });
            }
        }
        Ok(Self(images))
    }

    /// Returns the image if there is only one.
    #[must_use]
    pub const fn single(&self) -> Option<JobImage> {
        match &*self.0 {
            [image] => Some(*image),
            _ => None,
        }
    }

    /// Returns the region of each image.
    pub fn regions(&self) -> impl Iterator<Item = Region> + Clone {
        self.iter().map(|image| image.region)
    }
}

impl From<JobImage> for Images {
    fn from(image: JobImage) -> Self {
        Self([image].into())
    }
}

impl Deref for Images {
    type Target = [JobImage];

    fn deref(&self) -> &[JobImage] {
        &self.0
    }
}

impl FromStr for JobImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (region, image_id) = text.split_once(':').ok_or("expected REGION:ID, such as ap-singapore:img-6pb6lrmy")?;
        let region = region.parse().map_err(|error: RegionError| error.to_string())?;
        let image_id = image_id.parse().map_err(|error: ImageIdError| error.to_string())?;
        Ok(Self { region, image_id })
    }
}

impl fmt::Display for JobImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.region, self.image_id)
    }
}

/// Reads the member `images`. `region` is the region of images without one.
pub(super) fn read(value: &Value<'_>, region: Option<Region>) -> Result<Images, MemberProblem> {
    let elements = elements(value)?;
    // Before each is read, so that a long list costs nothing.
    if elements.len() > IMAGES_MAX {
        return Err(problem("images", ImagesError::TooMany(elements.len()).to_string()));
    }
    let images: Vec<_> = elements
        .iter()
        .enumerate()
        .map(|(index, element)| ImageMembers::read(index, element)?.image(region))
        .collect::<Result<_, _>>()?;
    Images::new(images).map_err(|error| match error {
        ImagesError::Repeated { index, .. } => problem(format!("images[{index}]"), error.to_string()),
        ImagesError::Empty | ImagesError::TooMany(_) => problem("images", error.to_string()),
    })
}

/// Reads the account ids of each image in the member `images`, which [`read`] accepts. Returns `None` if no image has its own.
pub(super) fn read_account_ids(value: &Value<'_>) -> Result<Option<AccountLists>, MemberProblem> {
    let members = elements(value)?.iter().enumerate().map(|(index, element)| ImageMembers::read(index, element));
    let members = members.collect::<Result<Vec<_>, _>>()?;
    if members.iter().all(|members| members.get("account_ids").is_none()) {
        return Ok(None);
    }
    let read = |members: &ImageMembers<'_>| job::account_ids(&members.name("account_ids"), members.get("account_ids"));
    let lists = members.iter().map(read).collect::<Result<AccountLists, _>>()?;
    match lists.iter().map(|list| list.len()).sum::<usize>() {
        0..=ACCOUNTS_MAX => Ok(Some(lists)),
        more => Err(problem(
            "images",
            format!("{more} account ids of all images (expected at most {ACCOUNTS_MAX} per job)"),
        )),
    }
}

fn elements<'a>(value: &'a Value<'a>) -> Result<&'a [Value<'a>], MemberProblem> {
    match value {
        Value::Array(elements) => Ok(elements),
        other => Err(problem("images", format!("invalid value {other} (expected a list of images)"))),
    }
}

/// The members of one image.
struct ImageMembers<'a> {
    index: usize,
    values: [Option<&'a Value<'a>>; MEMBERS.len()],
}

impl<'a> ImageMembers<'a> {
    fn read(index: usize, value: &'a Value<'a>) -> Result<Self, MemberProblem> {
        let Value::Object(pairs) = value else {
            let invalid = format!("invalid value {value} (expected an object with region and image_id)");
            return Err(problem(format!("images[{index}]"), invalid));
        };
        let mut values = [None; MEMBERS.len()];
        for (name, value) in pairs {
            let place = MEMBERS.iter().position(|names| names.contains(&name.as_ref()));
            match place.and_then(|place| values.get_mut(place)) {
                Some(slot @ None) => *slot = Some(value),
                Some(Some(_)) => {
                    let twice = "set twice (expected once, under one of its names)";
                    return Err(problem(format!("images[{index}].{name}"), twice));
                }
                None => {
                    let member = format!("images[{index}].{}", excerpt(name));
                    return Err(problem(member, unknown_member(name, &MEMBERS)));
                }
            }
        }
        Ok(Self { index, values })
    }

    /// Returns the value of a member. An optional member that is null, or a region that is an empty text, counts as absent.
    fn get(&self, member: &str) -> Option<&'a Value<'a>> {
        let place = MEMBERS.iter().position(|names| names.first() == Some(&member));
        let value = place.and_then(|place| self.values.get(place).copied().flatten())?;
        let is_absent = match value {
            Value::Null => member != "image_id",
            Value::Text(text) => text.is_empty() && member == "region",
            _ => false,
        };
        (!is_absent).then_some(value)
    }

    fn name(&self, member: &str) -> String {
        format!("images[{}].{member}", self.index)
    }

    fn image(&self, region: Option<Region>) -> Result<JobImage, MemberProblem> {
        let read = |member: &str| self.get(member).ok_or_else(|| format!("missing ({})", expected(member)));
        let named = |member: &str, result: Result<_, String>| result.map_err(|text| problem(self.name(member), text));
        let region = match (self.get("region"), region) {
            (None, Some(region)) => region,
            _ => named("region", read("region").and_then(|value| value.parsed(job::ALLOWED_REGION)))?,
        };
        let image_id = read("image_id").and_then(|value| value.parsed(job::ALLOWED_IMAGE));
        let image_id = image_id.map_err(|text| problem(self.name("image_id"), text))?;
        Ok(JobImage { region, image_id })
    }
}

fn expected(member: &str) -> String {
    format!("expected {}", if member == "region" { job::ALLOWED_REGION } else { job::ALLOWED_IMAGE })
}

fn problem(member: impl Into<String>, problem: impl Into<String>) -> MemberProblem {
    MemberProblem { member: member.into(), problem: problem.into() }
}

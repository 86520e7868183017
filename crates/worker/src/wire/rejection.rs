//! Why a text is not a job: place, member, problem, expectation.

use std::{collections::BTreeMap, fmt, sync::Arc};

use imageshare_core::ids::{ImageId, Region};

use super::{Images, job::Identity, mode::Permission};

/// The maximum number of characters of a rejection's text in a report: the sum of the bounds of its parts.
const REASON_CHARS_MAX: usize = 2_000;

/// A text that is not a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The place of the text; `None` if it has none.
    pub place: Option<Place>,
    /// Which member, such as `account_ids[2]`; `None` if it is about the text as a whole.
    pub member: Option<String>,
    /// The problem, safe to print: `invalid value "share" (expected ...)`.
    pub problem: String,
    /// The members that are valid all the same, for the report of the rejected job.
    pub known: Box<Known>,
}

/// A line of a file, shown as `jobs.ndjson:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the file, safe to print.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u64,
}

/// The valid members of a rejected job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub job_id: Option<String>,
    /// Its lane.
    pub lane: Option<String>,
    /// The image, of a job with one.
    pub image_id: Option<ImageId>,
    /// The region of that image.
    pub region: Option<Region>,
    /// The images of a job with several.
    pub images: Option<Images>,
    /// The requested permission.
    pub permission: Option<Permission>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

impl Rejection {
    /// Returns a rejection of a text as a whole.
    #[must_use]
    pub fn of_text(problem: impl Into<String>) -> Self {
        Self { place: None, member: None, problem: problem.into(), known: Box::default() }
    }

    /// Returns a rejection of a well-formed job whose lane or region is not served.
    #[must_use]
    pub fn of_job(identity: &Identity, member: Option<&str>, problem: impl Into<String>) -> Self {
        let known = Box::new(Known::from(identity));
        Self { place: None, member: member.map(str::to_owned), problem: problem.into(), known }
    }

    /// Adds the place of the text.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Returns one line of bounded length, the `reason` of a report.
    #[must_use]
    pub fn reason(&self) -> String {
        imageshare_core::text::printable(&self.to_string(), REASON_CHARS_MAX)
    }
}

impl std::error::Error for Rejection {}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(member) = &self.member {
            write!(f, "{member}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl From<&Identity> for Known {
    fn from(identity: &Identity) -> Self {
        let single = identity.images.single();
        Self {
            job_id: Some(identity.job_id.clone()),
            lane: identity.lane.clone(),
            image_id: single.map(|image| image.image_id),
            region: single.map(|image| image.region),
            images: if single.is_some() { None } else { Some(identity.images.clone()) },
            permission: Some(identity.permission),
            labels: identity.labels.clone(),
        }
    }
}

//! Why a text is no job: where it stood, which member, what was found and what is allowed.

use std::{collections::BTreeMap, fmt, sync::Arc};

use imageshare_core::ids::{ImageId, Region};

use super::{job::Identity, mode::Permission};

/// Characters of a rejection's text that a report holds at most. Every part of it is bounded; this is the sum.
const REASON_CHARS_MAX: usize = 2_000;

/// A text that is no job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Where the text stood; `None` where there is nothing but the text.
    pub place: Option<Place>,
    /// Which member, such as `account_ids[2]`; `None` if it is about the text as a whole.
    pub member: Option<String>,
    /// What was found and what is allowed, safe to print: `found "share", allowed is ...`.
    pub problem: String,
    /// What could be read nevertheless, for the rejected job's report.
    pub known: Box<Known>,
}

/// A line of a file, shown as `jobs.ndjson line 3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the file is called, safe to print.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u64,
}

/// What could be read of a job that was rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub job_id: Option<String>,
    /// The lane that it named.
    pub lane: Option<String>,
    /// The image.
    pub image_id: Option<ImageId>,
    /// The region.
    pub region: Option<Region>,
    /// What it wished.
    pub permission: Option<Permission>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

impl Rejection {
    /// A rejection of a text as a whole.
    #[must_use]
    pub fn of_text(problem: impl Into<String>) -> Self {
        Self { place: None, member: None, problem: problem.into(), known: Box::default() }
    }

    /// A rejection of a job that could be read, because of what it asks for: a lane or a region that nobody serves.
    #[must_use]
    pub fn of_job(identity: &Identity, member: Option<&str>, problem: impl Into<String>) -> Self {
        let known = Box::new(Known::from(identity));
        Self { place: None, member: member.map(str::to_owned), problem: problem.into(), known }
    }

    /// The same, and where it stood.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The whole as one line of bounded length: what a report gives as its `reason`.
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
        write!(f, "{} line {}", self.file, self.line)
    }
}

impl From<&Identity> for Known {
    fn from(identity: &Identity) -> Self {
        Self {
            job_id: Some(identity.job_id.clone()),
            lane: identity.lane.clone(),
            image_id: Some(identity.image_id),
            region: Some(identity.region),
            permission: Some(identity.permission),
            labels: identity.labels.clone(),
        }
    }
}

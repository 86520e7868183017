//! Undocumented behavior of the cloud, as settings.

use serde::{Deserialize, Deserializer};

/// Which accounts of a request are applied when one of them is refused, and which refusal is returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailingBatch {
    /// None is applied. The first refusal is returned.
    #[default]
    Nothing,
    /// Those before the first refused account are applied.
    UntilFirst,
    /// The request is processed from its end: those after the last refused account are applied.
    UntilLast,
    /// All others are applied. The first refusal is returned.
    Others,
}

/// Whether a request for the current state succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// It succeeds and changes nothing.
    Succeeds,
    /// It fails with a code for the account.
    Fails,
}

/// Whether a second write is accepted while another write on the same image is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SimultaneousWrite {
    /// It is applied after the first one.
    #[default]
    Accepted,
    /// It fails with `InvalidParameterValue.InvalidImageState`.
    Refused,
}

/// The response to a read of an image that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// An empty list.
    #[default]
    Empty,
    /// The error `InvalidImageId.NotFound`.
    Error,
}

/// The dials of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Dials {
    /// The maximum number of accounts that an image is shared with.
    pub cap: usize,
    /// The maximum number of accounts in a request; `None` is unlimited, written as 0 in a file.
    #[serde(deserialize_with = "zero_is_unlimited")]
    #[cfg_attr(feature = "server", schemars(with = "usize"))]
    pub batch_limit: Option<usize>,
    /// The maximum number of entries in a listing; `None` is unlimited.
    pub listing_limit: Option<usize>,
    /// Which accounts of a failing request are applied.
    pub failing_batch: FailingBatch,
    /// SHARE of one account that has the image.
    pub share_again_alone: Repeat,
    /// SHARE of several accounts when one of them has the image.
    pub share_again_in_batch: Repeat,
    /// CANCEL of an account that does not have the image.
    pub cancel_absent: Repeat,
    /// A write while another one on the image is in flight. Only the server uses this dial: in the ledger a write is
    /// instantaneous.
    pub simultaneous_write: SimultaneousWrite,
    /// DescribeImages of an image that does not exist.
    pub describe_unknown: Unknown,
    /// DescribeImageSharePermission of an image that does not exist.
    pub list_unknown: Unknown,
    /// The maximum number of images of an account in a region.
    pub image_quota: usize,
    /// For how many milliseconds an image is `CREATING`.
    pub create_ms: u64,
    /// For how many milliseconds a copy, and its source, are `SYNCING`.
    pub copy_ms: u64,
    /// For how many milliseconds changes are kept, so that a listing can lag by as much.
    pub history_ms: u64,
}

impl Default for Dials {
    /// The documented values, and the likelier ones where nothing is documented.
    fn default() -> Self {
        Self {
            cap: 500,
            batch_limit: Some(100),
            listing_limit: None,
            failing_batch: FailingBatch::default(),
            share_again_alone: Repeat::Fails,
            share_again_in_batch: Repeat::Fails,
            cancel_absent: Repeat::Succeeds,
            simultaneous_write: SimultaneousWrite::default(),
            describe_unknown: Unknown::Empty,
            list_unknown: Unknown::Error,
            image_quota: 500,
            create_ms: 3000,
            copy_ms: 3000,
            history_ms: 60_000,
        }
    }
}

fn zero_is_unlimited<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    usize::deserialize(from).map(|limit| (limit > 0).then_some(limit))
}

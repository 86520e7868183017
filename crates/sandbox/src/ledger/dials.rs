//! What nobody outside the cloud knows, as settings.

use serde::Deserialize;

/// What becomes of the good accounts of a request that fails for a bad one.
///
/// It also says which bad account is the one blamed, where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailingBatch {
    /// Nothing is applied; the first bad account of the request is blamed.
    #[default]
    Nothing,
    /// Those before the first bad one are applied.
    UntilFirst,
    /// The request is worked off from its end: those after the last bad one are applied.
    UntilLast,
    /// Every good one is applied; the first bad one is blamed.
    Others,
}

/// Whether asking for what is so already succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// It does, and changes nothing.
    #[default]
    Succeeds,
    /// It does not, and the account is blamed.
    Fails,
}

/// What a reading of an image that does not exist answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
#[serde(default, deny_unknown_fields)]
pub struct Dials {
    /// Accounts an image may be shared with.
    pub cap: usize,
    /// Accounts that one request may name; `None` for no limit.
    pub batch_limit: Option<usize>,
    /// Entries that a listing of shares holds at most; `None` for all.
    pub listing_limit: Option<usize>,
    /// What becomes of the good accounts of a failing request.
    pub failing_batch: FailingBatch,
    /// SHARE of one account that has the image.
    pub share_again_alone: Repeat,
    /// SHARE of several accounts of which one has the image.
    pub share_again_in_batch: Repeat,
    /// CANCEL of an account that does not have the image.
    pub cancel_absent: Repeat,
    /// DescribeImages of an image that does not exist.
    pub describe_unknown: Unknown,
    /// DescribeImageSharePermission of an image that does not exist.
    pub list_unknown: Unknown,
    /// Milliseconds for which changes are remembered, so that a reading can be answered as of then.
    pub history_ms: u64,
}

impl Default for Dials {
    /// What the vendor documents, and the likelier half of what it does not.
    fn default() -> Self {
        Self {
            cap: 500,
            batch_limit: None,
            listing_limit: None,
            failing_batch: FailingBatch::default(),
            share_again_alone: Repeat::default(),
            share_again_in_batch: Repeat::default(),
            cancel_absent: Repeat::default(),
            describe_unknown: Unknown::Empty,
            list_unknown: Unknown::Error,
            history_ms: 60_000,
        }
    }
}

//! Flags of the commands for the queue: `worker`, `publish`, `dead`, `reports` and `topology`.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValuesParser};
use imageshare_core::ids::{AccountId, ImageId};
use imageshare_worker::{
    broker::{Age, Retention, Size},
    wire::report::Status,
};

use crate::reports::Since;

#[derive(Args, Debug)]
pub(crate) struct PublishArguments {
    /// Jobs, one JSON object per line or CSV; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The region of jobs that name none [env: TENCENTCLOUD_REGION]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Wait for the reports of these jobs, print them, and exit with the same codes as imageshare run
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to retry while the broker is unreachable or accepts no messages: 90s, 2m, or seconds [env:
    /// IMAGESHARE_GIVE_UP_AFTER] [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) give_up_after: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Show dead letters, oldest first
    List(DeadFilter),
    /// Send dead letters to their lanes again; each is removed once the broker has confirmed the job
    Replay(DeadArguments),
    /// Remove dead letters
    Drop(DeadArguments),
}

/// Flags of the commands that change dead letters.
#[derive(Args, Debug)]
pub(crate) struct DeadArguments {
    #[command(flatten)]
    pub(crate) filter: DeadFilter,
    /// Select all dead letters; needed if no other flag selects some
    #[arg(long, conflicts_with_all = ["code", "reason", "image", "limit"])]
    pub(crate) all: bool,
    /// Print what would change, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Flags that select dead letters, besides the common flag `--lane`.
#[derive(Args, Debug)]
pub(crate) struct DeadFilter {
    /// Only those whose first failed account failed with this code
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Only those with this reason
    #[arg(long, value_enum)]
    pub(crate) reason: Option<DeadReason>,
    /// Only those of this image
    #[arg(long, value_name = "ID")]
    pub(crate) image: Option<ImageId>,
    /// Only the first N
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroU64>,
    /// How long to retry while the broker is unreachable or accepts no messages: 90s, 2m, or seconds [env:
    /// IMAGESHARE_GIVE_UP_AFTER] [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) give_up_after: Option<String>,
}

/// The reason of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeadReason {
    /// An account failed
    Failed,
    /// The message is not a job, or not one for its lane
    Rejected,
    /// Dropped by the broker: its time to live ended
    Expired,
    /// Dropped by the broker: delivered more often than the delivery limit allows
    #[value(name = "delivery_limit")]
    DeliveryLimit,
    /// Dropped by the broker: the queue was longer than its limit
    Maxlen,
}

impl DeadReason {
    /// Returns the reason in its spelling in dead letters.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::DeliveryLimit => "delivery_limit",
            Self::Maxlen => "maxlen",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct TopologyArguments {
    /// Declare missing exchanges and queues, and report those that differ
    #[arg(long)]
    pub(crate) declare: bool,
    /// Include the stream imageshare.history, which keeps a copy of every report for this long: 30d, 12h
    #[arg(long, value_name = "TIME")]
    pub(crate) history: Option<Age>,
    /// Disk space of the history on each node; when it is full, the oldest reports are dropped
    #[arg(long, value_name = "SIZE", default_value_t = Retention::DEFAULT_SIZE, requires = "history")]
    pub(crate) history_size: Size,
}

/// Flags that select reports, besides the common flag `--lane`.
#[derive(Args, Debug)]
pub(crate) struct ReportsArguments {
    /// Only those of jobs with this id
    #[arg(long, value_name = "ID")]
    pub(crate) job_id: Option<String>,
    /// Only those of this image
    #[arg(long, value_name = "ID")]
    pub(crate) image: Option<ImageId>,
    /// Only those with an outcome for this account
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<AccountId>,
    /// Only those with this status
    #[arg(long, value_enum)]
    pub(crate) status: Option<ReportStatus>,
    /// Only those of jobs that finished since this time: 2026-11-30T08:00:00Z, 2026-11-30 (UTC), or an age such as 24h or 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
}

/// The status of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportStatus {
    /// No account failed
    Succeeded,
    /// Some accounts failed
    Partial,
    /// Every account failed
    Failed,
    /// The message is not a job, or not one for its lane
    Rejected,
}

impl From<ReportStatus> for Status {
    fn from(status: ReportStatus) -> Self {
        match status {
            ReportStatus::Succeeded => Self::Succeeded,
            ReportStatus::Partial => Self::Partial,
            ReportStatus::Failed => Self::Failed,
            ReportStatus::Rejected => Self::Rejected,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct WorkerArguments {
    /// Declare exchanges and queues that the broker lacks
    #[arg(long)]
    pub(crate) declare: bool,
    /// How long to wait for requests in flight at shutdown: 25s, 1m, or seconds [env: IMAGESHARE_GRACE]
    /// [default: 25s]
    #[arg(long, value_name = "TIME")]
    pub(crate) grace: Option<String>,
    /// Serve status and metrics at this address, such as 127.0.0.1:9701 [env: IMAGESHARE_ADMIN] [default: unset]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Log level: debug adds jobs and refused requests, trace adds deliveries and all requests [env: IMAGESHARE_LOG]
    /// [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]))]
    pub(crate) log: Option<String>,
}

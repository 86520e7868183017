//! The command line: commands, flags and their help.

use std::{net::SocketAddr, path::PathBuf, sync::LazyLock};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;
use imageshare_core::{
    actions::Tag,
    ids::{AccountId, ImageId},
    tc3,
};
use imageshare_worker::{
    broker::{Age, Retention, Size},
    wire::{JobImage, report::Status},
};

use crate::{
    images::{Artifact, NamedImage},
    reports::Since,
};

// A paragraph is one line, which the help breaks where the terminal ends.
const RULES: &str = "\
Keys come from TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY (and TENCENTCLOUD_TOKEN for a temporary key), else \
from the profile file ~/.tencentcloud/credentials; never from a flag. Flags take precedence over IMAGESHARE_* \
variables, and those over the settings file. The broker's address holds a password: IMAGESHARE_BROKER_URL, or the \
settings file; never a flag.\n";

/// Share Tencent Cloud machine images with hundreds of accounts, exactly and within the API's limit
#[derive(Debug, Parser)]
#[command(name = "imageshare", version = version(), after_help = RULES, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The version, with the revision if it is known.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| match imageshare_worker::REVISION {
        "unknown" => env!("CARGO_PKG_VERSION").to_owned(),
        revision => format!("{} ({revision})", env!("CARGO_PKG_VERSION")),
    });
    &VERSION
}

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Common {
    /// Settings file (TOML) [env: IMAGESHARE_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Endpoint of the API: https://HOST, or http://127.0.0.1:PORT for a sandbox [env: IMAGESHARE_ENDPOINT]
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) endpoint: Option<String>,
    /// Requests per second, for each lane and action [env: IMAGESHARE_RATE] [default: 10]
    #[arg(long, value_name = "N", global = true)]
    pub(crate) rate: Option<String>,
    /// Accounts per request, 1 to 500 [env: IMAGESHARE_BATCH] [default: 50]
    #[arg(long, value_name = "N", global = true)]
    pub(crate) batch: Option<String>,
    /// The lane of jobs that name none, where several serve a region [env: IMAGESHARE_LANE]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) lane: Option<String>,
    /// JSON lines on standard output, even on a terminal [env: IMAGESHARE_JSON]
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The form of standard output, wherever it goes; ids only with list and accounts
    #[arg(long, short, value_name = "FORMAT", value_enum, global = true)]
    pub(crate) output: Option<OutputFormat>,
    /// No progress, notices or summary on standard error; errors only [env: IMAGESHARE_QUIET]
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// A line on standard error about each request: action, image, accounts, outcome, time and RequestId
    #[arg(long, short, alias = "debug", global = true)]
    pub(crate) verbose: bool,
}

/// The form of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Account ids, one per line
    Ids,
    /// One JSON object per line
    Json,
    /// Tables and summaries for people
    Table,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// Also query the broker, the API and STS, and report what is missing; changes nothing
    #[arg(long)]
    pub(crate) connect: bool,
    /// Print only the smallest policy that the key needs; with --connect for the key's own account
    #[arg(long)]
    pub(crate) policy: bool,
    /// With --policy: an image that the key may share; may be repeated [default: all images]
    #[arg(long, value_name = "ID", requires = "policy")]
    pub(crate) image: Vec<ImageId>,
    /// With --policy: the region of the images [env: TENCENTCLOUD_REGION] [default: the regions of the lanes]
    #[arg(long, value_name = "REGION", requires = "policy")]
    pub(crate) region: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry out the share jobs of a file, or of standard input
    Run(RunArguments),
    /// Share an image with accounts
    Share(ImageArguments),
    /// Stop sharing an image with accounts
    #[command(visible_aliases = ["unshare", "revoke"])]
    Cancel(ImageArguments),
    /// Share an image with exactly these accounts
    Sync(SyncArguments),
    /// Carry out jobs from RabbitMQ until a signal
    #[command(after_help = "\
        SIGTERM and SIGINT finish requests in flight and requeue all other jobs; a second signal stops now. SIGHUP \
        reloads credentials, rates, batches and limits; if standard error is a terminal, it ends the worker as \
        SIGTERM does.")]
    Worker(WorkerArguments),
    /// List the accounts that an image is shared with
    List(ListArguments),
    /// List the member accounts of the Tencent Cloud Organization, for --accounts-file
    #[command(after_help = "\
        The key belongs to the account that administers the organization, and may call \
        organization:DescribeOrganizationMembers. That account, and members that have not confirmed their membership, \
        are left out.")]
    Accounts(AccountsArguments),
    /// Publish the share jobs of a file, or of standard input, to the broker
    Publish(PublishArguments),
    /// List, replay or remove dead letters
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Search the reports of finished jobs, if the broker keeps a history
    #[command(after_help = "\
                            imageshare topology --declare --history 30d creates the history.")]
    Reports(ReportsArguments),
    /// Print the exchanges and queues (definitions.json), or declare them
    Topology(TopologyArguments),
    /// Print every stage of a signature, to compare it with another program's
    Sign(Box<SignArguments>),
    /// Run a local fake of the API
    #[command(after_help = "\
        Its key is AKIDSANDBOXEXAMPLE with the secret sandbox-secret-key-example. Clients use it as an endpoint or as a \
        proxy (HTTPS_PROXY=http://ADDRESS). State, counters, log, faults and the certificate of the proxy are under \
        http://ADDRESS/_sandbox/.")]
    Sandbox(SandboxArguments),
    /// Print all settings with their origins; connects to nothing without --connect
    Check(CheckArguments),
    /// Print the JSON Schema of jobs, of reports, or of a file of the sandbox
    Schema {
        /// The document
        of: Document,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one per command
    Man {
        /// The folder for them
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// Jobs, one JSON object per line or CSV; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write every job's report to this file, one JSON object per line; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) report: Option<PathBuf>,
    /// The region of jobs that name none [env: TENCENTCLOUD_REGION]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Serve status and metrics at this address during the run
    #[arg(long, value_name = "ADDRESS", conflicts_with = "dry_run")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(crate) struct PublishArguments {
    /// Jobs, one JSON object per line or CSV; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The region of jobs that name none [env: TENCENTCLOUD_REGION]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Wait for the reports of these jobs, print them, and exit like run
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait for a broker that is out of reach or accepts no messages: 90s, 2m, or seconds [env:
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
    /// All dead letters, where no other flag selects some
    #[arg(long, conflicts_with_all = ["code", "reason", "image", "limit"])]
    pub(crate) all: bool,
    /// Print what would be done, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Do not ask on a terminal
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Which dead letters; `--lane` selects those of one lane.
#[derive(Args, Debug)]
pub(crate) struct DeadFilter {
    /// Only those whose first failed account failed with this code
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Only those with this reason
    #[arg(long, value_enum)]
    pub(crate) reason: Option<Reason>,
    /// Only those of this image
    #[arg(long, value_name = "ID")]
    pub(crate) image: Option<ImageId>,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// How long to wait for a broker that is out of reach or accepts no messages: 90s, 2m, or seconds [env:
    /// IMAGESHARE_GIVE_UP_AFTER] [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) give_up_after: Option<String>,
}

/// The reason of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reason {
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

impl Reason {
    /// Returns the reason as dead letters have it.
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
    /// Declare what is missing, and report what differs
    #[arg(long)]
    pub(crate) declare: bool,
    /// Include the stream imageshare.history, which keeps a copy of every report for this long: 30d, 12h
    #[arg(long, value_name = "TIME")]
    pub(crate) history: Option<Age>,
    /// Disk space for the history on each node, after which it drops the oldest reports
    #[arg(long, value_name = "SIZE", default_value_t = Retention::DEFAULT_SIZE, requires = "history")]
    pub(crate) history_size: Size,
}

/// Which reports; `--lane` selects those of one lane.
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
    /// Only those of jobs that finished since then: 2026-11-30T08:00:00Z, 2026-11-30 (UTC), or an age such as 24h or 7d
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

/// Flags of all commands that call the API about images.
#[derive(Args, Debug)]
pub(crate) struct ApiArguments {
    /// Work on a sandbox in this process, with its own key: no cloud, nothing to install
    #[arg(long, conflicts_with = "endpoint")]
    pub(crate) sandbox: bool,
    /// The world of that sandbox (TOML), with the key AKIDSANDBOXEXAMPLE in it; without this flag the one of
    /// examples/world.toml
    #[arg(long, value_name = "FILE", requires = "sandbox")]
    pub(crate) world: Option<PathBuf>,
    /// How long to wait for an endpoint or a credential that does not work: 90s, 2m, or seconds [env:
    /// IMAGESHARE_GIVE_UP_AFTER] [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) give_up_after: Option<String>,
}

/// Flags of all commands that change images.
#[derive(Args, Debug)]
pub(crate) struct WorkArguments {
    #[command(flatten)]
    pub(crate) api: ApiArguments,
    /// List the images' shares, print the plan, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImageArguments {
    #[command(flatten)]
    pub(crate) image: ImageChoice,
    #[command(flatten)]
    pub(crate) accounts: Accounts,
    /// Write every job's report to this file, one JSON object per line; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(crate) struct SyncArguments {
    #[command(flatten)]
    pub(crate) of_image: ImageArguments,
    #[command(flatten)]
    pub(crate) options: SyncOptions,
}

/// Flags of `sync` alone.
#[derive(Args, Debug, Default)]
pub(crate) struct SyncOptions {
    /// Cancel even more than half of the list
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) drift: DriftArguments,
}

/// What a dry run does about differences beside printing them.
#[derive(Args, Debug, Default)]
pub(crate) struct DriftArguments {
    /// With --dry-run: exit with 5 if the shares differ from the list, also where the SYNC would be refused
    #[arg(long, requires = "dry_run")]
    pub(crate) exit_code: bool,
    /// With --dry-run: write how many accounts are missing and extra to this file, for the textfile collector of Prometheus
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    pub(crate) metrics_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct WorkerArguments {
    /// Declare the exchanges and queues that are missing at the broker
    #[arg(long)]
    pub(crate) declare: bool,
    /// How long the shutdown may take before requests in flight are abandoned: 25s, 1m, or seconds [env: IMAGESHARE_GRACE]
    /// [default: 25s]
    #[arg(long, value_name = "TIME")]
    pub(crate) grace: Option<String>,
    /// Serve status and metrics at this address, such as 127.0.0.1:9701 [env: IMAGESHARE_ADMIN] [default: unset]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// How much to log: debug adds every job and refused requests, trace every delivery and request [env: IMAGESHARE_LOG]
    /// [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]))]
    pub(crate) log: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) image: ImageChoice,
    /// Print only the account ids, one per line
    #[arg(long)]
    pub(crate) ids: bool,
    #[command(flatten)]
    pub(crate) api: ApiArguments,
}

#[derive(Args, Debug)]
pub(crate) struct AccountsArguments {
    /// Only the members of this node (department)
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<u64>,
    /// Only members with this tag; may be repeated for members with all of them
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::accounts::parse_tag)]
    pub(crate) tag: Vec<Tag>,
    /// Also members that have not confirmed their membership
    #[arg(long)]
    pub(crate) unconfirmed: bool,
    #[command(flatten)]
    pub(crate) api: ApiArguments,
}

/// The images of a command.
#[derive(Args, Debug)]
pub(crate) struct ImageChoice {
    /// An image, as ID or REGION:ID; may be repeated
    #[arg(long, value_name = "ID", required_unless_present_any = ["artifact", "packer_manifest"])]
    pub(crate) image: Vec<NamedImage>,
    /// Images as Packer names its artifact: REGION:ID,REGION:ID
    #[arg(long, value_name = "IMAGES")]
    pub(crate) artifact: Vec<Artifact>,
    /// The images that the last run in this manifest of Packer built
    #[arg(long, value_name = "FILE")]
    pub(crate) packer_manifest: Option<PathBuf>,
    /// The region of images that are named without one [env: TENCENTCLOUD_REGION]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
}

/// The accounts of a command.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Accounts {
    /// An account; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) account: Vec<AccountId>,
    /// A file of accounts: a list with # for comments, a sheet with an account column, or JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) accounts_file: Option<PathBuf>,
    /// A list of accounts that the settings name, in their section `accounts`
    #[arg(long, value_name = "NAME")]
    pub(crate) accounts: Option<String>,
    /// The accounts that another image is shared with, such as its predecessor
    #[arg(long, value_name = "REGION:ID")]
    pub(crate) like: Option<JobImage>,
}

#[derive(Args, Debug)]
pub(crate) struct SignArguments {
    /// HTTP method
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) method: Method,
    /// Signature version 3, or one of the hashes of version 1
    #[arg(long, value_enum)]
    pub(crate) algorithm: Algorithm,
    /// The Host header as sent
    #[arg(long)]
    pub(crate) host: String,
    /// The service of the credential scope, such as cvm
    #[arg(long)]
    pub(crate) service: String,
    /// The action's name
    #[arg(long)]
    pub(crate) action: String,
    /// The API's version
    #[arg(long = "version", value_name = "VERSION")]
    pub(crate) api_version: String,
    /// The region, if the request has one
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// Seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timestamp: u64,
    /// A number for version 1
    #[arg(long, value_name = "NUMBER")]
    pub(crate) nonce: Option<u64>,
    /// The token of a temporary key
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// The Content-Type header [default: application/json, for GET application/x-www-form-urlencoded]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// Names of the signed headers [default: content-type;host;x-tc-action]
    #[arg(long, value_name = "NAMES")]
    pub(crate) signed_headers: Option<String>,
    /// The body: the bytes of this file
    #[arg(long, value_name = "FILE", group = "payload")]
    pub(crate) body: Option<PathBuf>,
    /// The query as sent, without the question mark
    #[arg(long, value_name = "TEXT", group = "payload", allow_hyphen_values = true)]
    pub(crate) query: Option<String>,
    /// A parameter; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "payload", allow_hyphen_values = true)]
    pub(crate) param: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SandboxArguments {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9700")]
    pub(crate) listen: SocketAddr,
    /// Every well-formed image and account exists (the default without --world)
    #[arg(long, conflicts_with = "world")]
    pub(crate) open: bool,
    /// Images, accounts, keys and dials (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) world: Option<PathBuf>,
    /// Load the images and their shares from this file (JSON) if it exists, and save them there at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Delay of each response: 80ms, 0.5s
    #[arg(long, value_name = "TIME", default_value = "0ms")]
    pub(crate) latency: String,
    /// Requests per second for each action and key; 0 is unlimited
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) rps: u32,
    /// Accounts an image may be shared with [default: 500, or that of the world]
    #[arg(long, value_name = "N")]
    pub(crate) cap: Option<usize>,
    /// Accounts one request may name; 0 is unlimited [default: 100, or that of the world]
    #[arg(long, value_name = "N")]
    pub(crate) batch_limit: Option<usize>,
    /// Use TLS, with a certificate for the names of the API, localhost, cvm.localhost and sts.localhost
    #[arg(long)]
    pub(crate) tls: bool,
    /// Another name in the certificate of --tls: a DNS name or an IP address (repeatable)
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) tls_name: Vec<String>,
    /// Write the certificate of the sandbox's authority to this file (PEM), for clients to trust
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Faults from the start (JSON, as in POST /_sandbox/faults)
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
}

/// HTTP methods of the API.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Method {
    /// Parameters in the query
    #[value(name = "GET")]
    Get,
    /// Parameters in the body
    #[value(name = "POST")]
    Post,
}

/// Signature algorithms of the API.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Algorithm {
    /// TC3-HMAC-SHA256, signature version 3
    Tc3,
    /// HmacSHA1, signature version 1
    HmacSha1,
    /// HmacSHA256, signature version 1
    HmacSha256,
}

/// A document that has a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Document {
    /// A job
    Job,
    /// A report
    Report,
    /// The world of a sandbox, for --world
    World,
    /// The faults of a sandbox, for --faults
    Faults,
}

impl From<Method> for tc3::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Post => Self::Post,
        }
    }
}

//! The command line: the commands and their flags.

mod queue;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, sync::LazyLock, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use imageshare_core::{
    actions::Tag,
    ids::{AccountId, ImageId},
    tc3,
};
use imageshare_worker::wire::JobImage;

pub(crate) use self::queue::{
    DeadArguments, DeadCommand, DeadFilter, DeadReason, PublishArguments, ReportsArguments, TopologyArguments,
    WorkerArguments,
};
use crate::images::{Artifact, NamedImage};

// One line per paragraph: the help wraps it to the terminal.
const RULES: &str = "\
Keys come from TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY (and TENCENTCLOUD_TOKEN for a temporary key), or else \
from the profile file ~/.tencentcloud/credentials. The broker's address, with its password, comes from \
IMAGESHARE_BROKER_URL or the settings file. There is no flag for either, because other users can see the arguments \
of a process. Flags take precedence over IMAGESHARE_* variables, and variables over the settings file.\n";

// clap would write the required flags into one line of any length.
const SIGN_USAGE: &str = "\
imageshare sign [OPTIONS] --method <METHOD> --algorithm <ALGORITHM>
           --host <HOST> --service <SERVICE> --action <ACTION>
           --version <VERSION> --timestamp <SECONDS>";

/// Returns the usage of a command with images and accounts. clap would write all alternatives into one line.
fn usage(command: &str) -> String {
    ["--account <ID>", "--accounts-file <FILE>"]
        .map(|accounts| format!("imageshare {command} [OPTIONS] --image <ID> {accounts}"))
        .join("\n       ")
}

/// Share Tencent Cloud machine images with hundreds of accounts, within the API's rate limit
#[derive(Debug, Parser)]
#[command(name = "imageshare", version = version(), after_help = RULES, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Returns the version, with the revision if it is known.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| match imageshare_worker::REVISION {
        "unknown" => env!("CARGO_PKG_VERSION").to_owned(),
        revision => format!("{} ({revision})", env!("CARGO_PKG_VERSION")),
    });
    &VERSION
}

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
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
    /// Lane of jobs that name none, if several lanes serve their region; for dead and reports: only this lane
    /// [env: IMAGESHARE_LANE]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) lane: Option<String>,
    /// Print JSON lines on standard output, also on a terminal [env: IMAGESHARE_JSON]
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Format of standard output; ids only with list and accounts
    #[arg(long, short, value_name = "FORMAT", value_enum, global = true)]
    pub(crate) output: Option<OutputFormat>,
    /// Print only errors on standard error: no progress, notices or summary [env: IMAGESHARE_QUIET]
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Print a line on standard error about each request: action, image, accounts, outcome, time, RequestId
    #[arg(long, short, alias = "debug", global = true)]
    pub(crate) verbose: bool,
}

/// The format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Account ids, one per line
    Ids,
    /// One JSON object per line
    Json,
    /// Tables and summaries for people
    Table,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the share jobs of a file or of standard input
    Run(RunArguments),
    /// Share an image with accounts
    #[command(override_usage = usage("share"))]
    Share(ImageArguments),
    /// Stop sharing an image with accounts
    #[command(visible_aliases = ["unshare", "revoke"], override_usage = usage("cancel"))]
    Cancel(ImageArguments),
    /// Share an image with exactly these accounts, and cancel its shares with all others
    #[command(override_usage = usage("sync"))]
    Sync(SyncArguments),
    /// Run jobs from RabbitMQ until a signal arrives
    #[command(after_help = "\
        After SIGTERM or SIGINT the worker finishes requests in flight, requeues all other jobs and exits; a second \
        signal stops it at once. After SIGHUP it reloads credentials, rates, batches and limits; if standard error is \
        a terminal, SIGHUP acts like SIGTERM.")]
    Worker(WorkerArguments),
    /// List the accounts that an image is shared with
    List(ListArguments),
    /// List the member accounts of the Tencent Cloud Organization, for --accounts-file
    #[command(after_help = "\
        The key must belong to the account that administers the organization, and needs the permission \
        organization:DescribeOrganizationMembers. The list omits that account, and members that have not confirmed \
        their membership.")]
    Accounts(AccountsArguments),
    /// Publish the share jobs of a file or of standard input to the broker
    Publish(PublishArguments),
    /// List, replay or remove dead letters: failed and rejected jobs
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Search the reports of finished jobs, if the broker keeps a history
    #[command(after_help = "To create the history, run imageshare topology --declare --history 30d.")]
    Reports(ReportsArguments),
    /// Print the exchanges and queues that the broker must have (definitions.json), or declare them
    Topology(TopologyArguments),
    /// Print every stage of a request signature, to compare it with another program's
    #[command(override_usage = SIGN_USAGE)]
    Sign(Box<SignArguments>),
    /// Run a local fake of the API
    #[command(after_help = "\
        The sandbox accepts the key AKIDSANDBOXEXAMPLE with the secret sandbox-secret-key-example. Clients use it as an \
        endpoint or as a proxy (HTTPS_PROXY=http://ADDRESS). http://ADDRESS/_sandbox/ has its state, counters, log, \
        faults and proxy certificate.")]
    Sandbox(SandboxArguments),
    /// Print all settings with their origins; --connect also checks the API and the broker
    Check(CheckArguments),
    /// Print the JSON Schema of jobs, reports, or a sandbox file
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
        /// The folder to write them to
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// Jobs, one JSON object per line or CSV; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write the report of every job to this file, one JSON object per line; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) report: Option<PathBuf>,
    /// The region of jobs that name none [env: TENCENTCLOUD_REGION]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Serve status and metrics at this address during the run
    #[arg(long, value_name = "ADDRESS", conflicts_with = "dry_run")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// Flags of all commands that call the API.
#[derive(Args, Debug)]
pub(crate) struct ApiArguments {
    /// Use a sandbox inside this process, a fake of the API with its own key, instead of the cloud
    #[arg(long, conflicts_with = "endpoint")]
    pub(crate) sandbox: bool,
    /// World file for --sandbox (TOML), which must contain the key AKIDSANDBOXEXAMPLE [default: examples/world.toml,
    /// built in]
    #[arg(long, value_name = "FILE", requires = "sandbox")]
    pub(crate) world: Option<PathBuf>,
    /// How long to retry while an endpoint does not work or the credential in use is refused: 90s, 2m, or seconds
    /// [env: IMAGESHARE_GIVE_UP_AFTER] [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) give_up_after: Option<String>,
}

/// Flags of all commands that change images.
#[derive(Args, Debug)]
pub(crate) struct ChangeArguments {
    #[command(flatten)]
    pub(crate) api: ApiArguments,
    /// List the shares of the images, print what would change, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImageArguments {
    #[command(flatten)]
    pub(crate) image: ImageChoice,
    #[command(flatten)]
    pub(crate) accounts: Accounts,
    /// Write the report of every job to this file, one JSON object per line; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

#[derive(Args, Debug)]
pub(crate) struct SyncArguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,
    #[command(flatten)]
    pub(crate) options: SyncOptions,
}

/// Flags of `sync` alone.
#[derive(Args, Debug, Default)]
pub(crate) struct SyncOptions {
    /// Cancel shares even if they are more than half of the image's shares
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) drift: DriftArguments,
}

/// Flags about the differences that a dry run finds.
#[derive(Args, Debug, Default)]
pub(crate) struct DriftArguments {
    /// With --dry-run: exit with code 5 if the shares differ from the list, also if the SYNC would be refused
    #[arg(long, requires = "dry_run")]
    pub(crate) exit_code: bool,
    /// With --dry-run: write the numbers of missing and extra accounts to this file, for Prometheus' textfile collector
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    pub(crate) metrics_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) image: ImageChoice,
    /// Print only the account ids, one per line
    #[arg(long, conflicts_with_all = ["json", "output"])]
    pub(crate) ids: bool,
    #[command(flatten)]
    pub(crate) api: ApiArguments,
}

#[derive(Args, Debug)]
pub(crate) struct AccountsArguments {
    /// Only the members of this node (department)
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<u64>,
    /// Only members with this tag; if repeated, with all of these tags
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::accounts::parse_tag)]
    pub(crate) tag: Vec<Tag>,
    /// Include members that have not confirmed their membership
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
    /// Images in the form of a Packer artifact id: REGION:ID,REGION:ID
    #[arg(long, value_name = "IMAGES")]
    pub(crate) artifact: Vec<Artifact>,
    /// The images of the last run in this Packer manifest
    #[arg(long, value_name = "FILE")]
    pub(crate) packer_manifest: Option<PathBuf>,
    /// The region of images that are given without one [env: TENCENTCLOUD_REGION]
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
    /// The name of an account list in the settings (section accounts)
    #[arg(long, value_name = "NAME")]
    pub(crate) accounts: Option<String>,
    /// The accounts that another image is shared with, such as the previous release
    #[arg(long, value_name = "REGION:ID")]
    pub(crate) like: Option<JobImage>,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// Also check the API, STS and the broker, and report what is missing; changes nothing
    #[arg(long)]
    pub(crate) connect: bool,
    /// Print only the smallest policy that the key needs; --connect adds the key's account to it
    #[arg(long)]
    pub(crate) policy: bool,
    /// With --policy: an image that the key may share; may be repeated [default: all images]
    #[arg(long, value_name = "ID", requires = "policy")]
    pub(crate) image: Vec<ImageId>,
    /// With --policy: also what imageshare accounts needs; only for the account that administers the organization
    #[arg(long, requires = "policy")]
    pub(crate) organization: bool,
    /// With --policy: the region of the images [env: TENCENTCLOUD_REGION] [default: the regions of the lanes]
    #[arg(long, value_name = "REGION", requires = "policy")]
    pub(crate) region: Option<String>,
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
    /// The region, for actions that have one
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// Seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timestamp: u64,
    /// The nonce of signature version 1
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
    /// World file: images, accounts, keys and limits (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) world: Option<PathBuf>,
    /// Load images and shares from this file (JSON) if it exists, and save them there at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Delay of each response: 80ms, 0.5s
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = crate::sandbox::parse_latency)]
    pub(crate) latency: Duration,
    /// Requests per second for each action and key; 0 is unlimited
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = u32::from_str)]
    pub(crate) rps: u32,
    /// Accounts that an image may be shared with [default: that of the world file, else 500]
    #[arg(long, value_name = "N")]
    pub(crate) cap: Option<usize>,
    /// Accounts that one request may name; 0 is unlimited [default: that of the world file, else 100]
    #[arg(long, value_name = "N")]
    pub(crate) batch_limit: Option<usize>,
    /// Use TLS, with a certificate for the names of the API, localhost, cvm.localhost and sts.localhost
    #[arg(long)]
    pub(crate) tls: bool,
    /// Another name for the certificate of --tls, a DNS name or an IP address; may be repeated
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) tls_name: Vec<String>,
    /// Write the sandbox's CA certificate to this file (PEM), for clients to trust
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Inject these faults from the start (JSON, as in POST /_sandbox/faults)
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

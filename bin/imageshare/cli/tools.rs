//! Flags of the tools: `check`, `sandbox`, `sign` and `schema`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use imageshare_core::{ids::ImageId, tc3};

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
    #[arg(long, value_name = "TIME", default_value = "0ms")]
    pub(crate) latency: String,
    /// Requests per second for each action and key; 0 is unlimited
    #[arg(long, value_name = "N", default_value_t = 10)]
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

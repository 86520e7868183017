//! The world file as people write it, its JSON Schema, and its checks.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    ids::{AccountId, ImageId, KNOWN_REGIONS, Region},
    text::{excerpt, printable},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    DAY_MS, InstanceRole, Placed, World,
    organization::{FileOrganization, Organization},
};
use crate::{
    actions::Action,
    document::{DocumentError, Problems, did_you_mean, read_toml},
    faults::is_code,
    ledger::{Access, Accounts, Dials, Image, ImageState, ImageType, Ledger, License},
    rate::Window,
    verify::{Key, Keys},
};

/// The maximum number of shares in a world file.
const SHARES_MAX: usize = 1_000_000;

/// The maximum length of an account id in messages, in characters.
const ACCOUNT_CHARS_MAX: usize = 40;

/// The regions of the vendor's edge zones, in addition to [`KNOWN_REGIONS`].
const EDGE_REGIONS: [&str; 10] = [
    "ap-changsha-ec",
    "ap-fuzhou-ec",
    "ap-hangzhou-ec",
    "ap-hefei-ec",
    "ap-jinan-ec",
    "ap-shenyang-ec",
    "ap-shijiazhuang-ec",
    "ap-wuhan-ec",
    "ap-xian-ec",
    "ap-zhengzhou-ec",
];

/// The patterns of ids in the schema.
pub(super) const ACCOUNT: &str = "^[1-9][0-9]{4,18}$";
const IMAGE: &str = "^img-[0-9a-z]{4,32}$";
const REGION: &str = "^[a-z]{2}-[a-z]+(-[a-z0-9]+)*$";

/// Reads and checks a world file.
pub(super) fn parse(text: &str) -> Result<World, DocumentError> {
    let file: WorldFile = read_toml(text)?;
    let mut check = Check::default();
    let world = check.world(&file);
    check.problems.end(text)?;
    Ok(world)
}

/// Returns the JSON Schema of a world file (draft 2020-12).
#[must_use]
pub fn schema() -> String {
    crate::document::schema_text(&schemars::schema_for!(WorldFile))
}

/// The world of a sandbox at its start and after a reset: accounts, keys, images, and undocumented behavior.
// Ids are strings here, so that all mistakes are reported at once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "World")]
struct WorldFile {
    /// Whether every well-formed image id exists and is owned by the first account that writes to it.
    #[serde(default)]
    open_images: bool,
    /// Whether every well-formed account id exists.
    #[serde(default)]
    open_accounts: bool,
    /// Accounts that exist while `open_accounts` is false.
    #[serde(default)]
    #[schemars(inner(regex(pattern = ACCOUNT)))]
    accounts: Vec<String>,
    /// Accounts that do not exist, regardless of the other keys.
    #[serde(default)]
    #[schemars(inner(regex(pattern = ACCOUNT)))]
    unknown_accounts: Vec<String>,
    /// Collaborators, which are refused with `FailedOperation.NotMasterAccount`.
    #[serde(default)]
    #[schemars(inner(regex(pattern = ACCOUNT)))]
    sub_accounts: Vec<String>,
    /// The code with which every request for an account fails, by account id.
    #[serde(default)]
    account_faults: BTreeMap<String, String>,
    #[serde(default)]
    dials: Dials,
    /// How the seconds of rate limits are counted.
    #[serde(default)]
    rate_window: Window,
    /// How stale listings are, in seconds, at most `dials.history_ms`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400))]
    read_lag: f64,
    /// Regions in addition to those that the vendor documents.
    #[serde(default)]
    #[schemars(inner(regex(pattern = REGION)))]
    regions: Vec<String>,
    /// The keys of clients. At least one is needed.
    #[schemars(length(min = 1))]
    keys: Vec<FileKey>,
    /// Identity tokens for AssumeRoleWithWebIdentity. Without any, every well-formed token is accepted.
    #[serde(default)]
    web_identities: Vec<FileWebIdentity>,
    /// The role of the instance that uses the metadata service.
    instance_role: Option<FileInstanceRole>,
    /// The organization that the Organization actions describe. Without it there is none.
    organization: Option<FileOrganization>,
    /// The images at the start.
    #[serde(default)]
    images: Vec<FileImage>,
}

/// A key of a client.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Key")]
struct FileKey {
    /// Its id, which requests name.
    #[schemars(length(min = 1, max = 1024))]
    secret_id: String,
    /// Its secret, with which requests are signed.
    #[schemars(length(min = 1, max = 1024))]
    secret_key: String,
    /// The root account that it belongs to.
    #[schemars(regex(pattern = ACCOUNT))]
    account: String,
    /// Actions that its policy denies.
    #[serde(default)]
    deny: BTreeSet<Action>,
}

/// An identity that a provider issued.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WebIdentity")]
struct FileWebIdentity {
    /// The id of the provider.
    provider_id: String,
    /// The token.
    token: String,
}

/// The role of an instance.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InstanceRole")]
struct FileInstanceRole {
    /// Its name, at most 128 letters, digits and `_+=,.@-`.
    #[schemars(length(min = 1, max = 128))]
    name: String,
    /// The root account of its keys. Default: the account of the first key.
    #[schemars(regex(pattern = ACCOUNT))]
    account: Option<String>,
    /// The lifetime of its keys in seconds.
    #[serde(default = "two_hours")]
    #[schemars(range(min = 1, max = 86_400))]
    seconds: u64,
}

const fn two_hours() -> u64 {
    7200
}

/// An image at the start.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Image")]
struct FileImage {
    /// Its id.
    #[schemars(regex(pattern = IMAGE))]
    id: String,
    /// The only region where it exists.
    #[schemars(regex(pattern = REGION))]
    region: String,
    /// The root account that owns it. Default: the account of the first key.
    #[schemars(regex(pattern = ACCOUNT))]
    owner: Option<String>,
    /// Its name.
    #[serde(default)]
    name: String,
    /// When it was created, RFC 3339. Default: 2026-11-02T08:15:30Z.
    #[schemars(extend("format" = "date-time"))]
    created: Option<String>,
    /// Its tags, as keys and values.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Its state until `normal_after`. Only images in state `NORMAL` can be shared.
    #[serde(default)]
    state: ImageState,
    /// When it becomes `NORMAL`, in seconds after the start. Without it the state stays.
    #[schemars(range(min = 0, max = 86_400))]
    normal_after: Option<f64>,
    /// Its kind. Only private images can be shared.
    #[serde(default, rename = "type")]
    image_type: ImageType,
    /// Its license. BYOL images cannot be shared.
    #[serde(default)]
    license: License,
    /// Whether it is encrypted. Encrypted images cannot be shared.
    #[serde(default)]
    encrypted: bool,
    /// Whether it is an image of a whole instance. Such images cannot be shared.
    #[serde(default)]
    instance_image: bool,
    /// The actions on it that the owner's policy allows.
    #[serde(default)]
    access: Access,
    /// The accounts that have it.
    #[serde(default)]
    #[schemars(inner(regex(pattern = ACCOUNT)))]
    shared: Vec<String>,
    /// More accounts that have it.
    shared_range: Option<SharedRange>,
}

/// Accounts with consecutive ids.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SharedRange {
    /// The first account.
    #[schemars(regex(pattern = ACCOUNT))]
    first: String,
    /// The number of accounts.
    #[schemars(range(max = SHARES_MAX))]
    count: u64,
}

/// Converts strings to values and collects the problems.
#[derive(Default)]
struct Check {
    problems: Problems,
    shares: usize,
    /// Regions in addition to those of the vendor.
    regions: BTreeSet<Region>,
}

impl Check {
    fn world(&mut self, file: &WorldFile) -> World {
        let regions = file.regions.iter().enumerate();
        self.regions = regions.filter_map(|(index, text)| self.value(&format!("regions[{index}]"), text)).collect();
        let accounts = Accounts {
            open: file.open_accounts,
            known: self.accounts("accounts", &file.accounts).into_iter().collect(),
            unknown: self.accounts("unknown_accounts", &file.unknown_accounts).into_iter().collect(),
            sub_accounts: self.accounts("sub_accounts", &file.sub_accounts).into_iter().collect(),
            faults: file.account_faults.iter().filter_map(|(id, code)| self.account_fault(id, code)).collect(),
        };
        let mut keys = Keys::default();
        let mut first_account = None;
        for (index, key) in file.keys.iter().enumerate() {
            let account = self.value(&format!("keys[{index}].account"), &key.account);
            for (name, text) in [("secret_id", &key.secret_id), ("secret_key", &key.secret_key)] {
                if text.is_empty() || text.len() > 1024 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    self.note(
                        &format!("keys[{index}].{name}"),
                        "invalid value (expected 1 to 1024 printable ASCII characters)",
                    );
                }
            }
            if keys.contains(&key.secret_id) {
                self.note(&format!("keys[{index}].secret_id"), "duplicate id (expected once)");
            }
            first_account = first_account.or(account);
            if let Some(account) = account {
                let secret_key = key.secret_key.clone();
                keys.insert(key.secret_id.clone(), Key { secret_key, account, temporary: None });
            }
        }
        if file.keys.is_empty() {
            self.note("keys", "missing (expected at least one key)");
        }
        let mut images = BTreeMap::new();
        for (index, image) in file.images.iter().enumerate() {
            let Some((id, placed)) = self.image(index, image, first_account) else { continue };
            if images.insert(id, placed).is_some() {
                self.note(&format!("images[{index}].id"), &format!("duplicate id {id} (expected once)"));
            }
        }
        let read_lag_ms = self.milliseconds("read_lag", file.read_lag).unwrap_or_default();
        if read_lag_ms > file.dials.history_ms {
            self.note("read_lag", "too long (expected at most dials.history_ms)");
        }
        let mut ledger = Ledger::default();
        ledger.open_images = file.open_images;
        ledger.accounts = accounts;
        ledger.dials = file.dials.clone();
        let denied = file.keys.iter().map(|key| (key.secret_id.clone(), key.deny.clone())).collect();
        let identity = |identity: &FileWebIdentity| (identity.provider_id.clone(), identity.token.clone());
        let web_identities = file.web_identities.iter().map(identity).collect();
        let instance_role = file.instance_role.as_ref().and_then(|role| self.instance_role(role, first_account));
        let organization = file.organization.as_ref();
        let organization =
            organization.and_then(|file| Organization::new(file, first_account, |at, what| self.note(at, what)));
        World {
            ledger,
            images,
            keys,
            window: file.rate_window,
            read_lag_ms,
            web_identities,
            instance_role,
            organization,
            denied,
        }
    }

    fn instance_role(&mut self, file: &FileInstanceRole, first_account: Option<AccountId>) -> Option<InstanceRole> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if file.name.is_empty() || file.name.len() > 128 || !file.name.bytes().all(is_name) {
            self.note("instance_role.name", "invalid value (expected 1 to 128 letters, digits and _+=,.@-)");
        }
        if !(1..=DAY_MS / 1000).contains(&file.seconds) {
            self.note("instance_role.seconds", &format!("invalid value {} (expected 1 to 86400)", file.seconds));
        }
        let account = match &file.account {
            Some(text) => self.value("instance_role.account", text),
            None => first_account,
        };
        Some(InstanceRole { name: file.name.clone(), account: account?, seconds: file.seconds })
    }

    /// Converts an image and its id.
    fn image(&mut self, index: usize, file: &FileImage, first_account: Option<AccountId>) -> Option<(ImageId, Placed)> {
        let at = |name: &str| format!("images[{index}].{name}");
        let id: Option<ImageId> = self.value(&at("id"), &file.id);
        let region = self.region(&at("region"), &file.region);
        let owner = match &file.owner {
            Some(text) => self.value(&at("owner"), text),
            None => first_account,
        };
        let normal_after = file.normal_after.and_then(|seconds| self.milliseconds(&at("normal_after"), seconds));
        let mut shared = self.accounts(&at("shared"), &file.shared);
        if let Some(range) = &file.shared_range {
            shared.extend(self.range(&at("shared_range"), range));
        }
        self.shares += shared.len();
        let created = file.created.as_ref().and_then(|text| self.created(&at("created"), text));
        let normal = Image::normal(owner?, region?);
        let image = Image {
            name: file.name.clone(),
            created: created.unwrap_or(normal.created),
            tags: file.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            state: file.state,
            image_type: file.image_type,
            license: file.license,
            encrypted: file.encrypted,
            instance_image: file.instance_image,
            access: file.access,
            ..normal
        };
        Some((id?, Placed { image, normal_after, shared }))
    }

    fn account_fault(&mut self, id: &str, code: &str) -> Option<(AccountId, String)> {
        if !is_code(code) {
            let code = excerpt(code);
            let id = printable(id, ACCOUNT_CHARS_MAX);
            self.note(
                &format!("account_faults.{id}"),
                &format!("invalid code {code} (expected letters, digits and dots)"),
            );
        }
        Some((self.value(&format!("account_faults.{}", printable(id, ACCOUNT_CHARS_MAX)), id)?, code.to_owned()))
    }

    fn range(&mut self, at: &str, range: &SharedRange) -> Vec<AccountId> {
        let Some(first) = self.value::<AccountId>(&format!("{at}.first"), &range.first) else { return Vec::new() };
        let room = SHARES_MAX.saturating_sub(self.shares);
        if usize::try_from(range.count).map_or(true, |count| count > room) {
            self.note(&format!("{at}.count"), &format!("invalid count {} (expected at most {room})", range.count));
            return Vec::new();
        }
        let ids: Option<Vec<_>> =
            (0..range.count).map(|n| first.get().checked_add(n).and_then(|id| AccountId::new(id).ok())).collect();
        ids.unwrap_or_else(|| {
            self.note(at, "last id too long (expected at most 19 digits)");
            Vec::new()
        })
    }

    fn accounts(&mut self, at: &str, texts: &[String]) -> Vec<AccountId> {
        texts.iter().enumerate().filter_map(|(index, text)| self.value(&format!("{at}[{index}]"), text)).collect()
    }

    /// Converts the name of a region that exists.
    fn region(&mut self, at: &str, text: &str) -> Option<Region> {
        let region = text.parse().ok();
        let of_vendor = || KNOWN_REGIONS.into_iter().chain(EDGE_REGIONS);
        let exists = |region: &Region| of_vendor().any(|known| known == text) || self.regions.contains(region);
        if !region.as_ref().is_some_and(exists) {
            let problem = format!(
                "unknown region {} (expected a region of the vendor, such as ap-singapore, or of the key regions)",
                excerpt(text)
            );
            self.problems.note(at, problem, did_you_mean(text, of_vendor()));
        }
        region
    }

    fn value<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, at: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.note(at, &error.to_string())).ok()
    }

    /// Converts a time to Unix seconds.
    fn created(&mut self, at: &str, text: &str) -> Option<u64> {
        let seconds = text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok());
        if seconds.is_none() {
            let text = excerpt(text);
            self.note(at, &format!("invalid time {text} (expected RFC 3339 such as 2026-11-02T08:15:30Z)"));
        }
        seconds
    }

    /// Converts seconds to milliseconds.
    fn milliseconds(&mut self, at: &str, seconds: f64) -> Option<u64> {
        if !(0.0..=86_400.0).contains(&seconds) {
            self.note(at, &format!("invalid time {seconds} (expected 0 to 86400 seconds)"));
            return None;
        }
        u64::try_from(std::time::Duration::from_secs_f64(seconds).as_millis()).ok()
    }

    fn note(&mut self, at: &str, problem: &str) {
        self.problems.note(at, problem, None);
    }
}

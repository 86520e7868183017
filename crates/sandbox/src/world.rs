//! The world file: images, accounts, keys and dials, in TOML.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Permission,
    disclosure::without_value,
    ids::{AccountId, ImageId, Region},
    text::{excerpt, printable},
};
use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;

use crate::{
    actions::Action,
    faults::is_code,
    ledger::{Access, Accounts, Dials, Image, ImageState, ImageType, Ledger, License},
    rate::Window,
    verify::{Key, Keys},
};

/// The id of the built-in key.
pub const SECRET_ID: &str = "AKIDSANDBOXEXAMPLE";

/// The secret key of the built-in key. It is valid for sandboxes only.
pub const SECRET_KEY: &str = "sandbox-secret-key-example";

/// The root account of the built-in key.
pub const ACCOUNT: &str = "100009999999";

/// The maximum number of shares in a world file.
const SHARES_MAX: usize = 1_000_000;

/// The maximum length of a world file in bytes: enough for `SHARES_MAX` shares.
pub const FILE_LEN_MAX: u64 = 32 * 1024 * 1024;

/// The maximum number of reported problems.
const PROBLEMS_MAX: usize = 100;

/// The maximum length of a key of the file in messages, in characters.
const KEY_CHARS_MAX: usize = 40;

const DAY_MS: u64 = 86_400_000;

/// The world at the start and after each reset.
#[derive(Clone, Debug)]
pub struct World {
    /// Accounts and dials, without the images, whose times are relative to the start.
    ledger: Ledger,
    images: BTreeMap<ImageId, Placed>,
    pub(crate) keys: Keys,
    pub(crate) window: Window,
    pub(crate) read_lag_ms: u64,
    /// Providers and tokens of identities. If empty, every well-formed token is accepted.
    pub(crate) web_identities: Vec<(String, String)>,
    pub(crate) instance_role: Option<InstanceRole>,
    /// Actions that the policy of a key denies, by the id of the key.
    denied: BTreeMap<String, BTreeSet<Action>>,
}

/// The role of the instance that uses the metadata service.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRole {
    pub(crate) name: String,
    pub(crate) account: AccountId,
    /// The lifetime of its keys in seconds.
    pub(crate) seconds: u64,
}

/// An image at the start.
#[derive(Clone, Debug)]
struct Placed {
    image: Image,
    /// When it becomes `NORMAL`, in milliseconds after the start.
    normal_after: Option<u64>,
    /// The accounts that have it.
    shared: Vec<AccountId>,
}

/// An invalid world file, with one line for each problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("world: {}", problems.join("\nworld: "))]
pub struct WorldError {
    /// The problems, each with its location and the expectation.
    pub problems: Vec<String>,
}

impl World {
    /// The world of `examples/world.toml`.
    ///
    /// # Panics
    /// Never: a test parses the file.
    #[must_use]
    pub fn example() -> Self {
        Self::parse(include_str!("../../../examples/world.toml")).expect("a test parses the example")
    }

    /// Returns a world where every well-formed image and account exists, with the built-in key.
    ///
    /// # Panics
    /// Never: a test calls it.
    #[must_use]
    pub fn open() -> Self {
        let file = format!(
            "open_images = true\nopen_accounts = true\n[[keys]]\nsecret_id = {SECRET_ID:?}\nsecret_key = \
             {SECRET_KEY:?}\naccount = {ACCOUNT:?}\n[instance_role]\nname = \"imageshare\""
        );
        Self::parse(&file).expect("a test parses the file above")
    }

    /// Reads and checks a world file.
    ///
    /// # Errors
    /// If it is not TOML or has an unknown key or a wrong type, with the first such problem; else with every invalid
    /// value.
    pub fn parse(text: &str) -> Result<Self, WorldError> {
        let file: File = toml::from_str(text).map_err(|error| {
            // The error's own display quotes the line, which may hold a secret key.
            let start = error.span().map_or(0, |span| span.start);
            let key = key_of_value(text, start).map(|key| format!("{key}: ")).unwrap_or_default();
            let line = line_at(text, start);
            WorldError { problems: vec![format!("line {line}: {key}{}", without_value(error.message()))] }
        })?;
        let mut check = Check { text, ..Check::default() };
        let world = check.world(&file);
        let Check { mut problems, more, .. } = check;
        if more > 0 {
            problems.push(format!("and {more} more problems"));
        }
        if problems.is_empty() { Ok(world) } else { Err(WorldError { problems }) }
    }

    /// Sets the maximum number of accounts that an image is shared with.
    pub const fn set_cap(&mut self, cap: usize) {
        self.ledger.dials.cap = cap;
    }

    /// Sets the maximum number of accounts in a request; 0 is unlimited.
    pub const fn set_batch_limit(&mut self, limit: usize) {
        self.ledger.dials.batch_limit = if limit > 0 { Some(limit) } else { None };
    }

    /// Whether the policy of a key denies an action.
    pub(crate) fn denies(&self, secret_id: &str, action: Action) -> bool {
        self.denied.get(secret_id).is_some_and(|actions| actions.contains(&action))
    }

    /// Returns the account ids that do not exist.
    pub(crate) const fn unknown_accounts(&self) -> &BTreeSet<AccountId> {
        &self.ledger.accounts.unknown
    }

    /// Returns the ledger of a world that starts at `now`, in milliseconds.
    pub(crate) fn begin(&self, now: u64) -> Ledger {
        let mut ledger = self.ledger.clone();
        // Before the time of any listing, however stale.
        let shared_at = now.saturating_sub(DAY_MS);
        for (&id, Placed { image, normal_after, shared }) in &self.images {
            let normal_at = normal_after.map(|after| now.saturating_add(after));
            ledger.put_image(id, Image { normal_at, ..image.clone() });
            for &account in shared {
                ledger.impose(shared_at, id, account, Permission::Share);
            }
        }
        ledger
    }
}

/// Returns the line of a position, from 1.
fn line_at(text: &str, position: usize) -> usize {
    text.get(..position).unwrap_or_default().matches('\n').count() + 1
}

/// Returns the plain key of the value at a position of a file.
fn key_of_value(text: &str, position: usize) -> Option<&str> {
    let (key, _) = text.get(..position)?.lines().next_back()?.split_once('=')?;
    let key = key.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (key.len() <= KEY_CHARS_MAX && key.bytes().all(is_plain)).then_some(key)
}

/// The file as written. Ids are strings here, so that all mistakes are reported at once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Whether every well-formed image id exists and is owned by the first account that writes to it.
    #[serde(default)]
    open_images: bool,
    /// Whether every well-formed account id exists.
    #[serde(default)]
    open_accounts: bool,
    /// Accounts that exist while `open_accounts` is false.
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default)]
    unknown_accounts: Vec<String>,
    #[serde(default)]
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
    read_lag: f64,
    #[serde(default)]
    keys: Vec<FileKey>,
    /// Identity tokens for AssumeRoleWithWebIdentity.
    #[serde(default)]
    web_identities: Vec<FileWebIdentity>,
    /// The role of the instance that uses the metadata service.
    instance_role: Option<FileInstanceRole>,
    #[serde(default)]
    images: Vec<FileImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    secret_id: Spanned<String>,
    secret_key: String,
    account: Spanned<String>,
    /// Actions that its policy denies.
    #[serde(default)]
    deny: BTreeSet<Action>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWebIdentity {
    provider_id: String,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileInstanceRole {
    name: String,
    /// Default: the account of the first key.
    account: Option<String>,
    /// The lifetime of its keys in seconds.
    #[serde(default = "two_hours")]
    seconds: u64,
}

const fn two_hours() -> u64 {
    7200
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileImage {
    id: Spanned<String>,
    region: Spanned<String>,
    /// Default: the account of the first key.
    owner: Option<Spanned<String>>,
    #[serde(default)]
    name: String,
    /// RFC 3339. Default: 2026-11-02T08:15:30Z.
    created: Option<Spanned<String>>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    state: ImageState,
    /// Seconds after the start.
    normal_after: Option<f64>,
    #[serde(default, rename = "type")]
    image_type: ImageType,
    #[serde(default)]
    license: License,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    instance_image: bool,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    shared: Vec<String>,
    shared_range: Option<SharedRange>,
}

/// Accounts with consecutive ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedRange {
    first: String,
    count: u64,
}

/// Converts strings to values and collects the problems.
#[derive(Default)]
struct Check<'a> {
    /// The file, for the lines of problems.
    text: &'a str,
    problems: Vec<String>,
    /// The number of problems beyond the maximum.
    more: usize,
    shares: usize,
}

impl Check<'_> {
    fn world(&mut self, file: &File) -> World {
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
            let account = self.spanned(&format!("keys[{index}].account"), &key.account);
            for (name, text) in [("secret_id", key.secret_id.get_ref()), ("secret_key", &key.secret_key)] {
                if text.is_empty() || text.len() > 1024 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    self.note(
                        &format!("keys[{index}].{name}"),
                        "invalid value (expected 1 to 1024 printable ASCII characters)",
                    );
                }
            }
            if keys.contains(key.secret_id.get_ref()) {
                let at = self.place(&format!("keys[{index}].secret_id"), &key.secret_id);
                self.note(&at, "duplicate id (expected once)");
            }
            first_account = first_account.or(account);
            if let Some(account) = account {
                let secret_key = key.secret_key.clone();
                keys.insert(key.secret_id.get_ref().clone(), Key { secret_key, account, temporary: None });
            }
        }
        if file.keys.is_empty() {
            self.note("keys", "missing (expected at least one key)");
        }
        let mut images = BTreeMap::new();
        for (index, image) in file.images.iter().enumerate() {
            let Some((id, placed)) = self.image(index, image, first_account) else { continue };
            if images.insert(id, placed).is_some() {
                let at = self.place(&format!("images[{index}].id"), &image.id);
                self.note(&at, &format!("duplicate id {id} (expected once)"));
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
        let denied = file.keys.iter().map(|key| (key.secret_id.get_ref().clone(), key.deny.clone())).collect();
        let identity = |identity: &FileWebIdentity| (identity.provider_id.clone(), identity.token.clone());
        let web_identities = file.web_identities.iter().map(identity).collect();
        let instance_role = file.instance_role.as_ref().and_then(|role| self.instance_role(role, first_account));
        World { ledger, images, keys, window: file.rate_window, read_lag_ms, web_identities, instance_role, denied }
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
        let id: Option<ImageId> = self.spanned(&at("id"), &file.id);
        let region: Option<Region> = self.spanned(&at("region"), &file.region);
        let owner = match &file.owner {
            Some(text) => self.spanned(&at("owner"), text),
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
            let id = printable(id, KEY_CHARS_MAX);
            self.note(
                &format!("account_faults.{id}"),
                &format!("invalid code {code} (expected letters, digits and dots)"),
            );
        }
        Some((self.value("account_faults", id)?, code.to_owned()))
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

    /// Converts a string whose line is known.
    fn spanned<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, at: &str, text: &Spanned<String>) -> Option<T> {
        let at = self.place(at, text);
        self.value(&at, text.get_ref())
    }

    /// Returns a place with its line.
    fn place(&self, at: &str, text: &Spanned<String>) -> String {
        format!("line {}: {at}", line_at(self.text, text.span().start))
    }

    fn value<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, at: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.note(at, &error.to_string())).ok()
    }

    /// Converts a time to Unix seconds.
    fn created(&mut self, at: &str, text: &Spanned<String>) -> Option<u64> {
        let seconds = text.get_ref().parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok());
        if seconds.is_none() {
            let (at, text) = (self.place(at, text), excerpt(text.get_ref()));
            self.note(&at, &format!("invalid time {text} (expected RFC 3339 such as 2026-11-02T08:15:30Z)"));
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

    fn note(&mut self, at: &str, what: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{at}: {what}"));
        } else {
            self.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "[[keys]]\nsecret_id = \"A\"\nsecret_key = \"B\"\naccount = \"100009999999\"\n";

    fn caller() -> AccountId {
        ACCOUNT.parse().unwrap()
    }

    #[test]
    fn built_in_worlds_are_valid() {
        let example = World::example();
        assert!(example.keys.contains(SECRET_ID));
        let ledger = example.begin(0);
        let full = |id: ImageId| ledger.shared_count(id) == 500;
        assert!(ledger.state().any(|(id, _)| full(id)));
        assert!(World::open().begin(0).open_images);
    }

    #[test]
    fn example_files_of_manual_are_valid() {
        let page = include_str!("../../../docs/sandbox.md");
        let block = |language: &str| {
            let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
            rest.split_once("```").unwrap().0
        };
        World::parse(block("toml")).unwrap();
        crate::faults::Faults::parse(block("json").as_bytes()).unwrap();
    }

    #[test]
    fn times_are_relative_to_the_start() {
        let file = format!(
            "{KEY}[[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\nstate = \"CREATING\"\n\
             normal_after = 4.0\nshared_range = {{ first = \"200000000000\", count = 3 }}\nshared = [\"1038493875\"]"
        );
        let world = World::parse(&file).unwrap();
        let ledger = world.begin(1000);
        let (id, region) = ("img-6pb6lrmy".parse().unwrap(), "ap-singapore".parse().unwrap());
        let state = |now| ledger.image(now, caller(), region, id).unwrap().unwrap().state;
        assert_eq!([state(4999), state(5000)], [ImageState::Creating, ImageState::Normal]);
        assert_eq!(ledger.shared_count(id), 4);
        assert!(ledger.is_shared(id, "200000000002".parse().unwrap()));
    }

    #[test]
    fn flags_change_the_dials() {
        let mut world = World::open();
        world.set_cap(7);
        world.set_batch_limit(3);
        let dials = world.begin(0).dials;
        assert_eq!((dials.cap, dials.batch_limit), (7, Some(3)));
        world.set_batch_limit(0);
        assert_eq!(world.begin(0).dials.batch_limit, None);
        let unlimited = World::parse(&format!("[dials]\nbatch_limit = 0\n{KEY}")).unwrap();
        assert_eq!(unlimited.begin(0).dials.batch_limit, None);
    }

    #[test]
    fn every_invalid_value_is_reported_with_its_key() {
        let file = "read_lag = -1.0\naccount_faults = { 10001 = \"a b\", x = \"OverQuota\" }\nunknown_accounts = [\"1038493875\", \"x\"]\n\
                    [[keys]]\nsecret_id = \"\"\nsecret_key = \"B\"\naccount = \"0\"\n\
                    [[images]]\nid = \"lhbp-1\"\nregion = \"Mars\"\nowner = \"no\"\nnormal_after = 1e9\n\
                    shared_range = { first = \"9999999999999999999\", count = 2 }\n\
                    [[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\n\
                    shared_range = { first = \"200000000000\", count = 1000001 }";
        let error = World::parse(file).unwrap_err();
        let key = |problem: &String| {
            let words = if problem.starts_with("line ") { 2 } else { 1 };
            problem.split(": ").take(words).collect::<Vec<_>>().join(": ")
        };
        let keys: Vec<_> = error.problems.iter().map(key).collect();
        assert_eq!(
            keys,
            [
                "unknown_accounts[1]",
                "account_faults.10001",
                "account_faults",
                "line 7: keys[0].account",
                "keys[0].secret_id",
                "line 9: images[0].id",
                "line 10: images[0].region",
                "line 11: images[0].owner",
                "images[0].normal_after",
                "images[0].shared_range",
                "images[1].shared_range.count",
                "read_lag",
            ]
        );
        let text = error.to_string();
        assert!(text.contains("world: line 10: images[0].region: ") && text.contains("\"Mars\""), "{text}");
    }

    #[test]
    fn malformed_file_is_refused_with_its_line() {
        for (file, part) in [
            ("open_image = true", "unknown field `open_image`"),
            ("[dials]\ncap = \"x\"", "line 2: cap: invalid type"),
            ("[[images]]\nid = \"img-6pb6lrmy\"", "missing field `region`"),
            ("[[images]]\nid = 1", "line 2"),
            ("[[keys]]\nsecret_id = \"A\"\ndeny = [\"Share\"]", "line 3"),
        ] {
            let error = World::parse(file).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(World::parse("").unwrap_err().problems, ["keys: missing (expected at least one key)"]);
    }

    #[test]
    fn errors_show_no_values_or_control_characters() {
        for file in [
            "[[keys]]\nsecret_id = \"A\"\nsecret_key = \"topsecret\\q\"",
            "[[keys]]\nsecret_key = \"topsecret",
            "[[keys]]\nsecret_id = \"A\"\nsecret_key = [\"topsecret\"]",
            "keys = \"topsecret\"",
            "rate_window = \"topsecret\"",
            "\"topsecret@\\u001b[31m\" = 1",
            "account_faults = { \"\\u001b[31m\" = \"a b\" }",
        ] {
            let error = World::parse(file).unwrap_err().to_string();
            assert!(!error.contains("topsecret") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn reported_problems_are_bounded() {
        let accounts = "\"x\",".repeat(PROBLEMS_MAX + 5);
        let error = World::parse(&format!("accounts = [{accounts}]\n{KEY}")).unwrap_err();
        assert_eq!(error.problems.len(), PROBLEMS_MAX + 1);
        assert_eq!(error.problems.last().unwrap(), "and 5 more problems");
    }

    #[test]
    fn duplicate_ids_are_refused() {
        let image = "[[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\n";
        let error = World::parse(&format!("{KEY}{KEY}{image}{image}")).unwrap_err();
        assert_eq!(
            error.problems,
            [
                "line 6: keys[1].secret_id: duplicate id (expected once)",
                "line 13: images[1].id: duplicate id img-6pb6lrmy (expected once)",
            ]
        );
    }
}

//! The world file: images, accounts, keys and dials, in TOML, read and checked.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Permission,
    disclosure::without_value,
    ids::{AccountId, ImageId, Region},
    text::{excerpt, printable},
};
use serde::Deserialize;

use crate::{
    faults::is_code,
    ledger::{Access, Accounts, Dials, Image, ImageState, ImageType, Ledger, License},
    rate::Window,
    verify::{Key, Keys},
};

/// The id of the key that the sandbox knows from the start.
pub const SECRET_ID: &str = "AKIDSANDBOXEXAMPLE";

/// The secret half of that key. It opens nothing but a sandbox.
pub const SECRET_KEY: &str = "sandbox-secret-key-example";

/// The root account that key belongs to.
pub const ACCOUNT: &str = "100009999999";

/// Images and shares that a world file may hold.
const SHARES_MAX: usize = 1_000_000;

/// Bytes of a world file: as many shares as there may be, each written as a text.
pub const FILE_LEN_MAX: u64 = 32 * 1024 * 1024;

/// Problems of a world file that are reported.
const PROBLEMS_MAX: usize = 100;

/// Characters of a key of the file that messages show.
const KEY_CHARS_MAX: usize = 40;

const DAY_MS: u64 = 86_400_000;

/// The world as it is at the start, and after each reset.
#[derive(Clone, Debug)]
pub struct World {
    /// Accounts and dials, without images: those have times that run from the start.
    ledger: Ledger,
    images: BTreeMap<ImageId, Placed>,
    pub(crate) keys: Keys,
    pub(crate) window: Window,
    pub(crate) read_lag_ms: u64,
    /// Providers and tokens of identities; if there are none, all that look like one are good.
    pub(crate) web_identities: Vec<(String, String)>,
    pub(crate) instance_role: Option<InstanceRole>,
}

/// The role of the instance that asks the metadata service.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRole {
    pub(crate) name: String,
    pub(crate) account: AccountId,
    /// How long a key of it lives.
    pub(crate) seconds: u64,
}

/// An image as it is at the start.
#[derive(Clone, Debug)]
struct Placed {
    image: Image,
    /// Milliseconds after the start at which it becomes normal.
    normal_after: Option<u64>,
    /// Who has it.
    shared: Vec<AccountId>,
}

/// A world file that cannot be used: every problem, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("world: {}", problems.join("\nworld: "))]
pub struct WorldError {
    /// Where, what was found, what is allowed.
    pub problems: Vec<String>,
}

impl World {
    /// The world of `examples/world.toml`.
    ///
    /// # Panics
    /// Never: a test reads the file that is compiled in.
    #[must_use]
    pub fn example() -> Self {
        Self::parse(include_str!("../../../examples/world.toml")).expect("the example that is compiled in is a world")
    }

    /// A world in which any well-formed image and account exists, with the one key.
    ///
    /// # Panics
    /// Never: a test calls it.
    #[must_use]
    pub fn open() -> Self {
        let file = format!(
            "open_images = true\nopen_accounts = true\n[[keys]]\nsecret_id = {SECRET_ID:?}\nsecret_key = \
             {SECRET_KEY:?}\naccount = {ACCOUNT:?}\n[instance_role]\nname = \"imageshare\""
        );
        Self::parse(&file).expect("the file above is a world")
    }

    /// Reads and checks a world file.
    ///
    /// # Errors
    /// If it is no TOML of the right shape, with the first such problem; else with every value that is not allowed.
    pub fn parse(text: &str) -> Result<Self, WorldError> {
        let file: File = toml::from_str(text).map_err(|error| {
            // The error's own form quotes the line, which may hold a key.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            WorldError { problems: vec![format!("line {line}: {}", without_value(error.message()))] }
        })?;
        let mut check = Check::default();
        let world = check.world(&file);
        let Check { mut problems, more, .. } = check;
        if more > 0 {
            problems.push(format!("and {more} more problems"));
        }
        if problems.is_empty() { Ok(world) } else { Err(WorldError { problems }) }
    }

    /// Accounts an image may be shared with.
    pub const fn set_cap(&mut self, cap: usize) {
        self.ledger.dials.cap = cap;
    }

    /// Accounts one request may name.
    pub const fn set_batch_limit(&mut self, limit: usize) {
        self.ledger.dials.batch_limit = Some(limit);
    }

    /// Ids that are no account.
    pub(crate) const fn unknown_accounts(&self) -> &BTreeSet<AccountId> {
        &self.ledger.accounts.unknown
    }

    /// The ledger of a world that begins now, in milliseconds.
    pub(crate) fn begin(&self, now: u64) -> Ledger {
        let mut ledger = self.ledger.clone();
        // Shared long enough ago that no reading, however late, is from before.
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

/// The file as it is written. Values that have a form of their own are text here, so that all mistakes are found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Whether every well-formed image id is an image of who writes to it first.
    #[serde(default)]
    open_images: bool,
    /// Whether every well-formed account id is an account.
    #[serde(default)]
    open_accounts: bool,
    /// Ids that are accounts where not all are.
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default)]
    unknown_accounts: Vec<String>,
    #[serde(default)]
    sub_accounts: Vec<String>,
    /// Account id to the code with which every request that names it fails.
    #[serde(default)]
    account_faults: BTreeMap<String, String>,
    #[serde(default)]
    dials: Dials,
    /// Where the second of a rate limit begins.
    #[serde(default)]
    rate_window: Window,
    /// Seconds by which readings of who has an image lag behind, at most what `dials.history_ms` remembers.
    #[serde(default)]
    read_lag: f64,
    #[serde(default)]
    keys: Vec<FileKey>,
    /// What identity providers say, for AssumeRoleWithWebIdentity.
    #[serde(default)]
    web_identities: Vec<FileWebIdentity>,
    /// The role of the instance that asks the metadata service.
    instance_role: Option<FileInstanceRole>,
    #[serde(default)]
    images: Vec<FileImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    secret_id: String,
    secret_key: String,
    account: String,
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
    /// By default the account of the first key.
    account: Option<String>,
    /// How long a key of the role lives.
    #[serde(default = "two_hours")]
    seconds: u64,
}

const fn two_hours() -> u64 {
    7200
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileImage {
    id: String,
    region: String,
    /// By default the account of the first key.
    owner: Option<String>,
    #[serde(default)]
    name: String,
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

/// So many accounts with ids one after the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedRange {
    first: String,
    count: u64,
}

/// Turns text into values and notes what does not go.
#[derive(Default)]
struct Check {
    problems: Vec<String>,
    /// Problems beyond those.
    more: usize,
    shares: usize,
}

impl Check {
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
            let account = self.value(&format!("keys[{index}].account"), &key.account);
            for (name, text) in [("secret_id", &key.secret_id), ("secret_key", &key.secret_key)] {
                if text.is_empty() || text.len() > 1024 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    self.note(&format!("keys[{index}].{name}"), "1 to 1024 printable ASCII characters are allowed");
                }
            }
            if keys.contains(&key.secret_id) {
                self.note(&format!("keys[{index}].secret_id"), "it occurs twice, allowed is once");
            }
            first_account = first_account.or(account);
            if let Some(account) = account {
                let secret_key = key.secret_key.clone();
                keys.insert(key.secret_id.clone(), Key { secret_key, account, temporary: None });
            }
        }
        if file.keys.is_empty() {
            self.note("keys", "found none, at least one is needed");
        }
        let mut images = BTreeMap::new();
        for (index, image) in file.images.iter().enumerate() {
            let Some((id, placed)) = self.image(index, image, first_account) else { continue };
            if images.insert(id, placed).is_some() {
                self.note(&format!("images[{index}].id"), &format!("{id} occurs twice, allowed is once"));
            }
        }
        let read_lag_ms = self.milliseconds("read_lag", file.read_lag).unwrap_or_default();
        if read_lag_ms > file.dials.history_ms {
            self.note("read_lag", "it is longer than dials.history_ms remembers");
        }
        let mut ledger = Ledger::default();
        ledger.open_images = file.open_images;
        ledger.accounts = accounts;
        ledger.dials = file.dials.clone();
        let identity = |identity: &FileWebIdentity| (identity.provider_id.clone(), identity.token.clone());
        let web_identities = file.web_identities.iter().map(identity).collect();
        let instance_role = file.instance_role.as_ref().and_then(|role| self.instance_role(role, first_account));
        World { ledger, images, keys, window: file.rate_window, read_lag_ms, web_identities, instance_role }
    }

    fn instance_role(&mut self, file: &FileInstanceRole, first_account: Option<AccountId>) -> Option<InstanceRole> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if file.name.is_empty() || file.name.len() > 128 || !file.name.bytes().all(is_name) {
            self.note("instance_role.name", "1 to 128 letters, digits and _+=,.@- are allowed");
        }
        if !(1..=DAY_MS / 1000).contains(&file.seconds) {
            self.note("instance_role.seconds", &format!("found {}, allowed are 1 to 86400", file.seconds));
        }
        let account = match &file.account {
            Some(text) => self.value("instance_role.account", text),
            None => first_account,
        };
        Some(InstanceRole { name: file.name.clone(), account: account?, seconds: file.seconds })
    }

    /// An image with its id.
    fn image(&mut self, index: usize, file: &FileImage, first_account: Option<AccountId>) -> Option<(ImageId, Placed)> {
        let at = |name: &str| format!("images[{index}].{name}");
        let id: Option<ImageId> = self.value(&at("id"), &file.id);
        let region: Option<Region> = self.value(&at("region"), &file.region);
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
        let image = Image {
            name: file.name.clone(),
            state: file.state,
            image_type: file.image_type,
            license: file.license,
            encrypted: file.encrypted,
            instance_image: file.instance_image,
            access: file.access,
            ..Image::normal(owner?, region?)
        };
        Some((id?, Placed { image, normal_after, shared }))
    }

    fn account_fault(&mut self, id: &str, code: &str) -> Option<(AccountId, String)> {
        if !is_code(code) {
            let found = excerpt(code);
            let id = printable(id, KEY_CHARS_MAX);
            self.note(&format!("account_faults.{id}"), &format!("found {found}, allowed are letters, digits and dots"));
        }
        Some((self.value("account_faults", id)?, code.to_owned()))
    }

    fn range(&mut self, at: &str, range: &SharedRange) -> Vec<AccountId> {
        let Some(first) = self.value::<AccountId>(&format!("{at}.first"), &range.first) else { return Vec::new() };
        let room = SHARES_MAX.saturating_sub(self.shares);
        if usize::try_from(range.count).map_or(true, |count| count > room) {
            self.note(&format!("{at}.count"), &format!("found {}, allowed are {room}", range.count));
            return Vec::new();
        }
        let ids: Option<Vec<_>> =
            (0..range.count).map(|n| first.get().checked_add(n).and_then(|id| AccountId::new(id).ok())).collect();
        ids.unwrap_or_else(|| {
            self.note(at, "the last id has over 19 digits");
            Vec::new()
        })
    }

    fn accounts(&mut self, at: &str, texts: &[String]) -> Vec<AccountId> {
        texts.iter().enumerate().filter_map(|(index, text)| self.value(&format!("{at}[{index}]"), text)).collect()
    }

    fn value<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, at: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.note(at, &error.to_string())).ok()
    }

    /// Seconds as milliseconds.
    fn milliseconds(&mut self, at: &str, seconds: f64) -> Option<u64> {
        if !(0.0..=86_400.0).contains(&seconds) {
            self.note(at, &format!("found {}, allowed are 0 to 86400 seconds", excerpt(&seconds.to_string())));
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
    fn the_worlds_that_are_compiled_in_are_worlds() {
        let example = World::example();
        assert!(example.keys.contains(SECRET_ID));
        let ledger = example.begin(0);
        let full = |id: ImageId| ledger.shared_count(id) == 500;
        assert!(ledger.state().any(|(id, _)| full(id)));
        assert!(World::open().begin(0).open_images);
    }

    #[test]
    fn times_run_from_when_the_world_begins() {
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
    }

    #[test]
    fn every_wrong_value_is_reported_with_its_key() {
        let file = "read_lag = -1.0\naccount_faults = { 10001 = \"a b\", x = \"OverQuota\" }\nunknown_accounts = [\"1038493875\", \"x\"]\n\
                    [[keys]]\nsecret_id = \"\"\nsecret_key = \"B\"\naccount = \"0\"\n\
                    [[images]]\nid = \"lhbp-1\"\nregion = \"Mars\"\nowner = \"no\"\nnormal_after = 1e9\n\
                    shared_range = { first = \"9999999999999999999\", count = 2 }\n\
                    [[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\n\
                    shared_range = { first = \"200000000000\", count = 1000001 }";
        let error = World::parse(file).unwrap_err();
        let keys: Vec<_> = error.problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
        assert_eq!(
            keys,
            [
                "unknown_accounts[1]",
                "account_faults.10001",
                "account_faults",
                "keys[0].account",
                "keys[0].secret_id",
                "images[0].id",
                "images[0].region",
                "images[0].owner",
                "images[0].normal_after",
                "images[0].shared_range",
                "images[1].shared_range.count",
                "read_lag",
            ]
        );
        let text = error.to_string();
        assert!(text.contains("world: images[0].region: found \"Mars\", allowed is a region id"), "{text}");
    }

    #[test]
    fn what_is_not_of_the_shape_is_refused_with_its_line() {
        for (file, part) in [
            ("open_image = true", "unknown field `open_image`"),
            ("[dials]\ncap = \"x\"", "line 2"),
            ("[[images]]\nid = \"img-6pb6lrmy\"", "missing field `region`"),
            ("[[images]]\nid = 1", "line 2"),
        ] {
            let error = World::parse(file).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(World::parse("").unwrap_err().problems, ["keys: found none, at least one is needed"]);
    }

    #[test]
    fn an_error_shows_no_value_and_nothing_raw() {
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
    fn the_problems_of_a_file_are_bounded() {
        let accounts = "\"x\",".repeat(PROBLEMS_MAX + 5);
        let error = World::parse(&format!("accounts = [{accounts}]\n{KEY}")).unwrap_err();
        assert_eq!(error.problems.len(), PROBLEMS_MAX + 1);
        assert_eq!(error.problems.last().unwrap(), "and 5 more problems");
    }

    #[test]
    fn no_id_may_occur_twice() {
        let image = "[[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\n";
        let error = World::parse(&format!("{KEY}{KEY}{image}{image}")).unwrap_err();
        assert_eq!(
            error.problems,
            [
                "keys[1].secret_id: it occurs twice, allowed is once",
                "images[1].id: img-6pb6lrmy occurs twice, allowed is once",
            ]
        );
    }
}

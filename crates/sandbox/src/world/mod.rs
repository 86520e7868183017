//! The world file: images, accounts, keys and dials, in TOML.

mod file;
mod organization;

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId},
};

pub use file::schema;
pub(crate) use organization::{Member, Node, Organization};

use crate::{
    actions::Action,
    document::DocumentError,
    ledger::{Image, Ledger},
    rate::Window,
    verify::Keys,
};

/// The id of the built-in key.
pub const SECRET_ID: &str = "AKIDSANDBOXEXAMPLE";

/// The secret key of the built-in key. It is valid for sandboxes only.
pub const SECRET_KEY: &str = "sandbox-secret-key-example";

/// The root account of the built-in key.
pub const ACCOUNT: &str = "100009999999";

/// The maximum length of a world file in bytes: enough for a million shares.
pub const FILE_LEN_MAX: u64 = 32 * 1024 * 1024;

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
    /// `None` if no account administers an organization.
    pub(crate) organization: Option<Organization>,
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

impl World {
    /// The world of `examples/world.toml`.
    ///
    /// # Panics
    /// Never: a test parses the file.
    #[must_use]
    pub fn example() -> Self {
        Self::parse(include_str!("../../../../examples/world.toml")).expect("a test parses the example")
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
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        file::parse(text)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::ImageState;

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
        let page = include_str!("../../../../docs/sandbox.md");
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

    /// Checks all lines of a refusal.
    #[track_caller]
    fn check_refused(file: &str, lines: &[&str]) {
        let error = World::parse(file).unwrap_err().in_file("w.toml");
        assert_eq!(error.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn every_invalid_value_is_reported_with_its_place() {
        let account = "(expected a root account id of 5 to 19 digits without a leading zero)";
        check_refused(
            "read_lag = -1.0\naccount_faults = { 10001 = \"a b\", x = \"OverQuota\" }\nunknown_accounts = [\n\"1038493875\",\n\
             \"x\"]\n\
             [[keys]]\nsecret_id = \"\"\nsecret_key = \"B\"\naccount = \"0\"\n\
             [[images]]\nid = \"lhbp-1\"\nregion = \"Mars\"\nowner = \"no\"\nnormal_after = 1e9\n\
             shared_range = { first = \"9999999999999999999\", count = 2 }\n\
             [[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapur\"\ncreated = \"today\"\n\
             shared_range = { first = \"200000000000\", count = 1000001 }",
            &[
                "w.toml:1: read_lag: invalid time -1 (expected 0 to 86400 seconds)",
                "w.toml:2: account_faults.10001: invalid code \"a b\" (expected letters, digits and dots)",
                &format!("w.toml:2: account_faults.x: invalid value \"x\" {account}"),
                &format!("w.toml:5: unknown_accounts[1]: invalid value \"x\" {account}"),
                "w.toml:7: keys[0].secret_id: invalid value (expected 1 to 1024 printable ASCII characters)",
                &format!("w.toml:9: keys[0].account: invalid value \"0\" {account}"),
                "w.toml:11: images[0].id: invalid value \"lhbp-1\" (expected img- followed by 4 to 32 lowercase letters or \
                 digits)",
                "w.toml:12: images[0].region: unknown region \"Mars\" (expected a region of the vendor, such as \
                 ap-singapore, or of the key regions)",
                &format!("w.toml:13: images[0].owner: invalid value \"no\" {account}"),
                "w.toml:14: images[0].normal_after: invalid time 1000000000 (expected 0 to 86400 seconds)",
                "w.toml:15: images[0].shared_range: last id too long (expected at most 19 digits)",
                "w.toml:18: images[1].region: unknown region \"ap-singapur\" (expected a region of the vendor, such as \
                 ap-singapore, or of the key regions)",
                "hint: did you mean ap-singapore?",
                "w.toml:19: images[1].created: invalid time \"today\" (expected RFC 3339 such as 2026-11-02T08:15:30Z)",
                "w.toml:20: images[1].shared_range.count: invalid count 1000001 (expected at most 1000000)",
            ],
        );
    }

    #[test]
    fn malformed_file_is_refused_with_line_and_key() {
        let images = "[[images]]\nid = \"img-6pb6lrmy\"\n";
        check_refused(
            "open_image = true",
            &[
                "w.toml:1: open_image: unknown key (expected open_images, open_accounts, accounts, unknown_accounts, \
                 sub_accounts, account_faults, dials, rate_window, read_lag, regions, keys, web_identities, \
                 instance_role, organization, images)",
                "hint: did you mean open_images?",
            ],
        );
        check_refused("[dials]\ncap = \"x\"", &["w.toml:2: dials.cap: invalid type (expected a whole number)"]);
        check_refused(images, &["w.toml:1: images[0]: missing key (expected region)"]);
        check_refused(
            &format!("{images}region = \"ap-tokyo\"\n[[images]]\nid = 1"),
            &["w.toml:5: images[1].id: invalid type (expected a string)"],
        );
        check_refused("images = [1]", &["w.toml:1: images[0]: invalid type (expected a table)"]);
        check_refused("accounts = 1", &["w.toml:1: accounts: invalid type (expected a list)"]);
        let unknown = "[[keys]]\nsecret_id = \"A\"\ndeny = [\"DescribeImage\"]";
        let error = World::parse(unknown).unwrap_err().in_file("w.toml");
        assert!(error.starts_with("w.toml:3: keys[0].deny[0]: unknown action \"DescribeImage\" (expected "), "{error}");
        assert!(error.ends_with("\nhint: did you mean DescribeImages?"), "{error}");
        check_refused(
            "rate_window = \"slidin\"",
            &["w.toml:1: rate_window: unknown variant (expected fixed or sliding)", "hint: did you mean sliding?"],
        );
        check_refused("[dials\ncap = 1", &["w.toml:1: unclosed table (expected ])"]);
        check_refused("read_lag = 1.\n", &["w.toml:1: read_lag: invalid fraction (expected digits)"]);
        check_refused("", &["w.toml:1: missing key (expected keys)"]);
        check_refused("keys = []", &["w.toml:1: keys: missing (expected at least one key)"]);
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
        let accounts = "\"x\",".repeat(105);
        let error = World::parse(&format!("accounts = [{accounts}]\n{KEY}")).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 101);
        assert_eq!(error.lines().last(), Some("5 more problems (expected none)"));
    }

    #[test]
    fn duplicate_ids_are_refused() {
        let image = "[[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\n";
        check_refused(
            &format!("{KEY}{KEY}{image}{image}"),
            &[
                "w.toml:6: keys[1].secret_id: duplicate id (expected once)",
                "w.toml:13: images[1].id: duplicate id img-6pb6lrmy (expected once)",
            ],
        );
    }

    #[test]
    fn more_regions_can_be_added() {
        let image = "[[images]]\nid = \"img-6pb6lrmy\"\nregion = \"me-mars\"\n";
        World::parse(&format!("{KEY}{image}")).unwrap_err();
        World::parse(&format!("regions = [\"me-mars\"]\n{KEY}{image}")).unwrap();
    }

    #[test]
    fn schema_and_parser_agree() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let is_valid = |file: &str| validator.is_valid(&toml::from_str(file).unwrap());
        let page = include_str!("../../../../docs/sandbox.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        for file in [include_str!("../../../../examples/world.toml"), rest.split_once("```").unwrap().0] {
            assert!(is_valid(file));
        }
        let image = "[[images]]\nid = \"img-6pb6lrmy\"\nregion = \"ap-singapore\"\n";
        for lines in
            ["", "state = \"SYNCING\"", "type = \"PUBLIC_IMAGE\"\naccess = { write = false }\n[dials]\nbatch_limit = 0"]
        {
            let file = format!("{KEY}{image}{lines}");
            World::parse(&file).unwrap();
            assert!(is_valid(&file), "{file}");
        }
        for lines in [
            "",
            "stat = \"NORMAL\"",
            "state = \"normal\"",
            "normal_after = -1",
            "owner = \"1\"",
            "shared = [\"x\"]",
            "name = 1",
            "[dials]\nfailing_batch = \"all\"",
        ] {
            let file = if lines.is_empty() { image.to_owned() } else { format!("{KEY}{image}{lines}") };
            World::parse(&file).unwrap_err();
            assert!(!is_valid(&file), "{file}");
        }
    }
}

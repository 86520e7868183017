//! Which credentials there are and where each is looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use imageshare_core::{credential::REDACTED, disclosure::is_name, ids::AccountId, text::printable};

use super::{
    DEFAULT_NAME,
    choices::{Choices, Shown},
    file::Section,
    origin::{Given, Origin, Setting},
    values::{FilePath, duration, file_path, parsed, region},
};
use crate::{
    credentials::{DEFAULT_SECTION, ROLE_SECONDS_MAX, Role, Source, is_role_name},
    endpoint::Endpoint,
};

/// Characters of a text that has no form of its own.
const TEXT_CHARS_MAX: usize = 200;

/// Bytes of the part of a role's resource name that is its own.
const ROLE_LEN_MAX: usize = 256;

/// The words for the sources, and which keys each has.
const SOURCES: [(&str, &[&str]); 7] = [
    ("environment", &[]),
    ("profile", &["path", "section"]),
    ("tccli", &["path", "profile"]),
    ("file", &["path"]),
    ("cvm_role", &["role", "endpoint"]),
    ("assume_role", &["role_arn", "session_name", "duration", "external_id", "credential", "endpoint", "region"]),
    ("tke_oidc", &["role_arn", "session_name", "duration", "provider_id", "token_file", "endpoint", "region"]),
];

/// How long a role's credential lives if nobody says otherwise, as the vendor has it.
const ROLE_LIFE: Duration = Duration::from_hours(2);

/// Under which name a role's calls are logged.
const SESSION: &str = "imageshare";

/// The sources of the credentials by name.
pub(super) type Sources = BTreeMap<String, Found>;

/// Where a credential comes from, and the settings that say so.
pub(super) struct Found {
    pub(super) source: Source,
    pub(super) settings: Vec<Setting>,
}

/// The sources of the credentials. There is always one of the name `default`.
pub(super) fn read(mut sections: Section, choices: &mut Choices<'_>) -> Sources {
    let mut sources = BTreeMap::from([(DEFAULT_NAME.to_owned(), Found::chain())]);
    // Roles that are assumed with another credential wait until all others are known.
    let mut assumed = Vec::new();
    for name in sections.names() {
        // Names are shown wherever a credential is spoken of.
        if !is_name(&name) {
            let origin = sections.origin(&name);
            choices.problems.push(format!(
                "{origin}: invalid name of a credential (expected 1 to 63 letters, digits, dots, spaces, underscores or \
                 hyphens, and nothing that looks like a key)"
            ));
        }
        let section = sections.section(&name, &mut choices.problems);
        let Some(mut one) = One::read(&name, section, choices) else { continue };
        match one.source(choices) {
            Some(source) => drop(sources.insert(name, Found { source, settings: one.settings })),
            None => assumed.push((name, one)),
        }
    }
    let is_assumed = |name: &String| assumed.iter().any(|(other, _)| other == name);
    let bases: BTreeMap<String, Source> = sources
        .iter()
        .filter(|(name, _)| !is_assumed(name))
        .map(|(name, found)| (name.clone(), found.source.clone()))
        .collect();
    for (name, mut one) in assumed {
        // What is not right was reported; a lane may name it all the same.
        let source = one.assumed_role(&bases, choices).unwrap_or(Source::Environment);
        sources.insert(name, Found { source, settings: one.settings });
    }
    sources
}

impl Found {
    /// The credential that there is without settings.
    fn chain() -> Self {
        let (source, key) = (Source::Chain, format!("credentials.{DEFAULT_NAME}.source"));
        let setting = Setting { key, value: source.to_string(), origin: Origin::Default };
        Self { source, settings: vec![setting] }
    }
}

/// The keys of one credential, taken one by one.
struct One {
    name: String,
    kind: &'static str,
    given: BTreeMap<&'static str, Given>,
    /// Those that were given.
    known: BTreeSet<&'static str>,
    section: Section,
    settings: Vec<Setting>,
}

impl One {
    /// All that is given, if it is known for what kind of source.
    fn read(name: &str, mut section: Section, choices: &mut Choices<'_>) -> Option<Self> {
        let problems = &mut choices.problems;
        let words: Vec<&str> = SOURCES.iter().map(|(word, _)| *word).collect();
        let allowed = format!("allowed is {}", list(&words));
        let (source, origin) = (section.take("source", problems), section.origin("source"));
        let keys: BTreeSet<&'static str> = SOURCES.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
        let mut given = BTreeMap::new();
        for key in &keys {
            if let Some(value) = section.take(key, problems) {
                given.insert(*key, value);
            }
        }
        let known = SOURCES.into_iter().find(|(word, _)| source.as_ref().is_some_and(|source| source.text == *word));
        let may_stand: Vec<&str> = match known {
            Some((_, own)) => ["source"].into_iter().chain(own.iter().copied()).collect(),
            None => ["source"].into_iter().chain(keys).collect(),
        };
        section.report_rest(&may_stand.join(", "), problems);
        if source.is_none() {
            problems.push(format!("{origin}: found nothing, {allowed}"));
            return None;
        }
        let Some((kind, own)) = known else {
            // The text is not shown: it may be a key in the wrong place.
            problems.push(format!("{origin}: found another text, {allowed}"));
            return None;
        };
        for (key, value) in given.iter().filter(|(key, _)| !own.contains(key)) {
            let with = SOURCES.iter().filter(|(_, keys)| keys.contains(key)).map(|(word, _)| *word);
            let with = list(&with.collect::<Vec<_>>());
            problems.push(format!("{}: found it beside source {kind}, allowed is it with {with}", value.origin));
        }
        let setting = Setting { key: format!("credentials.{name}.source"), value: kind.to_owned(), origin };
        let known = given.keys().copied().collect();
        Some(Self { name: name.to_owned(), kind, given, known, section, settings: vec![setting] })
    }

    /// The source, unless it is a role that is assumed with another credential.
    fn source(&mut self, choices: &mut Choices<'_>) -> Option<Source> {
        let source = match self.kind {
            "environment" => Source::Environment,
            "profile" => Source::Profile {
                path: self.path("path", "a profile file", choices),
                section: match self.any("section", choices, text) {
                    Some(section) => section,
                    None => self.default("section", DEFAULT_SECTION.to_owned()),
                },
            },
            "tccli" => Source::Tccli {
                path: self.path("path", "a credential file of tccli", choices),
                profile: self.any("profile", choices, text),
            },
            "file" => {
                let what = "a file or a folder with a credential";
                let path = self.path("path", what, choices);
                let path = self.needed("path", path, &format!("the path of {what}"), choices);
                Source::File { path: path.unwrap_or_default() }
            }
            "cvm_role" => Source::CvmRole {
                role: self.any("role", choices, |text| {
                    of_form(text, is_role_name(text), "1 to 128 letters, digits and _+=,.@-")
                }),
                endpoint: self
                    .any("endpoint", choices, |text| Endpoint::of_metadata(text).map_err(|error| error.to_string())),
            },
            "tke_oidc" => Source::TkeOidc {
                role: self.role(choices),
                provider_id: self.any("provider_id", choices, text),
                token_file: self.path("token_file", "the file with the pod's token", choices),
            },
            _ => return None,
        };
        Some(source)
    }

    fn assumed_role(&mut self, bases: &BTreeMap<String, Source>, choices: &mut Choices<'_>) -> Option<Source> {
        let role = self.role(choices);
        let arn = self.needed("role_arn", role.arn.clone(), "qcs::cam::uin/UIN:roleName/NAME", choices);
        let external_id = self.any("external_id", choices, |text| {
            let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
            let is_allowed = (2..=128).contains(&text.len()) && text.bytes().all(is_one);
            of_form(text, is_allowed, "2 to 128 letters, digits and _+=,.@:/-").map(ExternalId)
        });
        let external_id = external_id.map(|ExternalId(text)| text);
        let names = bases.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let allowed = format!("the name of a credential that is no assumed role: {names}");
        let named = self.any("credential", choices, |text| match bases.contains_key(text) {
            true => Ok(text.to_owned()),
            // A text that is no name is not shown: it may be a key in the wrong place.
            false => Err(format!("found another text, allowed is {allowed}")),
        });
        let default = || bases.contains_key(DEFAULT_NAME).then(|| DEFAULT_NAME.to_owned());
        let credential = match named {
            None if !self.known.contains("credential") => default().map(|name| self.default("credential", name)),
            named => named,
        };
        let credential = self.needed("credential", credential, &allowed, choices)?;
        let base = Box::new(bases.get(&credential)?.clone());
        arn.map(|_| Source::AssumeRole { role, external_id, credential, base })
    }

    fn role(&mut self, choices: &mut Choices<'_>) -> Role {
        let arn = self.any("role_arn", choices, |text| {
            of_form(text, is_role_arn(text), "qcs::cam::uin/UIN:roleName/NAME or :role/ID")
        });
        let session = self.any("session_name", choices, |text| {
            of_form(text, text.len() >= 2 && is_role_name(text), "2 to 128 letters, digits and _+=,.@-")
        });
        let life = self.any("duration", choices, |text| {
            let life = duration(text, Duration::from_secs(1)..=Duration::from_secs(ROLE_SECONDS_MAX))?;
            let is_whole = life.subsec_nanos() == 0;
            is_whole.then_some(life).ok_or_else(|| format!("found {life:?}, allowed are whole seconds"))
        });
        let session = session.unwrap_or_else(|| self.default("session_name", SESSION.to_owned()));
        let seconds = life.unwrap_or_else(|| self.default("duration", ROLE_LIFE)).as_secs();
        let endpoint = self.any("endpoint", choices, parsed::<Endpoint>);
        let region = self.any("region", choices, |text| region(text, false));
        Role { arn, session, seconds, endpoint, region }
    }

    /// A value that may be given.
    fn any<T: Shown>(
        &mut self,
        key: &'static str,
        choices: &mut Choices<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given.remove(key).into_iter().collect();
        let (value, setting) = choices.choose_any(&format!("credentials.{}.{key}", self.name), given, parse)?;
        self.settings.push(setting);
        Some(value)
    }

    fn path(&mut self, key: &'static str, what: &str, choices: &mut Choices<'_>) -> Option<PathBuf> {
        self.any(key, choices, |text| file_path(text, what)).map(|FilePath(path)| path)
    }

    /// What has to be given. One that was and is not right was reported.
    fn needed<T>(&self, key: &str, value: Option<T>, allowed: &str, choices: &mut Choices<'_>) -> Option<T> {
        if value.is_none() && !self.known.contains(key) {
            choices.problems.push(format!("{}: found nothing, allowed is {allowed}", self.section.origin(key)));
        }
        value
    }

    fn default<T: Shown>(&mut self, key: &str, value: T) -> T {
        let key = format!("credentials.{}.{key}", self.name);
        self.settings.push(Setting { key, value: value.shown(), origin: Origin::Default });
        value
    }
}

/// What the owner of a role agreed on with us. Nobody else need know it.
struct ExternalId(String);

impl Shown for ExternalId {
    fn shown(&self) -> String {
        REDACTED.to_owned()
    }
}

/// A text of a form. Another one is not shown: it may be a key in the wrong place.
fn of_form(text: &str, is_allowed: bool, allowed: &str) -> Result<String, String> {
    is_allowed.then(|| text.to_owned()).ok_or_else(|| format!("found another text, allowed is {allowed}"))
}

/// Any text that can be shown whole.
fn text(text: &str) -> Result<String, String> {
    let is_plain = !text.is_empty() && printable(text, TEXT_CHARS_MAX) == text;
    of_form(text, is_plain, "a text of 1 to 200 printable characters")
}

/// `qcs::cam::uin/<uin>:roleName/<name>` or `...:role/<id>`.
fn is_role_arn(text: &str) -> bool {
    let parts = text.strip_prefix("qcs::cam::uin/").and_then(|rest| rest.split_once(':'));
    let Some((account, role)) = parts else { return false };
    let name = role.strip_prefix("roleName/").or_else(|| role.strip_prefix("role/")).unwrap_or_default();
    account.parse::<AccountId>().is_ok()
        && (1..=ROLE_LEN_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@/-".contains(&byte))
}

/// `a, b or c`.
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

//! Credentials: the source of each, and what the source needs.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use imageshare_core::{
    disclosure::is_name,
    ids::{AccountId, Region},
    text::printable,
};
use serde::{Serialize, Serializer};

use super::{
    DEFAULT_NAME,
    error::{SettingsFault, SettingsProblem},
    file::joined,
    resolver::{SettingsResolver, section},
    setting::{SecretText, Setting, SettingOrigin},
    values::{Invalid, Parser, file_path, form, name_of, one_of, parsed, region, whole_seconds, word},
};
use crate::{
    credentials::{DEFAULT_SECTION, ROLE_SECONDS_MAX, Role, Source, is_role_name},
    endpoint::{Endpoint, MetadataEndpoint},
};

/// Characters of a text that has no form of its own.
const TEXT_CHARS_MAX: usize = 200;

/// Bytes of the part of a role's resource name that is its own.
const ROLE_LEN_MAX: usize = 256;

/// The kinds of sources, and the keys that each uses.
const KINDS: [(SourceKind, &[&str]); 7] = [
    (SourceKind::Environment, &[]),
    (SourceKind::Profile, &["path", "section"]),
    (SourceKind::Tccli, &["path", "profile"]),
    (SourceKind::File, &["path"]),
    (SourceKind::CvmRole, &["role", "endpoint"]),
    (
        SourceKind::AssumeRole,
        &["role_arn", "session_name", "duration", "external_id", "credential", "endpoint", "region"],
    ),
    (SourceKind::TkeOidc, &["role_arn", "session_name", "duration", "provider_id", "token_file", "endpoint", "region"]),
];

section! {
    /// A credential of the settings. A source uses only some of the keys.
    CredentialSettings from RawCredential (kind: SourceKind, bases: &[String]) {
        /// [Below](#where-keys-come-from)
        source: SourceKind = SourceKind::Chain, source_kind();
        /// A profile file with source `profile`; default: the file of the variable TENCENTCLOUD_CREDENTIALS_FILE, else
        /// `~/.tencentcloud/credentials`, else `/etc/tencentcloud/credentials`. With `tccli` and `file` the file or folder itself
        path: Option<PathBuf> = None, file_path(kind.path_is()).optional();
        /// A section of the profile file; with `profile`
        section: String = DEFAULT_SECTION.to_owned(), plain_text();
        /// A profile of the vendor's command line; with `tccli`. Default: that of the variable TCCLI_PROFILE, else `default`
        profile: Option<String> = None, plain_text().optional();
        /// A role's name; with `cvm_role`. Default: the role that is bound to the instance
        role: Option<String> = None, form("1 to 128 letters, digits and _+=,.@-", is_role_name).optional();
        /// With `assume_role` and `tke_oidc`; the latter has the variable TKE_ROLE_ARN for its default
        role_arn: Option<String> = None, form("qcs::cam::uin/UIN:roleName/NAME or :role/ID", is_role_arn).optional();
        /// The name under which the role's calls are logged; with `assume_role` and `tke_oidc`
        session_name: String = "imageshare".to_owned(), form("2 to 128 letters, digits and _+=,.@-", is_session_name);
        /// How long a role's key lives; with `assume_role` and `tke_oidc`
        duration: Duration = Duration::from_hours(2),
            whole_seconds(Duration::from_secs(1)..=Duration::from_secs(ROLE_SECONDS_MAX));
        /// The external id that the role requires; with `assume_role`. Not shown
        external_id: Option<SecretText> = None,
            form("2 to 128 letters, digits and _+=,.@:/-", is_external_id).map(SecretText).optional();
        /// The credential that the role is assumed with, not an assumed role itself; with `assume_role`
        credential: String = DEFAULT_NAME.to_owned(), base(bases);
        /// The identity provider; with `tke_oidc`. Default: that of the variable TKE_PROVIDER_ID
        provider_id: Option<String> = None, plain_text().optional();
        /// The file with the pod's token; with `tke_oidc`. Default: that of the variable TKE_WEB_IDENTITY_TOKEN_FILE
        token_file: Option<PathBuf> = None, file_path("the file with the pod's token").optional();
        /// The service for temporary keys, by default that of the lane's site; with `cvm_role` the metadata service, by
        /// default `http://metadata.tencentyun.com`, or a link-local address such as `http://169.254.0.23`
        endpoint: Option<Endpoint> = None, kind.endpoint().optional();
        /// The region in requests for temporary keys, by default `ap-guangzhou`; with `tke_oidc` that of the variable
        /// TKE_REGION
        region: Option<Region> = None, region().optional();
    }
}

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// The environment, then the profile file: what is used without settings.
    Chain,
    Environment,
    Profile,
    Tccli,
    File,
    CvmRole,
    AssumeRole,
    TkeOidc,
}

impl SourceKind {
    /// Whether a role can be assumed with its keys.
    fn is_base(self) -> bool {
        !matches!(self, Self::AssumeRole | Self::TkeOidc)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "environment, then profile",
            Self::Environment => "environment",
            Self::Profile => "profile",
            Self::Tccli => "tccli",
            Self::File => "file",
            Self::CvmRole => "cvm_role",
            Self::AssumeRole => "assume_role",
            Self::TkeOidc => "tke_oidc",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        KINDS.into_iter().find(|(kind, _)| *kind == self).map_or(&[], |(_, keys)| keys)
    }

    const fn path_is(self) -> &'static str {
        match self {
            Self::Tccli => "a credential file of tccli",
            Self::File => "a file or a folder with a credential",
            _ => "a profile file",
        }
    }

    fn endpoint(self) -> Parser<Endpoint> {
        match self {
            Self::CvmRole => parsed(Endpoint::EXPECTED).map(|MetadataEndpoint(endpoint)| endpoint),
            _ => parsed(Endpoint::EXPECTED),
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A credential with the keys that its source uses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CredentialEntry(pub(super) CredentialSettings);

impl Serialize for CredentialEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = self.0.source.value.keys();
        let used = self.0.shown().into_iter().filter(|(key, _)| key == "source" || keys.contains(&key.as_str()));
        serializer.collect_map(used)
    }
}

/// Resolves the credentials by name. One of the name `default` exists without settings.
pub(super) fn resolve(
    mut raw: BTreeMap<String, RawCredential>,
    resolver: &mut SettingsResolver<'_>,
) -> BTreeMap<String, CredentialEntry> {
    let implicit = (!raw.contains_key(DEFAULT_NAME)).then(RawCredential::default);
    raw.extend(implicit.map(|raw| (DEFAULT_NAME.to_owned(), raw)));
    let kinds: BTreeMap<String, Option<SourceKind>> =
        raw.iter().map(|(name, raw)| (name.clone(), raw.kind(name))).collect();
    let is_base = |kind: &Option<SourceKind>| kind.is_some_and(SourceKind::is_base);
    let bases: Vec<String> = kinds.iter().filter(|(_, kind)| is_base(kind)).map(|(name, _)| name.clone()).collect();
    let mut credentials = BTreeMap::new();
    for (name, raw) in raw {
        let section = ["credentials", &name];
        let path = section.map(str::to_owned);
        // Names are shown wherever a credential is.
        if !is_name(&name) {
            let expected =
                "1 to 63 letters, digits, dots, spaces, underscores or hyphens, and nothing that looks like a key";
            resolver.refuse(&path, "invalid name of a credential", expected);
        }
        let Some(kind) = kinds.get(&name).copied().flatten() else {
            if raw.source.is_none() {
                report_missing("source", &source_kind().expected, &path, resolver);
            }
            // An invalid source is recorded here; which keys it needs is unknown.
            CredentialSettings::resolve(raw, &section, resolver, SourceKind::Chain, &bases);
            continue;
        };
        let settings = CredentialSettings::resolve(raw, &section, resolver, kind, &bases);
        settings.check(&path, &bases, resolver);
        credentials.insert(name, CredentialEntry(settings));
    }
    credentials
}

impl RawCredential {
    /// Returns the kind of source, if it is valid.
    fn kind(&self, name: &str) -> Option<SourceKind> {
        match &self.source {
            None => (name == DEFAULT_NAME).then_some(SourceKind::Chain),
            Some(source) => source_kind().parse(source).ok(),
        }
    }
}

impl CredentialSettings {
    /// Returns all settings as they are shown, by key.
    fn shown(&self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(settings)) => settings,
            _ => serde_json::Map::new(),
        }
    }

    /// Records keys that the source does not use, and keys that it needs.
    fn check(&self, section: &[String], bases: &[String], resolver: &mut SettingsResolver<'_>) {
        let kind = self.source.value;
        for (key, setting) in self.shown() {
            let is_used = key == "source" || kind.keys().contains(&key.as_str());
            let is_default = setting.get("origin").is_some_and(|origin| *origin == SettingOrigin::Default.to_string());
            if is_used || is_default {
                continue;
            }
            let users = KINDS.iter().filter(|(_, keys)| keys.contains(&key.as_str())).map(|(kind, _)| kind.as_str());
            let expected = format!("it with source {}", one_of(&users.collect::<Vec<_>>()));
            let path: Vec<String> = section.iter().cloned().chain([key]).collect();
            resolver.refuse(&path, format!("not used by source {kind}"), expected);
        }
        if kind == SourceKind::File && is_unset(&self.path) {
            report_missing("path", "the path of a file or a folder with a credential", section, resolver);
        }
        if kind == SourceKind::AssumeRole && is_unset(&self.role_arn) {
            report_missing("role_arn", "qcs::cam::uin/UIN:roleName/NAME", section, resolver);
        }
        if kind == SourceKind::AssumeRole && !bases.contains(&self.credential.value) {
            report_missing("credential", &base(bases).expected, section, resolver);
        }
    }

    /// Returns where the credential comes from. A role that is assumed needs the other credentials.
    pub(super) fn source(&self, all: &BTreeMap<String, CredentialEntry>) -> Source {
        match self.source.value {
            SourceKind::Chain => Source::Chain,
            SourceKind::Environment => Source::Environment,
            SourceKind::Profile => {
                Source::Profile { path: self.path.value.clone(), section: self.section.value.clone() }
            }
            SourceKind::Tccli => Source::Tccli { path: self.path.value.clone(), profile: self.profile.value.clone() },
            SourceKind::File => Source::File { path: self.path.value.clone().unwrap_or_default() },
            SourceKind::CvmRole => {
                Source::CvmRole { role: self.role.value.clone(), endpoint: self.endpoint.value.clone() }
            }
            SourceKind::AssumeRole => {
                let name = self.credential.value.clone();
                let base = all.get(&name).filter(|base| base.0.source.value.is_base());
                Source::AssumeRole {
                    role: self.assumed(),
                    external_id: self.external_id.value.clone().map(|SecretText(id)| id),
                    base: Box::new(base.map_or(Source::Chain, |base| base.0.source(all))),
                    credential: name,
                }
            }
            SourceKind::TkeOidc => Source::TkeOidc {
                role: self.assumed(),
                provider_id: self.provider_id.value.clone(),
                token_file: self.token_file.value.clone(),
            },
        }
    }

    fn assumed(&self) -> Role {
        Role {
            arn: self.role_arn.value.clone(),
            session: self.session_name.value.clone(),
            seconds: self.duration.value.as_secs(),
            endpoint: self.endpoint.value.clone(),
            region: self.region.value,
        }
    }
}

/// Returns whether a setting is not set; one with an invalid value is, and was recorded.
fn is_unset<T>(setting: &Setting<Option<T>>) -> bool {
    setting.value.is_none() && setting.origin == SettingOrigin::Default
}

fn report_missing(key: &str, expected: &str, section: &[String], resolver: &mut SettingsResolver<'_>) {
    let path: Vec<String> = section.iter().cloned().chain([key.to_owned()]).collect();
    resolver.report(SettingsProblem {
        origin: resolver.file.origin(&path),
        key: Some(joined(&path)),
        fault: SettingsFault::Missing,
        expected: Some(expected.to_owned()),
        hint: None,
    });
}

fn source_kind() -> Parser<SourceKind> {
    let kinds = KINDS.map(|(kind, _)| (kind.as_str().to_owned(), kind));
    word(kinds)
}

fn base(names: &[String]) -> Parser<String> {
    name_of("the name of a credential that is not an assumed role", names, Invalid::Hidden)
}

/// Any text that can be shown whole.
fn plain_text() -> Parser<String> {
    form("a text of 1 to 200 printable characters", |text| !text.is_empty() && printable(text, TEXT_CHARS_MAX) == text)
}

fn is_session_name(text: &str) -> bool {
    text.len() >= 2 && is_role_name(text)
}

fn is_external_id(text: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
    (2..=128).contains(&text.len()) && text.bytes().all(is_one)
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

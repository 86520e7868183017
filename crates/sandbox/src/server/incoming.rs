//! An API request as received, before it is verified.

use std::mem;

use bytes::Bytes;
use http::{Method, header, request::Parts};
use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId},
    params::Pairs,
    text::printable,
};
use serde_json::{Map, Value};

use super::response::Language;
use crate::{
    actions::{Action, Parameters},
    flat,
    ledger::Refusal,
    log::ACCOUNTS_MAX,
    verify::{Received, SignatureVersion},
};

/// The maximum length of the query of a GET in bytes.
const QUERY_BYTES_MAX: usize = 32 * 1024;

/// The maximum length of the body of a POST with signature version 3 in bytes.
pub(super) const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

/// The maximum length of the body of a POST with signature version 1 in bytes.
const FORM_BYTES_MAX: usize = 1024 * 1024;

/// The maximum length of a client's tag in characters.
const CLIENT_TAG_CHARS_MAX: usize = 128;

/// The maximum length of a `Host` header in the log in characters.
const HOST_CHARS_MAX: usize = 128;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The common parameters of signature version 1.
const COMMON: [&str; 11] = [
    "Action",
    "Language",
    "Nonce",
    "Region",
    "RequestClient",
    "SecretId",
    "Signature",
    "SignatureMethod",
    "Timestamp",
    "Token",
    "Version",
];

/// A request and its unverified attributes.
#[derive(Debug)]
pub(super) struct Incoming {
    parts: Parts,
    body: Bytes,
    /// The refusal of a body that is too long.
    unread: Option<Refusal>,
    /// The pairs of the query or form.
    pairs: Pairs,
    /// The parameters of the action, or why they are malformed.
    members: Result<Map<String, Value>, Refusal>,
    pub(super) version: SignatureVersion,
    pub(super) action_name: Option<String>,
    pub(super) api_version: Option<String>,
    pub(super) region: Option<String>,
    pub(super) secret_id: String,
    pub(super) language: Language,
    pub(super) client_tag: Option<String>,
    /// The `Host` header, made printable.
    pub(super) host: Option<String>,
    /// The image, if well formed.
    pub(super) image: Option<ImageId>,
    /// The permission, if valid.
    pub(super) permission: Option<Permission>,
    /// The well-formed accounts, at most [`ACCOUNTS_MAX`].
    pub(super) accounts: Vec<AccountId>,
}

impl Incoming {
    pub(super) fn read(parts: Parts, body: Result<Bytes, Refusal>) -> Self {
        let (body, unread) = body.map_or_else(|refusal| (Bytes::new(), Some(refusal)), |body| (body, None));
        let version = SignatureVersion::of(&parts.headers);
        let mut incoming = Self {
            pairs: Pairs::default(),
            members: Ok(Map::new()),
            version,
            action_name: None,
            api_version: None,
            region: None,
            secret_id: String::new(),
            language: Language::English,
            client_tag: None,
            host: None,
            image: None,
            permission: None,
            accounts: Vec::new(),
            parts,
            body,
            unread,
        };
        incoming.members = incoming.read_members();
        incoming.copy_logged_members();
        let client_tag = match version {
            SignatureVersion::V3 => {
                incoming.action_name = incoming.header("x-tc-action");
                incoming.api_version = incoming.header("x-tc-version");
                incoming.region = incoming.header("x-tc-region");
                incoming.secret_id = incoming.claimed_secret_id().unwrap_or_default();
                incoming.language = Language::of(incoming.header("x-tc-language").as_deref());
                incoming.header("x-tc-requestclient")
            }
            SignatureVersion::V1 => {
                incoming.action_name = incoming.pair("Action");
                incoming.api_version = incoming.pair("Version");
                incoming.region = incoming.pair("Region");
                incoming.secret_id = incoming.pair("SecretId").unwrap_or_default();
                incoming.language = Language::of(incoming.pairs.get("Language"));
                incoming.pair("RequestClient")
            }
        };
        incoming.client_tag = client_tag.map(|tag| printable(&tag, CLIENT_TAG_CHARS_MAX));
        incoming.host = incoming.header("host").map(|host| printable(&host, HOST_CHARS_MAX));
        incoming
    }

    /// Checks method, content type and size.
    pub(super) fn check_form(&self) -> Result<(), Refusal> {
        if let Some(refusal) = &self.unread {
            return Err(refusal.clone());
        }
        let content_type = self.content_type();
        let is_v3 = self.version == SignatureVersion::V3;
        let size = match (&self.parts.method, content_type.as_str()) {
            (&Method::GET, FORM) => (self.query().len(), QUERY_BYTES_MAX),
            // Version 3 signs the content type; version 1 does not need it.
            (&Method::GET, "") if !is_v3 => (self.query().len(), QUERY_BYTES_MAX),
            (&Method::POST, JSON) if is_v3 => (self.body.len(), BODY_BYTES_MAX),
            (&Method::POST, FORM) if !is_v3 => (self.body.len(), FORM_BYTES_MAX),
            (&Method::POST, JSON) => {
                return Err(Refusal::new(
                    "AuthFailure.InvalidAuthorization",
                    "The header `Authorization` is missing, which is required for a JSON request.",
                ));
            }
            (&Method::GET | &Method::POST, _) => {
                return Err(Refusal::new(
                    "InvalidParameter",
                    format!(
                        "The content type {} is invalid for this method and signature version (expected {FORM} for GET, \
                         {JSON} for POST with version 3, {FORM} for POST with version 1).",
                        imageshare_core::text::excerpt(&content_type)
                    ),
                ));
            }
            _ => return Err(Refusal::new("UnsupportedProtocol", "Only the methods GET and POST are supported.")),
        };
        let (length, limit) = size;
        if length > limit {
            return Err(too_large(length, limit));
        }
        Ok(())
    }

    pub(super) fn received(&self) -> Received<'_> {
        Received {
            method: self.parts.method.as_str(),
            query: self.query(),
            headers: &self.parts.headers,
            body: &self.body,
            pairs: &self.pairs,
        }
    }

    /// Returns the action, if the sandbox implements it.
    pub(super) fn action(&self) -> Option<Action> {
        self.action_name.as_deref()?.parse().ok()
    }

    /// Whether it has a signature, valid or not.
    pub(super) fn is_signed(&self) -> bool {
        self.version == SignatureVersion::V3 || self.pairs.get("Signature").is_some()
    }

    /// Whether it is an unsigned request of the one action that needs no signature.
    pub(super) fn skips_signature(&self) -> bool {
        self.action() == Some(Action::AssumeRoleWithWebIdentity)
            && self.header("authorization").as_deref() == Some("SKIP")
    }

    /// Takes the parameters of the action.
    pub(super) fn take_parameters(&mut self) -> Result<Parameters, Refusal> {
        let is_flat = self.parts.method == Method::GET || self.version == SignatureVersion::V1;
        mem::replace(&mut self.members, Ok(Map::new())).map(|members| Parameters::new(members, is_flat))
    }

    /// Copies the parameters that the log shows.
    fn copy_logged_members(&mut self) {
        let Ok(members) = &self.members else { return };
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let listed = members.get("AccountIds").and_then(Value::as_array).into_iter().flatten();
        self.accounts = listed.filter_map(|id| id.as_str()?.parse().ok()).take(ACCOUNTS_MAX).collect();
        self.permission = [Permission::Cancel, Permission::Share]
            .into_iter()
            .find(|permission| text("Permission") == Some(permission.as_str()));
        self.image = text("ImageId").and_then(|id| id.parse().ok());
    }

    fn read_members(&mut self) -> Result<Map<String, Value>, Refusal> {
        let unreadable =
            |why: String| Refusal::new("InvalidParameter", format!("The parameters are malformed: {why}."));
        if self.parts.method == Method::POST && self.content_type() != FORM {
            return match serde_json::from_slice(&self.body) {
                Ok(Value::Object(members)) => Ok(members),
                // The Ruby SDK sends `null` for an action without parameters.
                Ok(Value::Null) => Ok(Map::new()),
                Ok(_) => Err(unreadable("the body is not a JSON object".to_owned())),
                Err(error) => Err(unreadable(error.to_string())),
            };
        }
        let encoded: &[u8] = if self.parts.method == Method::POST { &self.body } else { self.query().as_bytes() };
        if encoded.len() > FORM_BYTES_MAX {
            return Err(too_large(encoded.len(), FORM_BYTES_MAX));
        }
        self.pairs = flat::parse(encoded).map_err(|error| unreadable(error.to_string()))?;
        let mut pairs = self.pairs.clone();
        if self.version == SignatureVersion::V1 {
            for name in COMMON {
                pairs.take(name);
            }
        }
        match flat::tree(pairs).map_err(|error| unreadable(error.to_string()))? {
            Value::Object(members) => Ok(members),
            _ => Err(unreadable("a list has no name".to_owned())),
        }
    }

    fn claimed_secret_id(&self) -> Option<String> {
        let (_, rest) = self.parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once("Credential=")?;
        rest.split_once('/').map(|(secret_id, _)| secret_id.to_owned())
    }

    /// Returns the media type in lower case, without its parameters.
    fn content_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.parts.headers.get(name)?.to_str().ok()?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn pair(&self, name: &str) -> Option<String> {
        self.pairs.get(name).filter(|value| !value.is_empty()).map(ToOwned::to_owned)
    }
}

pub(super) fn too_large(length: usize, limit: usize) -> Refusal {
    Refusal::new(
        "RequestSizeLimitExceeded",
        format!("The request of {length} bytes exceeds the limit of {limit} bytes."),
    )
}

//! `imageshare sign`: prints every stage of a signature, to compare with another implementation.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::Context as _;
use imageshare_core::{
    Credential, UnixSeconds,
    credential::CredentialError,
    params::Pairs,
    request::Host,
    tc3::{self, CanonicalRequest, HexDigest, SignedHeaders},
    v1,
};
use imageshare_sandbox::flat;
use imageshare_worker::environment::Environment;
use serde::Serialize;

use crate::{
    cli::{Algorithm, Method, SignArguments},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    files, output,
};

/// The most bytes of a body that the API accepts.
const BODY_LEN_MAX: u64 = 10 * 1024 * 1024;

/// The headers to sign by default: those that imageshare itself signs.
const SIGNED_HEADERS: &str = "content-type;host;x-tc-action";

/// Signature version 3.
#[derive(Serialize)]
struct Tc3<'a> {
    canonical_request: &'a str,
    string_to_sign: &'a str,
    credential_scope: &'a str,
    signature: &'a str,
    authorization: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    /// `null` if the bytes are not UTF-8.
    body: Option<&'a str>,
}

/// Signature version 1.
#[derive(Serialize)]
struct V1<'a> {
    string_to_sign: &'a str,
    signature: &'a str,
    query: &'a str,
}

pub(crate) fn run(arguments: &SignArguments) -> CommandResult {
    let credential = Credential {
        secret_id: variable("TENCENTCLOUD_SECRET_ID")?,
        secret_key: variable("TENCENTCLOUD_SECRET_KEY")?,
        // Only from the flag: a token in the environment may belong to something else than this request.
        token: arguments.token.as_deref().map(str::parse).transpose().context("--token").or_exit(Exit::Usage)?,
    };
    let now = UnixSeconds::new(arguments.timestamp).context("--timestamp").or_exit(Exit::Usage)?;
    let host = Host::new(&arguments.host).context("--host").or_exit(Exit::Usage)?;
    let line = match arguments.algorithm {
        Algorithm::Tc3 => tc3(arguments, host, &credential, now)?,
        Algorithm::HmacSha1 => v1(arguments, host, &credential, now, v1::Algorithm::HmacSha1)?,
        Algorithm::HmacSha256 => v1(arguments, host, &credential, now, v1::Algorithm::HmacSha256)?,
    };
    output::print(&line)?;
    Ok(Exit::Done)
}

/// Returns the secret id or the secret key.
fn variable<T: FromStr<Err = CredentialError>>(name: &'static str) -> Result<T, Problem> {
    let text = Environment::of_process().text(name).context(name).or_exit(Exit::Refused)?;
    let missing = || {
        Problem::new(
            Exit::Refused,
            format!(
                "{name}: missing (expected the key to sign with in TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY)"
            ),
        )
    };
    text.ok_or_else(missing)?.parse().context(name).or_exit(Exit::Refused)
}

fn tc3(
    arguments: &SignArguments,
    host: Host<'_>,
    credential: &Credential,
    now: UnixSeconds,
) -> Result<String, Problem> {
    let pairs = || pairs(&arguments.param);
    let (query, body) = match (&arguments.body, &arguments.query, arguments.method) {
        (Some(path), _, _) => (String::new(), files::read("--body", path, BODY_LEN_MAX)?),
        (None, Some(query), _) => (query.clone(), Vec::new()),
        (None, None, Method::Get) => (pairs()?.to_query(), Vec::new()),
        (None, None, Method::Post) => {
            let tree = flat::tree(pairs()?).context("--param").or_exit(Exit::Usage)?;
            (String::new(), tree.to_string().into_bytes())
        }
    };
    let content_type = arguments.content_type.as_deref().unwrap_or(match arguments.method {
        Method::Get => "application/x-www-form-urlencoded",
        Method::Post => "application/json",
    });
    let timestamp = arguments.timestamp.to_string();
    let mut headers = vec![
        ("Content-Type", content_type),
        ("Host", host.as_str()),
        ("X-TC-Action", &arguments.action),
        ("X-TC-Timestamp", &timestamp),
        ("X-TC-Version", &arguments.api_version),
    ];
    headers.extend(arguments.region.as_deref().map(|region| ("X-TC-Region", region)));
    headers.extend(arguments.token.as_deref().map(|token| ("X-TC-Token", token)));
    let names = arguments.signed_headers.as_deref().unwrap_or(SIGNED_HEADERS);
    let signed = SignedHeaders::select(names, &headers).context("--signed-headers").or_exit(Exit::Usage)?;
    let request = CanonicalRequest {
        method: arguments.method.into(),
        query: &query,
        headers: &signed,
        hashed_payload: HexDigest::sha256(&body),
    };
    let stages = tc3::sign(&request, &arguments.service, credential, now);
    headers.push(("Authorization", &stages.authorization));
    Ok(output::json_line(&Tc3 {
        canonical_request: &stages.canonical_request,
        string_to_sign: &stages.string_to_sign,
        credential_scope: &stages.credential_scope,
        signature: stages.signature.as_str(),
        authorization: &stages.authorization,
        headers: headers.into_iter().collect(),
        body: str::from_utf8(&body).ok(),
    }))
}

fn v1(
    arguments: &SignArguments,
    host: Host<'_>,
    credential: &Credential,
    now: UnixSeconds,
    algorithm: v1::Algorithm,
) -> Result<String, Problem> {
    if arguments.body.is_some() || arguments.query.is_some() {
        let message = "--body, --query: not used by this algorithm (expected --algorithm tc3, or a --param NAME=VALUE for each parameter)";
        return Err(Problem::new(Exit::Usage, message));
    }
    let Some(nonce) = arguments.nonce else {
        return Err(Problem::new(Exit::Usage, format!("--nonce: missing (expected a number with {algorithm})")));
    };
    let mut pairs = pairs(&arguments.param)?;
    let common = v1::Common {
        action: &arguments.action,
        version: &arguments.api_version,
        region: arguments.region.as_deref(),
        timestamp: now,
        nonce,
        algorithm,
    };
    common.push_to(&mut pairs, credential);
    let string_to_sign = v1::string_to_sign(arguments.method.into(), host, &pairs);
    let signature = v1::signature(algorithm, &credential.secret_key, &string_to_sign);
    let query = v1::query(&pairs, &signature);
    Ok(output::json_line(&V1 { string_to_sign: &string_to_sign, signature: &signature, query: &query }))
}

fn pairs(params: &[String]) -> Result<Pairs, Problem> {
    let mut pairs = Pairs::default();
    for param in params {
        let Some((name, value)) = param.split_once('=') else {
            let param = imageshare_core::text::excerpt(param);
            return Err(Problem::new(Exit::Usage, format!("--param: invalid value {param} (expected NAME=VALUE)")));
        };
        pairs.push(name, value);
    }
    Ok(pairs)
}

//! The body of an answer, read as the answer to each action.

use std::fmt::Debug;

use imageshare_core::{
    actions::{
        Action, AssumeRole, AssumeRoleWithWebIdentity, AssumedRole, CallerIdentity, DescribeImageSharePermission,
        DescribeImages, DescribeOrganizationMembers, GetCallerIdentity, Image, ModifyImageSharePermission,
        OrganizationMembers, SharedAccount,
    },
    ids::{AccountId, RequestId},
    response::{Answered, ApiError, Failure, MESSAGE_CHARS_MAX, parse},
    text::printable,
};
use serde_json::{Map, Value};

use crate::{assert_shown, source::documents};

/// The maximum number of characters in the error for a malformed response.
const REASON_CHARS_MAX: usize = 1_000;

/// A secret that is shorter may be part of words of our own by chance.
const SECRET_LEN_MIN: usize = 16;

/// Bodies of answers: what is read from one equals a plain reading of its JSON, for every action; what is no
/// answer is refused in words that can be shown and hold no key; no body with an `Error` is a success, and none at all
/// is with another status than 200.
///
/// # Panics
/// If that does not hold.
pub fn response(data: &[u8]) {
    documents(data).for_each(check_document);
}

fn check_document(data: &[u8]) {
    // The parser ignores unknown members, so it may accept a body that serde_json rejects.
    let plain = serde_json::from_slice::<Value>(data).ok();
    let members = plain.as_ref().and_then(members);
    check::<ModifyImageSharePermission>(data, plain.as_ref(), |()| {});
    check::<DescribeImageSharePermission>(data, plain.as_ref(), |shares| check_shares(shares, members));
    check::<DescribeImages>(data, plain.as_ref(), |images| check_images(images, members));
    check::<DescribeOrganizationMembers>(data, plain.as_ref(), |page| check_members(page, members));
    check::<GetCallerIdentity>(data, plain.as_ref(), |caller| check_caller(caller, members));
    check::<AssumeRole>(data, plain.as_ref(), |role| check_role(role, members));
    check::<AssumeRoleWithWebIdentity>(data, plain.as_ref(), |role| check_role(role, members));
}

fn check<A>(body: &[u8], plain: Option<&Value>, check_answer: impl Fn(&A::Answer))
where
    A: Action<Answer: Debug + PartialEq>,
{
    let read = parse::<A>(200, body);
    let elsewhere = parse::<A>(503, body);
    match &read {
        Ok(Answered { answer, request_id }) => {
            assert!(elsewhere.is_err(), "a success with status 503");
            if let Some(plain) = plain {
                let members = members(plain).expect("an answer has an object Response");
                assert!(!members.contains_key("Error"), "a success with an Error");
                let id = members.get("RequestId").expect("an answer has a RequestId");
                assert_eq!(*request_id, id.as_str().and_then(RequestId::new));
            }
            check_answer(answer);
        }
        Err(Failure::Api(error)) => {
            assert_eq!(elsewhere.as_ref().err(), read.as_ref().err(), "a refusal has any status");
            check_error(error, plain);
        }
        Err(Failure::NotAnAnswer(_)) => assert!(matches!(elsewhere, Err(Failure::NotAnAnswer(_)))),
    }
    let failures = [read.as_ref().err(), elsewhere.as_ref().err()];
    for failure in failures.into_iter().flatten() {
        assert_shown(&failure.to_string(), REASON_CHARS_MAX);
        let secrets = plain.and_then(members).into_iter().flat_map(secrets).filter(|text| text.len() >= SECRET_LEN_MIN);
        let is_api = matches!(failure, Failure::Api(_));
        assert!(is_api || !secrets.into_iter().any(|secret| format!("{failure} {failure:?}").contains(secret)));
    }
    // White space, escapes and members that come in another order mean nothing.
    if let Some(plain) = plain.filter(|_| !matches!(read, Err(Failure::NotAnAnswer(_)))) {
        assert_eq!(parse::<A>(200, plain.to_string().as_bytes()), read);
    }
}

fn check_error(error: &ApiError, plain: Option<&Value>) {
    assert!((1..=128).contains(&error.code.len()) && error.code.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_shown(&error.message, MESSAGE_CHARS_MAX);
    let Some(members) = plain.map(|plain| members(plain).expect("a refusal has an object Response")) else { return };
    let member = members.get("Error").expect("a refusal has an Error");
    assert_eq!(member.get("Code").and_then(Value::as_str), Some(error.code.as_str()));
    let message = member.get("Message").and_then(Value::as_str).unwrap_or_default();
    assert_eq!(error.message, printable(message, MESSAGE_CHARS_MAX));
    assert_eq!(error.request_id, members.get("RequestId").and_then(Value::as_str).and_then(RequestId::new));
}

fn check_shares(shares: &[SharedAccount], members: Option<&Map<String, Value>>) {
    let Some(members) = members else { return };
    let entries = members.get("SharePermissionSet").map(list).expect("an answer has its list");
    let plain: Vec<_> = entries.iter().map(|entry| account(entry).and_then(account_id)).collect();
    assert_eq!(shares.iter().map(|share| Some(share.account_id)).collect::<Vec<_>>(), plain);
}

fn check_images(images: &[Image], members: Option<&Map<String, Value>>) {
    for image in images {
        let texts = [image.image_state.as_ref().map(|state| state.as_str()), image.image_type.as_deref()];
        texts.into_iter().chain([image.license_type.as_deref()]).flatten().for_each(|text| assert_shown(text, 256));
    }
    let Some(members) = members else { return };
    let entries = members.get("ImageSet").map(list).expect("an answer has its list");
    let plain: Vec<_> = entries.iter().map(|entry| entry.get("ImageId").and_then(Value::as_str)).collect();
    assert_eq!(images.iter().map(|image| Some(image.image_id.as_str())).collect::<Vec<_>>(), plain);
}

fn check_members(page: &OrganizationMembers, members: Option<&Map<String, Value>>) {
    for member in &page.members {
        let texts = [&member.name, &member.node_name, &member.permission_status];
        texts.into_iter().flatten().for_each(|text| assert_shown(text, 256));
    }
    let Some(members) = members else { return };
    let entries = members.get("Items").map(list).expect("an answer has its list");
    let plain: Vec<_> = entries.iter().map(|entry| entry.get("MemberUin").and_then(account_id)).collect();
    assert_eq!(page.members.iter().map(|member| Some(member.account_id)).collect::<Vec<_>>(), plain);
}

fn check_caller(caller: &CallerIdentity, members: Option<&Map<String, Value>>) {
    caller.arn.iter().for_each(|arn| assert_shown(arn, 256));
    let Some(members) = members else { return };
    assert_eq!(members.get("AccountId").and_then(account_id), Some(caller.account_id));
}

fn check_role(role: &AssumedRole, members: Option<&Map<String, Value>>) {
    let shown = format!("{role:?}");
    let credential = &role.credential;
    let token = credential.token.as_ref().map(|token| token.expose()).expect("the key of a role has a token");
    let secrets = [credential.secret_key.expose(), token];
    assert!(secrets.iter().all(|secret| secret.len() < SECRET_LEN_MIN || !shown.contains(secret)), "a key is shown");
    let Some(plain) = members.and_then(|members| members.get("Credentials")) else { return };
    let text = |name| plain.get(name).and_then(Value::as_str);
    assert_eq!(text("TmpSecretId"), Some(credential.secret_id.as_str()));
    assert_eq!([text("TmpSecretKey"), text("Token")], secrets.map(Some));
}

/// The members of `Response`. Members beside it are ignored only if it has a RequestId.
fn members(plain: &Value) -> Option<&Map<String, Value>> {
    let whole = plain.as_object()?;
    let members = whole.get("Response")?.as_object()?;
    let has_request_id = members.get("RequestId").is_some_and(|id| !id.is_null());
    (whole.len() == 1 || has_request_id).then_some(members)
}

/// Texts of an answer that are not to be shown.
fn secrets(members: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let credentials = members.get("Credentials");
    ["TmpSecretKey", "Token"].into_iter().filter_map(move |name| credentials?.get(name)?.as_str())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The account of an entry, under either of its names.
fn account(entry: &Value) -> Option<&Value> {
    ["AccountId", "Account"].iter().filter_map(|name| entry.get(name)).find(|value| !value.is_null())
}

fn account_id(value: &Value) -> Option<AccountId> {
    match value {
        Value::String(text) => text.parse().ok(),
        number => AccountId::new(number.as_u64()?).ok(),
    }
}

//! The envelope: every kind of answer, refusal and noise.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::actions::{
    AssumeRole, DescribeImageSharePermission, DescribeImages, DescribeOrganizationMembers, GetCallerIdentity,
    ModifyImageSharePermission,
};

const REFUSAL: &str = r#"{
    "Response": {
        "Error": {
            "Code": "InvalidAccountId.NotFound",
            "Message": "The specified account `1038493875` does not exist."
        },
        "RequestId": "ed93f3cb-f35e-473f-b9f3-0d451b8b79c6"
    }
}"#;

fn modify(status: u16, body: &str) -> Result<Answered<()>, Failure> {
    parse::<ModifyImageSharePermission>(status, body.as_bytes())
}

#[track_caller]
fn check_refused(status: u16, body: &str, code: &str, message: &str) {
    match modify(status, body) {
        Err(Failure::Api(error)) => assert_eq!((error.code.as_str(), error.message.as_str()), (code, message)),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_no_answer(status: u16, body: &str, reason: &str) {
    match modify(status, body) {
        Err(Failure::NotAnAnswer(error)) => assert_eq!(error.reason, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn error_is_read_at_any_status() {
    for status in [200, 400, 500, 0] {
        let Err(Failure::Api(error)) = modify(status, REFUSAL) else { panic!("status {status}") };
        assert_eq!(error.code, "InvalidAccountId.NotFound");
        assert_eq!(error.class(), Class::Account);
        assert_eq!(error.message, "The specified account `1038493875` does not exist.");
        assert_eq!(error.request_id.unwrap().as_str(), "ed93f3cb-f35e-473f-b9f3-0d451b8b79c6");
        assert_eq!(error.to_string(), "InvalidAccountId.NotFound: The specified account `1038493875` does not exist.");
    }
}

#[test]
fn error_counts_beside_success_members() {
    let body = r#"{"Response":{"SharePermissionSet":[],"Error":{"Code":"OverQuota","Message":"m"},"RequestId":"x"}}"#;
    assert!(matches!(
        parse::<DescribeImageSharePermission>(200, body.as_bytes()),
        Err(Failure::Api(ApiError { code, .. })) if code == "OverQuota"
    ));
}

#[test]
fn message_is_printable_bounded_and_optional() {
    let error = |message: &str| alloc::format!(r#"{{"Response":{{"Error":{{"Code":"A.B"{message}}}}}}}"#);
    check_refused(200, &error(r#","Message":"镜像\u001b[31m\n不存在""#), "A.B", "镜像 [31m 不存在");
    check_refused(200, &error(""), "A.B", "");
    check_refused(200, &error(r#","Message":null"#), "A.B", "");
    check_refused(200, &error(r#","Message":{"zh":"x"}"#), "A.B", "");
    check_refused(200, &error(&alloc::format!(r#","Message":"{}""#, "x".repeat(2_000))), "A.B", &"x".repeat(512));
}

#[test]
fn invalid_code_is_not_a_response() {
    let error =
        |code: &str| alloc::format!(r#"{{"Response":{{"Error":{{"Code":{code},"Message":"m"}},"RequestId":"x"}}}}"#);
    let expected = "(expected 1 to 128 visible ASCII characters)";
    check_no_answer(200, &error(r#""""#), &alloc::format!(r#"error code: invalid value "" {expected}"#));
    check_no_answer(200, &error(r#""a b""#), &alloc::format!(r#"error code: invalid value "a b" {expected}"#));
    check_no_answer(200, &error(r#""错""#), &alloc::format!(r#"error code: invalid value "\u{{9519}}" {expected}"#));
    let long = "x".repeat(129);
    let shown = alloc::format!(r#"error code: invalid value "{}" and so on (129 bytes) {expected}"#, "x".repeat(60));
    check_no_answer(200, &error(&alloc::format!(r#""{long}""#)), &shown);
}

#[test]
fn invalid_envelope_is_not_a_response() {
    for body in [
        "{}",
        r#"{"Response":null}"#,
        r#"{"Response":[]}"#,
        r#"{"Response":"ok"}"#,
        r#"{"response":{"RequestId":"x"}}"#,
        r#"{"RequestId":"x"}"#,
        r#"{"Response":{},"Extra":1}"#,
        r#"{"Extra":1,"Response":{"RequestId":null}}"#,
        r#"{"Response":{"Error":{"Code":"A.B"}},"Extra":1}"#,
        r#"{"Response":{"RequestId":"x"},"Response":{"RequestId":"x"}}"#,
        r#"{"Response":{"RequestId":"x"}} trailing"#,
        r#"{"Response":{"RequestId":"x"}"#,
        r#"{"Response":{"Error":null,"RequestId":"x"}}"#,
        r#"{"Response":{"Error":{},"RequestId":"x"}}"#,
        r#"{"Response":{"Error":"no","RequestId":"x"}}"#,
        r#"{"Response":{"Error":{"Code":4000,"Message":"m"},"RequestId":"x"}}"#,
        r#"{"code":4000,"message":"m","codeDesc":"InvalidParameter"}"#,
    ] {
        assert!(matches!(modify(200, body), Err(Failure::NotAnAnswer(_))), "{body}");
    }
}

#[test]
fn unknown_members_beside_response_are_ignored() {
    let success = r#"{"Extra":{"Response":[1,{"a":null}]},"Response":{"RequestId":"x"},"extra":1,"extra":2}"#;
    assert_eq!(modify(200, success).unwrap().request_id.unwrap().as_str(), "x");
    check_refused(400, r#"{"Extra":1,"Response":{"Error":{"Code":"A.B","Message":"m"},"RequestId":"x"}}"#, "A.B", "m");
}

#[test]
fn success_needs_status_200_and_request_id() {
    assert_eq!(modify(200, r#"{"Response":{"RequestId":"x","DeprecatedWarning":"old"}}"#).unwrap().answer, ());
    check_no_answer(502, r#"{"Response":{"RequestId":"x"}}"#, "success with status 502 (expected 200)");
    let reason = "success without RequestId";
    check_no_answer(200, r#"{"Response":{}}"#, reason);
    check_no_answer(200, r#"{"Response":{"RequestId":null}}"#, reason);
    // One that cannot be shown still proves that the API layer was reached.
    assert_eq!(modify(200, r#"{"Response":{"RequestId":"a b"}}"#).unwrap().request_id, None);
    assert_eq!(modify(200, r#"{"Response":{"RequestId":7}}"#).unwrap().request_id, None);
}

#[test]
fn noise_is_named_with_status_and_beginning() {
    check_no_answer(200, "", "empty body (expected a JSON object)");
    check_no_answer(204, " \r\n", "status 204 (expected 200): empty body (expected a JSON object)");
    check_no_answer(
        502,
        "<html>\u{1b}[31m502</html>",
        "status 502 (expected 200): invalid body \"<html>\\u{1b}[31m502</html>\" (expected a JSON object)",
    );
    check_no_answer(
        200,
        r#"{"Response":{"RequestId""#,
        "body of 24 bytes, line 1 column 24: it ends too early (expected an object with the member Response)",
    );
    check_no_answer(
        200,
        r#"{"Response":{"RequestId":x}}"#,
        "body of 28 bytes, line 1 column 26: it is not JSON (expected an object with the member Response)",
    );
    check_no_answer(
        200,
        "{}",
        "body of 2 bytes, line 1 column 2: a member is missing, repeated or of the wrong type \
         (expected an object with the member Response)",
    );
}

#[test]
fn body_is_bounded() {
    let body = |len: usize| {
        let envelope = r#"{"Response":{"RequestId":"x"}}"#;
        alloc::format!("{envelope}{}", " ".repeat(len - envelope.len()))
    };
    assert!(modify(200, &body(BODY_LEN_MAX)).is_ok());
    check_no_answer(200, &body(BODY_LEN_MAX + 1), "status 200: body of 1048577 bytes (expected at most 1048576)");
}

/// Reads a body as every action does and checks what holds for all answers.
fn check_any(status: u16, body: &[u8]) {
    fn check<A: Action>(status: u16, body: &[u8]) {
        match parse::<A>(status, body) {
            Ok(_) => assert_eq!(status, 200),
            Err(Failure::Api(error)) => {
                assert!(!error.code.is_empty() && error.code.bytes().all(|b| b.is_ascii_graphic()));
                assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX);
                assert!(!error.message.chars().any(char::is_control));
            }
            Err(Failure::NotAnAnswer(error)) => {
                assert!(error.reason.len() < 1_000 && error.reason.bytes().all(|b| matches!(b, b' '..=b'~')));
            }
        }
    }

    check::<AssumeRole>(status, body);
    check::<DescribeImageSharePermission>(status, body);
    check::<DescribeImages>(status, body);
    check::<DescribeOrganizationMembers>(status, body);
    check::<GetCallerIdentity>(status, body);
    check::<ModifyImageSharePermission>(status, body);
}

const WHOLE: [&str; 3] = [
    REFUSAL,
    r#"{"Response":{"SharePermissionSet":[{"CreatedTime":"2020-09-25T07:18:31Z","AccountId":"1038493875"}],
        "ImageSet":[{"ImageId":"img-gvbnzy6f","ImageState":"NORMAL"}],"RequestId":"x"}}"#,
    r#"{"Response":{"Credentials":{"Token":"t","TmpSecretId":"i","TmpSecretKey":"k"},"ExpiredTime":1543914376,
        "AccountId":"100009999999","Total":1,"Items":[{"MemberUin":100022975249}],"RequestId":"x"}}"#,
];

proptest! {
    #[test]
    fn any_bytes_are_judged(body in proptest::collection::vec(any::<u8>(), 0..300), status in any::<u16>()) {
        check_any(status, &body);
    }

    #[test]
    fn any_members_are_judged(
        members in r#"("(Error|RequestId|Code|Message|AccountId|ImageSet)":("x"|7|null|\{\}|\[\]|-1\.5|"\\u001b"),?){0,5}"#,
        status in prop_oneof![Just(200_u16), any::<u16>()],
    ) {
        check_any(status, alloc::format!(r#"{{"Response":{{{members}}}}}"#).as_bytes());
    }

    #[test]
    fn mutated_envelopes_are_judged(
        which in 0..WHOLE.len(),
        status in prop_oneof![Just(200_u16), any::<u16>()],
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body: Vec<u8> = WHOLE[which].into();
        for (at, byte, kind) in edits {
            let at = at.index(body.len());
            match kind {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => { body.remove(at); }
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        check_any(status, &body);
    }
}

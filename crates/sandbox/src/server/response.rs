//! The body of a response, formatted as in recordings of the real service.

use std::io;

use serde::Serialize;
use serde_json::{Serializer, Value, json, ser::Formatter};

use crate::{actions::Members, ledger::Refusal};

/// The part of the service that responds. Recordings of CVM have a space after `:` and `,` and raw UTF-8. The recorded refusal of
/// the gateway has no spaces, and recordings of other products escape text outside ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Gateway,
    Product,
}

/// The language of messages that the service translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Chinese,
    English,
}

impl Language {
    /// Returns the language of `X-TC-Language` or of the parameter `Language`.
    pub(super) fn of(text: Option<&str>) -> Self {
        if text == Some("zh-CN") { Self::Chinese } else { Self::English }
    }
}

/// Completes the message of a refusal: access refusals contain the request id, and access and rate refusals are
/// translated.
pub(super) fn complete(refusal: Refusal, request_id: &str, language: Language) -> Refusal {
    let Refusal { code, message } = refusal;
    let message = match (&*code, language) {
        ("UnauthorizedOperation", Language::English) => format!("[request id:{request_id}]{message}"),
        ("UnauthorizedOperation", Language::Chinese) => {
            format!(
                "[request id:{request_id}]{}",
                message
                    .replace("you are not authorized to perform operation", "您无权执行操作")
                    .replace("has no permission", "没有权限")
            )
        }
        ("AuthFailure.UnauthorizedOperation", Language::English) => {
            format!("The request is not authorized by CAM. [[request id:{request_id}]{message}]")
        }
        ("AuthFailure.UnauthorizedOperation", Language::Chinese) => {
            format!("请求未经CAM授权。[[request id:{request_id}]{message}]")
        }
        ("RequestLimitExceeded", Language::Chinese) => {
            let numbers: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
            match numbers.as_slice() {
                [seen, limit] => format!("您当前每秒请求`{seen}`次，超过了每秒频率上限`{limit}`次，请稍后重试。"),
                _ => message,
            }
        }
        _ => message,
    };
    Refusal { code, message }
}

/// Returns the body of a response.
pub(super) fn body(result: Result<Members, Refusal>, request_id: &str, origin: Origin) -> String {
    let mut members =
        result.unwrap_or_else(|Refusal { code, message }| vec![("Error", json!({"Code": code, "Message": message}))]);
    members.push(("RequestId", json!(request_id)));
    let response = Envelope { response: Ordered(&members) };
    let mut bytes = Vec::new();
    let written = match origin {
        Origin::Gateway => response.serialize(&mut Serializer::with_formatter(&mut bytes, Escaped)),
        Origin::Product => response.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    written.expect("values with text keys are written to memory");
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    response: Ordered<'a>,
}

/// Members in their own order, which a `serde_json` map does not keep.
struct Ordered<'a>(&'a [(&'static str, Value)]);

impl Serialize for Ordered<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// No text outside ASCII.
struct Escaped;

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for char in fragment.chars() {
            if char.is_ascii() {
                write!(writer, "{char}")?;
            } else {
                char.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}

/// A space after each `:` and `,`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_depends_on_the_origin() {
        let members = || vec![("TotalCount", json!(2)), ("ImageSet", json!([{"Name": "镜像", "Tags": []}, {}]))];
        assert_eq!(
            body(Ok(members()), "1-2", Origin::Product),
            r#"{"Response": {"TotalCount": 2, "ImageSet": [{"Name": "镜像", "Tags": []}, {}], "RequestId": "1-2"}}"#
        );
        assert_eq!(
            body(Err(Refusal::new("A.B", "no 镜 𝄞\n")), "1-2", Origin::Gateway),
            r#"{"Response":{"Error":{"Code":"A.B","Message":"no \u955c \ud834\udd1e\n"},"RequestId":"1-2"}}"#
        );
    }

    #[track_caller]
    fn check(code: &'static str, message: &str, language: Language, expected: &str) {
        assert_eq!(complete(Refusal::new(code, message), "1-2", language).message, expected);
    }

    #[test]
    fn access_and_rate_messages_are_completed() {
        let (english, chinese) = (Language::of(Some("en-US")), Language::of(Some("zh-CN")));
        check("UnauthorizedOperation", "you are", english, "[request id:1-2]you are");
        let refused = "you are not authorized to perform operation (cvm:X)\nresource (qcs) has no permission\n";
        check(
            "UnauthorizedOperation",
            refused,
            chinese,
            "[request id:1-2]您无权执行操作 (cvm:X)\nresource (qcs) 没有权限\n",
        );
        let product = "The request is not authorized by CAM. [[request id:1-2]x]";
        check("AuthFailure.UnauthorizedOperation", "x", english, product);
        check("AuthFailure.UnauthorizedOperation", "x", chinese, "请求未经CAM授权。[[request id:1-2]x]");
        let throttled = "您当前每秒请求`11`次，超过了每秒频率上限`10`次，请稍后重试。";
        check("RequestLimitExceeded", "equals to `11` in a second, limit `10`", chinese, throttled);
        check("RequestLimitExceeded", "equals to `11`", english, "equals to `11`");
        check("OverQuota", "x", chinese, "x");
    }
}

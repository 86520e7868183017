//! A line for each request, for the user of a command: what was asked, the outcome, and the time.

use std::time::Duration;

use imageshare_core::{
    actions::Action,
    ids::{AccountId, RequestId},
    params::{ParameterWriter, Parameters},
};
use tracing::{Level, debug, enabled};

use super::{ApiFailure, CallOutcome};

/// The target of these events. It is not that of this crate: the log of a worker has events of its own.
pub const REQUESTS: &str = "requests";

/// The parameters that a line names: images, the permission, how many accounts, and where a page begins.
#[derive(Default)]
struct Subject(Vec<String>);

impl ParameterWriter for Subject {
    fn text(&mut self, name: &'static str, text: &str) {
        if matches!(name, "ImageId" | "Permission") {
            self.0.push(text.to_owned());
        }
    }

    fn number(&mut self, name: &'static str, number: u64) {
        if name == "Offset" {
            self.0.push(format!("from {number}"));
        }
    }

    fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]) {
        if name == "ImageIds" {
            self.0.extend(texts.iter().map(|text| text.as_ref().to_owned()));
        }
    }

    fn accounts(&mut self, _: &'static str, ids: &[AccountId]) {
        self.0.push(format!("{} account{}", ids.len(), if ids.len() == 1 { "" } else { "s" }));
    }

    fn objects<T: Parameters>(&mut self, _: &'static str, _: &[T]) {}
}

/// Emits the line of a call that ended, if anything shows it.
pub(super) fn record<A: Action>(action: &A, outcome: &CallOutcome<A::Answer>, took: Duration) {
    if enabled!(target: REQUESTS, Level::DEBUG) {
        debug!(target: REQUESTS, "{}", line(action, outcome, took));
    }
}

fn line<A: Action>(action: &A, outcome: &CallOutcome<A::Answer>, took: Duration) -> String {
    let mut subject = Subject::default();
    action.write_parameters(&mut subject);
    let (result, request_id) = match &outcome.result {
        Ok(_) => ("ok".to_owned(), outcome.request_id),
        Err(ApiFailure::Refused(error)) => (error.code.clone(), error.request_id),
        Err(failure @ (ApiFailure::Malformed(_) | ApiFailure::NoAnswer { .. } | ApiFailure::Skewed)) => {
            (failure.to_string(), None)
        }
    };
    let words: Vec<String> = [A::NAME.to_owned()].into_iter().chain(subject.0).collect();
    let request_id = request_id.map_or_else(String::new, |id: RequestId| format!(", RequestId {id}"));
    format!("{}: {result}, {} ms{request_id}", words.join(" "), took.as_millis())
}

#[cfg(test)]
mod tests {
    use imageshare_core::{
        Permission,
        actions::{DescribeImages, ModifyImageSharePermission},
        response::ApiError,
    };

    use super::*;
    use crate::http::{CallStage, FailureReason};

    const ID: &str = "71e69b56-32be-4412-ab45-49eded6a87be";

    #[track_caller]
    fn check<A: Action>(action: &A, result: Result<A::Answer, ApiFailure>, expected: &str) {
        let outcome = CallOutcome { result, request_id: RequestId::new(ID), date: None, generation: 0 };
        assert_eq!(line(action, &outcome, Duration::from_millis(83)), expected);
    }

    #[test]
    fn line_names_subject_outcome_and_time() {
        let write = ModifyImageSharePermission {
            image_id: "img-6pb6lrmy".parse().unwrap(),
            permission: Permission::Share,
            account_ids: vec!["1038493875".parse().unwrap()],
        };
        let called = "ModifyImageSharePermission img-6pb6lrmy 1 account SHARE";
        check(&write, Ok(()), &format!("{called}: ok, 83 ms, RequestId {ID}"));
        let code = "InvalidAccountId.NotFound".to_owned();
        let refused = ApiError { code, message: "no such account".to_owned(), request_id: RequestId::new(ID) };
        let expected = format!("{called}: InvalidAccountId.NotFound, 83 ms, RequestId {ID}");
        check(&write, Err(ApiFailure::Refused(refused)), &expected);
        let reason = FailureReason::TimeOut { stage: CallStage::Answer, after: Duration::from_secs(10) };
        let describe = DescribeImages { image_ids: vec!["img-6pb6lrmy".parse().unwrap()] };
        let expected = "DescribeImages img-6pb6lrmy: no answer within 10 s; check the endpoint and the network, 83 ms";
        check(&describe, Err(ApiFailure::NoAnswer { sent: true, reason }), expected);
    }
}

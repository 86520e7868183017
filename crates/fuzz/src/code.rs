//! An error code.

use std::collections::BTreeMap;

use imageshare_core::{
    Class,
    actions::ModifyImageSharePermission,
    code::table,
    response::{Failure, parse},
};
use imageshare_engine::{
    Engine,
    io::{Action, Answer, Command, ImageState, Input, LaneId, Outcome, TicketId},
    job::{AccountOutcome, Job, Mode},
    limits::{LaneLimits, Limits},
    time::Instant,
};
use imageshare_simulation::world::{account, image, region};

use crate::shown::assert_shown;

/// Bytes that a code may have.
const CODE_LEN_MAX: usize = 128;

/// Refused writes after which it is seen that they cost no try.
const WRITES_MAX: usize = 30;

/// An error code: it has the class of its row, else that of its first part's row, else none; an answer with it is a
/// refusal with just this code, or none at all; and the engine does with a write that is refused with it what its class
/// says: it tries again for as long as it may, or not at all, or goes on waiting.
///
/// # Panics
/// If that does not hold.
pub fn code(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let class = Class::of(&text);
    let row = |code: &str| table().iter().find(|(name, _)| *name == code).map(|(_, class)| *class);
    let first = text.split('.').next().unwrap_or_default();
    let of_first = if text.contains('.') { row(first) } else { None };
    assert_eq!(class, row(&text).or(of_first).unwrap_or(Class::Unknown));
    let longer = format!("{text}.And.More");
    assert_eq!(Class::of(&longer), row(first).unwrap_or(Class::Unknown), "a second part that is in no table");

    let code = serde_json::Value::from(text.as_ref());
    let body = format!(r#"{{"Response":{{"Error":{{"Code":{code},"Message":"m"}},"RequestId":"r"}}}}"#);
    let is_code = (1..=CODE_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match parse::<ModifyImageSharePermission>(200, body.as_bytes()) {
        Err(Failure::Api(error)) => {
            assert!(is_code);
            assert_eq!((error.code.as_str(), error.class()), (&*text, class));
            check_engine(&text, class);
        }
        Err(Failure::NotAnAnswer(error)) => {
            assert!(!is_code);
            assert_shown(&error.to_string(), 1_000);
        }
        Ok(answered) => panic!("{answered:?}"),
    }
}

/// What the engine does with a write of one account that is always refused with a code, by the code's class.
fn check_engine(code: &str, class: Class) {
    let attempts = Limits::default().attempts as usize;
    let (writes, failed) = refuse_all(code, class);
    match class {
        // Another try would change nothing.
        Class::Account | Class::AccountOrOther | Class::BatchTooLarge | Class::Image | Class::Quota => {
            assert_eq!((writes, failed.as_deref()), (1, Some(code)));
        }
        Class::AlreadyDone => assert_eq!((writes, failed), (1, None)),
        Class::Transient | Class::Unknown => assert_eq!((writes, failed.as_deref()), (attempts, Some(code))),
        // These wait, however often they are refused, and fail no account: the lane, or the image, is held up.
        Class::Busy | Class::Clock | Class::Credential | Class::Deployment | Class::Permission | Class::Throttle => {
            assert!(writes > attempts && failed.is_none(), "{writes} {failed:?}");
        }
    }
}

/// Refuses every write of a job of one account with a code. Gives how many there were, and with what the account failed
/// in the end, if it did.
fn refuse_all(code: &str, class: Class) -> (usize, Option<String>) {
    let limits = Limits { guard: false, ..Limits::default() };
    let (lane, mut now, mut writes) = (LaneId(0), 0, 0);
    let mut engine = Engine::new(limits, 7);
    let mut calls = BTreeMap::new();
    engine.handle(Instant(now), Input::LaneUp(lane, LaneLimits::default()));
    let job = Job {
        region: region(),
        image_id: image(0),
        mode: Mode::Share,
        account_ids: [account(0)].into(),
        deadline: None,
        force: false,
        redelivered: false,
    };
    engine.handle(Instant(now), Input::Job { ticket: TicketId(0), lane, job });
    while writes < WRITES_MAX {
        match engine.poll(Instant(now)) {
            Command::Call { call, action, .. } => {
                engine.handle(Instant(now), Input::Sent(call));
                calls.insert(call, action);
            }
            Command::Settle { report, .. } => {
                let failed = report.outcomes.into_iter().find_map(|(_, outcome)| match outcome {
                    AccountOutcome::Failed(failure) => Some(failure.code.to_string()),
                    AccountOutcome::Changed | AccountOutcome::Unchanged => None,
                });
                return (writes, failed);
            }
            Command::RefreshCredential(lane) => engine.handle(Instant(now), Input::CredentialFresh(lane)),
            Command::GiveBack(_) => return (writes, None),
            Command::Notice(..) => {}
            Command::WaitUntil(_) | Command::Idle if !calls.is_empty() => {
                let Some((call, action)) = calls.pop_first() else { break };
                let outcome = match action {
                    Action::ReadShares { .. } => Outcome::Accepted(Answer::Shares(Vec::new())),
                    Action::ReadImage { .. } => Outcome::Accepted(Answer::Image(ImageState::Normal)),
                    Action::Modify { .. } => {
                        writes += 1;
                        Outcome::Refused { code: code.into(), class, message: "m".into(), request_id: None }
                    }
                };
                engine.handle(Instant(now), Input::Answer { call, outcome });
            }
            Command::WaitUntil(at) => now = at.0,
            Command::Idle => panic!("nothing is left to happen, and the job is not settled"),
        }
    }
    (writes, None)
}

//! The admin interface under `/_sandbox/`, for people and tests.

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use imageshare_core::ids::AccountId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, api::page, payload::Payload};
use crate::{
    faults::Faults, flat, ledger::Refusal, log::ENTRIES_MAX, saved_state::SavedState, temporary_key::SECONDS_MAX,
};

/// Answers a request for a path below `/_sandbox/`.
pub(super) fn answer(shared: &Shared, path: &str, parts: &Parts, body: Result<Bytes, Refusal>) -> Response<Payload> {
    let body = match body {
        Ok(body) => body,
        Err(Refusal { message, .. }) => return problem(StatusCode::PAYLOAD_TOO_LARGE, &message),
    };
    match (&parts.method, path) {
        (&Method::GET, "ca.pem") => {
            page(StatusCode::OK, "application/x-pem-file", Payload::whole(shared.authority.pem()))
        }
        (&Method::GET, "health") => json(StatusCode::OK, &json!({ "status": "ok" })),
        (&Method::GET, "state") => {
            let state = SavedState::of(&shared.lock().ledger);
            page(StatusCode::OK, "application/json", Payload::whole(state.text()))
        }
        (&Method::PUT, "state") => match SavedState::parse(&body) {
            Ok(state) => {
                shared.lock().restore(state);
                json(StatusCode::OK, &json!({}))
            }
            Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::GET, "requests") => requests(shared, parts.uri.query().unwrap_or_default()),
        (&Method::GET, "stats") => {
            let state = shared.lock();
            json(StatusCode::OK, &state.stats.report(state.ledger.repeated_accounts()))
        }
        (&Method::POST, "faults") => match Faults::parse(&body) {
            Ok(faults) => {
                let mut state = shared.lock();
                let now = shared.now();
                state.set_faults(faults, now);
                json(StatusCode::OK, &json!({}))
            }
            Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::POST, "temporary_key") => temporary_key(shared, &body),
        (&Method::POST, "reset") => {
            let mut state = shared.lock();
            let now = shared.now();
            state.reset(now);
            json(StatusCode::OK, &json!({}))
        }
        (_, "state") => problem(StatusCode::METHOD_NOT_ALLOWED, "method: not allowed (expected GET or PUT)"),
        (_, "ca.pem" | "health" | "requests" | "stats") => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method: not allowed (expected GET)")
        }
        (_, "faults" | "reset" | "temporary_key") => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method: not allowed (expected POST)")
        }
        _ => problem(
            StatusCode::NOT_FOUND,
            "path: not found (expected ca.pem, health, state, requests, stats, faults, temporary_key or reset)",
        ),
    }
}

/// Issues a temporary key of an account, in the format of the worker's credential file.
fn temporary_key(shared: &Shared, body: &[u8]) -> Response<Payload> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct KeyRequest {
        account: AccountId,
        seconds: u64,
    }
    match serde_json::from_slice(body) {
        Ok(KeyRequest { account, seconds }) => {
            let mut state = shared.lock();
            let expires_at = shared.now().unix_seconds.saturating_add(seconds.min(SECONDS_MAX));
            json(StatusCode::OK, &state.temporary_key(account, expires_at).file())
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn requests(shared: &Shared, query: &str) -> Response<Payload> {
    let last = match flat::parse(query.as_bytes()).ok().as_ref().and_then(|pairs| pairs.get("last")) {
        None if query.is_empty() => Some(ENTRIES_MAX),
        last => last.and_then(|text| text.parse().ok()),
    };
    let Some(last) = last else {
        return problem(StatusCode::BAD_REQUEST, "query: invalid (expected last=N with a whole number)");
    };
    let state = shared.lock();
    let entries: Vec<_> = state.log.last(last).collect();
    json(StatusCode::OK, &json!({ "requests": entries }))
}

fn problem(status: StatusCode, message: &str) -> Response<Payload> {
    json(status, &json!({ "error": message }))
}

fn json(status: StatusCode, value: &Value) -> Response<Payload> {
    page(status, "application/json", Payload::whole(value.to_string()))
}

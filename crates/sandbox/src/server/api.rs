//! One request, from its arrival to its response.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming as HttpBody};
use tokio::{
    sync::SemaphorePermit,
    time::{sleep, timeout},
};

use super::{
    Shared, admin,
    incoming::{BODY_BYTES_MAX, Incoming, too_large},
    metadata,
    payload::{Aborted, Payload},
    socket::ResetSwitch,
    state::{Decision, SKEW_SECONDS},
    tunnel::{self, TunnelSlot},
};
use crate::{
    clock::{Clock, http_date},
    faults::Fault,
    ledger::Refusal,
    stats::Writer,
};

/// How long a body may take to arrive.
const BODY_SECONDS_MAX: Duration = Duration::from_secs(30);

/// Bodies of at most this many bytes need no reservation.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// How long a request hangs unless its client disconnects.
const HANG: Duration = Duration::from_secs(600);

/// A header of the SDKs that the API echoes.
const TRACE_ID: &str = "x-tc-traceid";

const HTML: &str = "<html><head><title>Error</title></head><body><h1>The gateway is broken</h1></body></html>";

/// Answers a request, or aborts its connection.
pub(super) async fn answer(
    shared: Arc<Shared>,
    switch: ResetSwitch,
    slot: Option<TunnelSlot>,
    request: Request<HttpBody>,
) -> Result<Response<Payload>, Aborted> {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Ok(tunnel::answer(slot.as_ref(), &mut parts));
    }
    let (body, room) = read(&shared, body).await?;
    if let Some(path) = parts.uri.path().strip_prefix("/_sandbox/") {
        return Ok(admin::answer(&shared, path, &parts, body));
    }
    if let Some(path) = parts.uri.path().strip_prefix(metadata::PATH) {
        return match metadata::answer(&shared, path, &parts) {
            metadata::Answer::Page(page) => Ok(page),
            metadata::Answer::Key(decision) => reply(&shared, &switch, decision, 0).await,
        };
    }
    if parts.uri.path() != "/" {
        return Ok(page(
            StatusCode::NOT_FOUND,
            "text/plain",
            Payload::whole("path: not found (expected / for the API, /_sandbox/ or /latest/meta-data/)\n"),
        ));
    }
    let trace_id = parts.headers.get(TRACE_ID).cloned();
    let incoming = Incoming::read(parts, body);
    let (mut decision, generation) = {
        let mut state = shared.lock();
        let now = shared.now();
        (state.decide(incoming, now), state.generation)
    };
    drop(room);
    let _write = decision.write.take().map(|writer| WriteInFlight { shared: Arc::clone(&shared), writer });
    sleep_if_any(shared.latency).await;
    let mut response = reply(&shared, &switch, decision, generation).await?;
    if let Some(trace_id) = trace_id {
        response.headers_mut().insert(TRACE_ID, trace_id);
    }
    Ok(response)
}

/// Sends the response as far as the fault allows.
async fn reply(
    shared: &Arc<Shared>,
    switch: &ResetSwitch,
    decision: Decision,
    generation: u64,
) -> Result<Response<Payload>, Aborted> {
    let Decision { body, fault, late, .. } = decision;
    let json = |payload| page(StatusCode::OK, "application/json", payload);
    match fault {
        Some(Fault::Hang) => {
            sleep(HANG).await;
            Err(Aborted)
        }
        Some(Fault::Http500) => Ok(page(StatusCode::INTERNAL_SERVER_ERROR, "text/html", Payload::whole(HTML))),
        Some(Fault::Html) => Ok(page(StatusCode::OK, "text/html", Payload::whole(HTML))),
        Some(Fault::ResetBefore | Fault::ResetAfter) => {
            switch.reset();
            Err(Aborted)
        }
        Some(Fault::Endless) => Ok(json(Payload::endless())),
        Some(Fault::Truncate) => Ok(json(Payload::truncated(body))),
        Some(Fault::ApplyLate(delay)) => {
            // A separate task, since this one ends when the client disconnects.
            let applied = tokio::spawn({
                let shared = Arc::clone(shared);
                async move {
                    sleep(delay).await;
                    let mut state = shared.lock();
                    let now = shared.now();
                    if let Some(late) = late.filter(|_| state.generation == generation) {
                        state.perform_late(late, now);
                    }
                }
            });
            drop(applied.await);
            switch.reset();
            Err(Aborted)
        }
        Some(Fault::Skew) => {
            let mut response = json(Payload::whole(body));
            let date = http_date(Clock::unix_seconds() + SKEW_SECONDS);
            if let Ok(date) = HeaderValue::try_from(date) {
                response.headers_mut().insert(header::DATE, date);
            }
            Ok(response)
        }
        None | Some(Fault::Throttle | Fault::InternalError | Fault::ExpiredCredential | Fault::Code(_)) => {
            Ok(json(Payload::whole(body)))
        }
    }
}

/// Reads a body, after reserving memory if it is large.
///
/// The permit of a large body must be held for as long as the body.
async fn read(
    shared: &Shared,
    body: HttpBody,
) -> Result<(Result<Bytes, Refusal>, Option<SemaphorePermit<'_>>), Aborted> {
    let length = body.size_hint().upper().and_then(|length| usize::try_from(length).ok()).unwrap_or(BODY_BYTES_MAX);
    let collect = async {
        let room = if length > SMALL_BODY_BYTES {
            let kilobytes = u32::try_from(length.min(BODY_BYTES_MAX) / 1024).unwrap_or(u32::MAX);
            Some(shared.body_room.acquire_many(kilobytes).await.map_err(|_| Aborted)?)
        } else {
            None
        };
        Ok((Limited::new(body, BODY_BYTES_MAX).collect().await, room))
    };
    let (collected, room) = timeout(BODY_SECONDS_MAX, collect).await.map_err(|_| Aborted)??;
    match collected {
        Ok(collected) => Ok((Ok(collected.to_bytes()), room)),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Ok((Err(too_large(length.max(BODY_BYTES_MAX + 1), BODY_BYTES_MAX)), None))
        }
        Err(_) => Err(Aborted),
    }
}

pub(super) fn page(status: StatusCode, content_type: &'static str, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn sleep_if_any(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

/// Counts the end of a write when it is answered or its client disconnects.
struct WriteInFlight {
    shared: Arc<Shared>,
    writer: Writer,
}

impl Drop for WriteInFlight {
    fn drop(&mut self) {
        self.shared.lock().stats.write_ends(&self.writer);
    }
}

//! The response to a request.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Body;
use serde::Serialize;

use super::{
    Server,
    page::page,
    status_json::{AliveJson, ReadyJson, StatusJson},
};
use crate::metrics;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The content policy of every response but the page.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Returns the response to a request. A request with a body is refused: nothing here takes one.
pub(super) fn answer<B: Body>(server: &Server, request: &Request<B>) -> Response<Full<Bytes>> {
    let Server { status, readiness, host_check } = server;
    if !host_check.accepts(request.uri(), request.headers()) {
        return text(StatusCode::MISDIRECTED_REQUEST, "host: not allowed (expected localhost or an address)\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "method: not allowed (expected GET or HEAD)\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if !request.body().is_end_stream() {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "body: not allowed (expected a request without a body)\n");
    }
    match request.uri().path() {
        "/" => html(),
        "/livez" => {
            let alive = AliveJson::new(status);
            json(ok_if(alive.alive), &alive)
        }
        "/metrics" => of_type(StatusCode::OK, metrics::CONTENT_TYPE, status.metrics().into()),
        "/readyz" => {
            let ready = ReadyJson::new(status, *readiness);
            json(ok_if(ready.ready), &ready)
        }
        "/status" => json(StatusCode::OK, &StatusJson::new(status, *readiness)),
        _ => text(StatusCode::NOT_FOUND, "path: not found (expected /, /livez, /metrics, /readyz or /status)\n"),
    }
}

const fn ok_if(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn html() -> Response<Full<Bytes>> {
    let page = page();
    let mut response = of_type(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(page.text.as_bytes()));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, page.policy.clone());
    response
}

fn text(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    of_type(status, TEXT, Bytes::from_static(words.as_bytes()))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let mut body = serde_json::to_vec(value).expect("it is made of texts, numbers and lists of them");
    body.push(b'\n');
    of_type(status, JSON, body.into())
}

fn of_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, NOTHING);
    response
}

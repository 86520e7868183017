//! A sandbox with a client.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use imageshare_core::params::Pairs;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::super::{Config, Sandbox};
use crate::{
    actions::{Action, Product},
    clock::Clock,
    verify::{Received, authorize, sign},
    world::{SECRET_ID, SECRET_KEY},
};

pub(super) const IMAGE: &str = "img-6pb6lrmy";

/// How long a test waits for an observable event.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sandbox and the settings of a client.
pub(super) struct Client {
    pub(super) sandbox: Sandbox,
    pub(super) host: String,
    pub(super) secret_id: String,
    pub(super) secret_key: String,
    pub(super) token: Option<String>,
    pub(super) region: Option<&'static str>,
    /// Seconds by which the client's clock is ahead.
    pub(super) ahead: u64,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn response(&self) -> Value {
        let answer: Value = serde_json::from_str(&self.text).unwrap();
        answer["Response"].clone()
    }

    /// The error code, or `ok`.
    pub(super) fn code(&self) -> String {
        self.response()["Error"]["Code"].as_str().unwrap_or("ok").to_owned()
    }
}

/// Starts an open world without limits.
pub(super) async fn open() -> Client {
    start(Config { rps: 0, ..Config::default() }).await
}

pub(super) async fn start(config: Config) -> Client {
    let sandbox = Sandbox::start(config).await.unwrap();
    Client {
        host: sandbox.addr().to_string(),
        sandbox,
        secret_id: SECRET_ID.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        token: None,
        region: Some("ap-singapore"),
        ahead: 0,
    }
}

impl Client {
    /// Calls an action by POST with JSON and signature version 3.
    pub(super) async fn call(&self, action: &str, parameters: Value) -> Answer {
        self.try_call(action, parameters).await.unwrap()
    }

    pub(super) async fn try_call(&self, action: &str, parameters: Value) -> Result<Answer, hyper::Error> {
        self.send(self.post(action, &parameters.to_string())).await
    }

    /// Shares the image with accounts and returns the code.
    pub(super) async fn share(&self, accounts: &[&str]) -> String {
        self.call("ModifyImageSharePermission", share(accounts)).await.code()
    }

    pub(super) fn post(&self, action: &str, body: &str) -> Request<Full<Bytes>> {
        self.signed(Method::POST, "/", "application/json", action, body)
    }

    /// Returns a request with signature version 3.
    pub(super) fn signed(
        &self,
        method: Method,
        uri: &str,
        content_type: &str,
        action: &str,
        body: &str,
    ) -> Request<Full<Bytes>> {
        let product = action.parse().ok().map(Action::product).filter(|product| Product::API.contains(product));
        let product = product.unwrap_or(Product::Cvm);
        let mut request = Request::new(Full::from(body.to_owned()));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap();
        let timestamp = (Clock::unix_seconds() + self.ahead).to_string();
        for (name, value) in [
            ("content-type", content_type),
            ("host", &self.host),
            ("x-tc-action", action),
            ("x-tc-version", product.version()),
            ("x-tc-timestamp", &timestamp),
            ("x-tc-requestclient", "kit"),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        if let Some(region) = self.region {
            request.headers_mut().insert("x-tc-region", HeaderValue::from_static(region));
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert("x-tc-token", HeaderValue::from_str(token).unwrap());
        }
        self.sign(&mut request, product.name(), body);
        request
    }

    /// Signs a request with version 3, replacing an earlier signature.
    pub(super) fn sign(&self, request: &mut Request<Full<Bytes>>, service: &str, body: &str) {
        let received = Received {
            method: request.method().as_str(),
            query: request.uri().query().unwrap_or_default(),
            headers: request.headers(),
            body: body.as_bytes(),
            pairs: &Pairs::default(),
        };
        let authorization = authorize(&received, &self.secret_id, &self.secret_key, service);
        request.headers_mut().insert("authorization", HeaderValue::try_from(authorization).unwrap());
    }

    /// Returns a request with signature version 1.
    pub(super) fn signed_v1(&self, method: Method, digest: &str, own: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let timestamp = Clock::unix_seconds().to_string();
        let mut pairs: Pairs = own.iter().copied().collect();
        for (name, value) in [
            ("Version", "2017-03-12"),
            ("Region", self.region.unwrap_or_default()),
            ("Timestamp", &timestamp),
            ("Nonce", "11886"),
            ("SecretId", &self.secret_id),
            ("SignatureMethod", digest),
            ("RequestClient", "kit"),
        ] {
            if pairs.get(name).is_none() {
                pairs.push(name, value);
            }
        }
        let signature = sign(method.as_str(), &self.host, pairs.iter(), digest, &self.secret_key);
        pairs.push("Signature", signature);
        let text = pairs.to_query();
        let (uri, body) = if method == Method::GET { (format!("/?{text}"), String::new()) } else { ("/".into(), text) };
        Request::builder()
            .method(method)
            .uri(uri)
            .header("host", &self.host)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(body))
            .unwrap()
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let (parts, body) = self.open(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Ok(Answer { status: parts.status, headers: parts.headers, text })
    }

    /// Sends a request on a new connection and returns the response before its body.
    pub(super) async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        let stream = TcpStream::connect(self.sandbox.addr()).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    }

    pub(super) async fn admin(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (StatusCode, Value) {
        let uri: Uri = format!("/_sandbox/{path}").parse().unwrap();
        let request =
            Request::builder().method(method).uri(uri).header("host", "x").body(Full::new(body.into())).unwrap();
        let answer = self.send(request).await.unwrap();
        (answer.status, serde_json::from_str(&answer.text).unwrap())
    }

    pub(super) async fn faults(&self, faults: Value) {
        let answer = self.admin(Method::POST, "faults", faults.to_string()).await;
        assert_eq!(answer, (StatusCode::OK, json!({})));
    }

    /// Sets a fault for the next write.
    pub(super) async fn fault(&self, fault: &str) {
        self.faults(json!({"script": [{"action": "ModifyImageSharePermission", "do": fault}]})).await;
    }

    pub(super) async fn stats(&self) -> Value {
        self.admin(Method::GET, "stats", "").await.1
    }

    /// Returns the accounts that have the image, or null if the image does not exist yet.
    pub(super) async fn state(&self) -> Value {
        let state = self.admin(Method::GET, "state", "").await.1;
        match (&state["images"][IMAGE], state["shares"][IMAGE].as_object()) {
            (Value::Null, _) => Value::Null,
            (_, shares) => shares.into_iter().flat_map(|shares| shares.keys()).cloned().collect(),
        }
    }

    /// Waits until the image is shared with exactly these accounts.
    pub(super) async fn wait_for_state(&self, expected: Value) {
        let seen = async {
            while self.state().await != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }
}

/// Returns the parameters of a SHARE.
pub(super) fn share(accounts: &[&str]) -> Value {
    json!({"ImageId": IMAGE, "AccountIds": accounts, "Permission": "SHARE"})
}

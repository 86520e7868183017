//! A scripted stand-in for the API: whatever a test wants it to answer, and what it saw.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) action: String,
    pub(super) timestamp: u64,
    pub(super) authorization: String,
    pub(super) body: serde_json::Value,
}

/// What the script answers.
pub(super) enum Does {
    /// What an open world would answer: every account may be shared, everything is remembered.
    Works,
    /// Refuses with this code.
    Refuses(&'static str),
    /// Refuses with this code and shows this time.
    RefusesAt(&'static str, SystemTime),
    /// Refuses with this code after so long.
    RefusesAfter(&'static str, Duration),
    /// Never answers.
    Hangs,
}

/// A server that runs as long as its runtime.
pub(super) struct Server {
    pub(super) endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    arrivals: mpsc::UnboundedReceiver<String>,
}

impl Server {
    /// Starts a server that asks `script` what to do with each request. It receives how many of that action came before.
    pub(super) async fn start(script: impl Fn(&Seen, usize) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let desk =
            Arc::new(Desk { script: Box::new(script), seen: Arc::clone(&seen), shared: Mutex::default(), arrived });
        tokio::spawn(async move {
            loop {
                let stream = TokioIo::new(listener.accept().await.unwrap().0);
                let desk = Arc::clone(&desk);
                let answer = service_fn(move |request| Arc::clone(&desk).answer(request));
                tokio::spawn(http1::Builder::new().auto_date_header(false).serve_connection(stream, answer));
            }
        });
        Self { endpoint, seen, arrivals }
    }

    /// Waits for a request with this action.
    pub(super) async fn saw(&mut self, action: &str) {
        while self.arrivals.recv().await.unwrap() != action {}
    }

    /// Every request so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

type Script = Box<dyn Fn(&Seen, usize) -> Does + Send + Sync>;

/// Where requests are answered.
struct Desk {
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
    shared: Mutex<BTreeSet<(String, String)>>,
    arrived: mpsc::UnboundedSender<String>,
}

impl Desk {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let text = |name: &str| head.headers.get(name).unwrap().to_str().unwrap().to_owned();
        let seen = Seen {
            action: text("x-tc-action"),
            timestamp: text("x-tc-timestamp").parse().unwrap(),
            authorization: text("authorization"),
            body: serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap(),
        };
        let before = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen.clone());
            all.iter().filter(|other| other.action == seen.action).count() - 1
        };
        let does = (self.script)(&seen, before);
        // A test that ended takes no more news.
        let _ = self.arrived.send(seen.action.clone());
        let mut response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        let members = match does {
            Does::Works => self.work(&seen),
            Does::Refuses(code) => refusal(code),
            Does::RefusesAt(code, date) => {
                response = response.header(header::DATE, httpdate::fmt_http_date(date));
                refusal(code)
            }
            Does::RefusesAfter(code, time) => {
                tokio::time::sleep(time).await;
                refusal(code)
            }
            Does::Hangs => std::future::pending().await,
        };
        let body = format!(r#"{{"Response":{{{members}"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}}}"#);
        Ok(response.body(Full::from(body)).unwrap())
    }

    fn work(&self, seen: &Seen) -> String {
        let mut shared = self.shared.lock().unwrap();
        let image = seen.body.get("ImageId").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
        match seen.action.as_str() {
            "ModifyImageSharePermission" => {
                for account in seen.body["AccountIds"].as_array().unwrap() {
                    let entry = (image.clone(), account.as_str().unwrap().to_owned());
                    match seen.body["Permission"].as_str().unwrap() {
                        "SHARE" => shared.insert(entry),
                        _ => shared.remove(&entry),
                    };
                }
                String::new()
            }
            "DescribeImageSharePermission" => {
                let has = shared.iter().filter(|(of, _)| *of == image);
                let entries: Vec<_> = has.map(|(_, id)| format!(r#"{{"AccountId":"{id}"}}"#)).collect();
                format!(r#""SharePermissionSet":[{}],"#, entries.join(","))
            }
            "DescribeImages" => {
                let image = seen.body["ImageIds"][0].as_str().unwrap();
                format!(r#""ImageSet":[{{"ImageId":"{image}","ImageState":"NORMAL"}}],"TotalCount":1,"#)
            }
            other => panic!("unexpected action: {other}"),
        }
    }
}

fn refusal(code: &str) -> String {
    format!(r#""Error":{{"Code":"{code}","Message":"as the test wants"}},"#)
}

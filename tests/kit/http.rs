//! A minimal HTTP client for servers on this machine.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::TIMEOUT;

/// A response.
#[derive(Debug)]
pub struct HttpResponse {
    pub code: u16,
    pub body: String,
}

impl HttpResponse {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends a GET request. Panics if the server does not respond.
#[track_caller]
pub fn get(address: &str, path: &str) -> HttpResponse {
    try_get(address, path).unwrap_or_else(|| panic!("{address}{path}: no response"))
}

/// Sends a GET request; `None` if the server does not respond.
pub fn try_get(address: &str, path: &str) -> Option<HttpResponse> {
    request(address, "GET", path, "")
}

/// Sends a request; `None` if the server does not respond.
pub fn request(address: &str, method: &str, path: &str, body: &str) -> Option<HttpResponse> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    // HTTP/1.0 has no chunked responses.
    let len = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {len}\r\n\r\n{body}").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    Some(HttpResponse { code: head.split(' ').nth(1)?.parse().ok()?, body: body.to_owned() })
}

//! Asking a server of this machine by HTTP, without a client library.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::PATIENCE;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Gets something from a server that is there.
#[track_caller]
pub fn get(address: &str, path: &str) -> Answer {
    try_get(address, path).unwrap_or_else(|| panic!("{address} gave no answer to {path}"))
}

/// The same from one that may not be there.
pub fn try_get(address: &str, path: &str) -> Option<Answer> {
    call(address, "GET", path, "")
}

/// Sends a request to a server that may not be there.
pub fn call(address: &str, method: &str, path: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // In the version without chunks.
    let len = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {len}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(Answer { code: head.split(' ').nth(1)?.parse().ok()?, body: body.to_owned() })
}

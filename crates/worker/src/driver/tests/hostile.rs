//! An API, or a server that poses as one, with the most harmful responses. All that the engine receives of a call is its
//! outcome: one without a usable response is unanswered, and what follows from that is in the engine's tests.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use allocation_counter::measure;
use imageshare_core::{Class, Permission};
use imageshare_engine::io::{Action, CallId, Outcome};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

use super::{
    super::calls::{CallEvent, Flight},
    *,
};
use crate::api::{ApiSender, SharedClock};

/// Bytes that a call may have in use at any moment, the server's among them.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

const OK: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const SUCCESS: &str = r#"{"Response":{"RequestId":"1-1-1-1"}}"#;

/// A way to answer the first connection.
enum Trick {
    /// This, and the end of the connection.
    Say(Vec<u8>),
    /// This, and the connection stays open.
    Keep(Vec<u8>),
    /// This, and then the same again and again for as long as it is read.
    Endless(String, Vec<u8>),
    /// This before any request, and the end of the connection.
    Early(Vec<u8>),
}

/// A whole response with this body.
fn whole(body: &str) -> Vec<u8> {
    format!("{OK}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A refusal with this code, message and request.
fn refusal(code: &str, message: &str, request_id: &str) -> String {
    json!({"Response": {"Error": {"Code": code, "Message": message}, "RequestId": request_id}}).to_string()
}

/// Each trick with its name, and whether it is a whole refusal, which is trusted.
fn tricks() -> Vec<(&'static str, Trick, bool)> {
    let mut tricks = Vec::new();

    let mut endless = |name, head: &str, piece: &[u8]| {
        tricks.push((name, Trick::Endless(head.to_owned(), piece.to_vec()), false));
    };
    let long = vec![b'x'; 65_536];
    endless("a body without end", "HTTP/1.1 200 OK\r\n\r\n", &long);
    endless("chunks without end", CHUNKED, &[b"4000\r\n", &[b' '; 16_384][..], b"\r\n"].concat());
    endless("headers without end", OK, &b"x: y\r\n".repeat(1_000));
    endless("a header without end", &format!("{OK}x: "), &long);
    endless("a status without end", "HTTP/1.1 200 ", &long);
    endless("continue without end", "", &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000));
    endless("hints without end", "", &b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1_000));
    endless("trailers without end", &format!("{CHUNKED}0\r\n"), &b"x: y\r\n".repeat(1_000));
    endless("an extension without end", &format!("{CHUNKED}5;a="), &long);
    endless("chunks of one byte", CHUNKED, &b"1\r\n \r\n".repeat(1_000));
    endless("lines without end", "", &b"\r\n".repeat(10_000));

    let mut say = |name, response: &[u8]| tricks.push((name, Trick::Say(response.to_vec()), false));
    say("a chunk of more than all memory", format!("{CHUNKED}ffffffffffffffff\r\n{{").as_bytes());
    say("a chunk whose size is not a number", format!("{CHUNKED}0x10\r\n{{").as_bytes());
    for (name, headers) in [
        ("a length that is too long", "content-length: 99999"),
        ("a length that is too short", "content-length: 9"),
        ("a length below zero", "content-length: -1"),
        ("two lengths", "content-length: 9\r\ncontent-length: 36"),
        ("a length and chunks", "content-length: 36\r\ntransfer-encoding: chunked"),
    ] {
        say(name, format!("{OK}{headers}\r\n\r\n{SUCCESS}").as_bytes());
    }
    say("no body at all", b"HTTP/1.1 204 No Content\r\n\r\n");
    say("not modified", b"HTTP/1.1 304 Not Modified\r\n\r\n");
    say("another protocol", b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n");
    say("HTTP/2", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64");
    say("a challenge", b"HTTP/1.1 401 No\r\nwww-authenticate: Basic realm=\"a\"\r\ncontent-length: 0\r\n\r\n");
    say("a proxy's challenge", b"HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate\r\ncontent-length: 0\r\n\r\n");
    let success = String::from_utf8(whole(SUCCESS)).unwrap();
    say("a success with status 500", success.replace("200 OK", "500 No").as_bytes());
    say("an end in the middle of the head", b"HTTP/1.1 200 OK\r\ncontent-le");
    say("lists in lists", &whole(&"[".repeat(1_000_000)));
    say("objects in objects", &whole(&"{\"Response\":".repeat(80_000)));
    say("a number without end", &whole(&format!("{{\"Response\":{}}}", "9".repeat(1_000_000))));
    say("a member twice", &whole(r#"{"Response":{"RequestId":"1"},"Response":{"RequestId":"2"}}"#));
    say("a code that writes to terminals", &whole(&refusal("\u{1b}[31mRed", "no", "3")));
    say("a code of a megabyte", &whole(&refusal(&"C".repeat(1_000_000), "no", "3")));
    for encoding in ["gzip", "br", "zstd"] {
        let head = format!("{OK}content-encoding: {encoding}\r\ncontent-length: 1000\r\n\r\n").into_bytes();
        say(encoding, &[&head[..], b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", &[0; 990][..]].concat());
    }

    let message = "\u{1b}]0;t\u{7}\u{9b}1m\u{202e}\r\n".repeat(30_000);
    let message = Trick::Say(whole(&refusal("InternalError", &message, "\u{1b}[2J\u{202e}")));
    tricks.push(("a long message that writes to terminals", message, true));
    let refused = whole(&refusal("InternalError", "later", "2-2-2-2"));
    let both = Trick::Keep([refused, whole(SUCCESS)].concat());
    tricks.push(("a refusal, and a success for a later request", both, true));
    let early = Trick::Early(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec());
    tricks.push(("a response before the request", early, false));
    tricks
}

/// Reads a request whose body is a JSON object. Returns false if the connection ends first.
async fn read_request(stream: &mut TcpStream) -> io::Result<bool> {
    let mut request = Vec::new();
    while !(request.windows(5).any(|window| window == b"\r\n\r\n{") && request.ends_with(b"}")) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Answers with the trick. Returns whether the connection was used again.
async fn play(trick: &Trick, mut stream: TcpStream) -> io::Result<bool> {
    if let Trick::Early(response) = trick {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        return Ok(false);
    }
    read_request(&mut stream).await?;
    match trick {
        Trick::Say(response) | Trick::Early(response) => stream.write_all(response).await.map(|()| false),
        Trick::Keep(response) => {
            stream.write_all(response).await?;
            read_request(&mut stream).await
        }
        Trick::Endless(head, piece) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(piece).await?;
            }
        }
    }
}

/// Plays the trick on the first connection, and accepts the requests of all others.
async fn serve(listener: TcpListener, trick: Trick, is_reused: Arc<AtomicBool>) -> io::Result<()> {
    let stream = listener.accept().await?.0;
    // Its errors are those of a client that closed the connection.
    tokio::spawn(async move { is_reused.store(play(&trick, stream).await.unwrap_or(false), Ordering::SeqCst) });
    loop {
        let mut stream = listener.accept().await?.0;
        if read_request(&mut stream).await? {
            stream.write_all(&whole(SUCCESS)).await?;
        }
    }
}

/// Sends a write and returns its outcome.
async fn outcome(client: &Client, endpoint: &str) -> Outcome {
    let (events, mut received) = mpsc::unbounded_channel();
    let credential = Some(credential("AKIDFIRST"));
    let api = ApiSender::new(client.clone(), endpoint.parse().unwrap(), SharedClock::default(), credential);
    let action = Action::Modify {
        region: "ap-singapore".parse().unwrap(),
        image_id: IMAGE.parse().unwrap(),
        permission: Permission::Share,
        account_ids: vec!["100001".parse().unwrap()],
    };
    Flight::new(CallId(1), None, events).fly(api, action).await;
    loop {
        if let CallEvent::Ended { outcome, .. } = received.recv().await.unwrap() {
            return outcome;
        }
    }
}

/// Text from outside reaches logs, reports and terminals as one printable line of bounded length.
#[track_caller]
fn check_shown(name: &str, text: &str) {
    let is_raw = |c: char| c.is_control() || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    assert!(!text.contains(is_raw) && text.len() < 2_000, "{name}: {text:?}");
}

#[test]
fn harmful_response_is_never_taken_for_success() {
    for (name, trick, is_refusal) in tricks() {
        let is_early = matches!(trick, Trick::Early(_));
        // Of this thread alone, so that its allocations are those of the call and of the server.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // Some responses without an end are read for as long as a call may take.
        let is_endless = matches!(trick, Trick::Endless(..));
        let call = if is_endless { Duration::from_secs(1) } else { TimeOuts::default().call };
        let client = Client::new(TimeOuts { call, ..TimeOuts::default() }).unwrap();
        let is_reused = Arc::new(AtomicBool::new(false));
        let mut outcomes = None;
        let used = measure(|| {
            outcomes = Some(runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let endpoint = format!("http://{}", listener.local_addr().unwrap());
                tokio::spawn(serve(listener, trick, Arc::clone(&is_reused)));
                (outcome(&client, &endpoint).await, outcome(&client, &endpoint).await)
            }));
        });
        let (tricked, next) = outcomes.unwrap();
        assert!(used.bytes_max < BYTES_MAX, "{name}: {} bytes", used.bytes_max);
        match tricked {
            Outcome::Unanswered { sent, reason } if !is_refusal => {
                assert!(sent || is_early, "{name}");
                check_shown(name, &reason);
            }
            Outcome::Refused { class, code, message, .. } if is_refusal => {
                assert_eq!((&*code, class), ("InternalError", Class::of("InternalError")), "{name}");
                check_shown(name, &message);
            }
            other => panic!("{name}: {other:?}"),
        }
        // What is left of a response is not taken for the next one.
        assert!(matches!(next, Outcome::Accepted(_)), "{name}: {next:?}");
        assert!(!is_reused.load(Ordering::SeqCst), "{name}");
    }
}

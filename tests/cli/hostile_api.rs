//! An API, or what poses as one, that answers in whatever way harms most: what it says is got over when it ends, ends the
//! lane when it stays, costs little memory, and sends nobody elsewhere.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use kit::{Folder, Program, Sandbox, check_plain, figures, job, json_lines};

const ACCOUNTS: std::ops::Range<u64> = 100_000_000_000..100_000_000_003;

const IMAGES: [&str; 3] = ["img-6pb6lrmy", "img-gvbnzy6f", "img-9qabwvbn"];

/// Memory that a run may have at its most, in KiB. In peace it has a little over 10 MiB.
const PEAK_KIB_MAX: u64 = 64 * 1024;

/// Runs side by side: they mostly wait.
const SIDE_BY_SIDE: usize = 8;

/// A way to answer a request.
#[derive(Clone)]
enum Trick {
    /// This, and the end of the connection.
    Say(Vec<u8>),
    /// This, and the connection stays as it is. Nothing else may be asked on it.
    Keep(Vec<u8>),
    /// This, and then the same again and again for as long as it is read.
    Endless(&'static str, Vec<u8>),
    /// This before anything was asked, and the end of the connection.
    Early(Vec<u8>),
}

/// A server between a run and a sandbox.
struct Posing {
    address: SocketAddr,
    /// Requests on connections where none may come any more.
    asked_again: Arc<AtomicUsize>,
}

impl Posing {
    /// Answers the first so many requests of each action by a trick, and passes the others on.
    fn start(sandbox: &Sandbox, trick: Trick, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked_again = Arc::new(AtomicUsize::new(0));
        let (asked, to) = (Arc::clone(&asked_again), sandbox.address.clone());
        let seen = Arc::new(Mutex::new(Vec::<String>::new()));
        // It ends with the process of the tests; nobody asks it any more when its test is over.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (trick, seen, asked, to) = (trick.clone(), Arc::clone(&seen), Arc::clone(&asked), to.clone());
                // Its errors are those of a client that has gone, which it may at any moment.
                thread::spawn(move || serve(stream?, &trick, times, &seen, &asked, &to));
            }
        });
        Self { address, asked_again }
    }
}

fn serve(
    mut stream: TcpStream,
    trick: &Trick,
    times: usize,
    seen: &Mutex<Vec<String>>,
    asked_again: &AtomicUsize,
    to: &str,
) -> std::io::Result<()> {
    if let Trick::Early(bytes) = trick
        && seen.lock().unwrap().len() < times
    {
        seen.lock().unwrap().push(String::new());
        stream.write_all(bytes)?;
        return stream.shutdown(Shutdown::Write);
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some((action, request)) = read_request(&mut reader)? {
        let is_tricked = {
            let mut seen = seen.lock().unwrap();
            let before = seen.iter().filter(|one| **one == action).count();
            seen.push(action);
            before < times
        };
        match trick {
            Trick::Say(bytes) if is_tricked => return stream.write_all(bytes),
            Trick::Keep(bytes) if is_tricked => {
                stream.write_all(bytes)?;
                if read_request(&mut reader)?.is_some() {
                    asked_again.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(());
            }
            Trick::Endless(head, piece) if is_tricked => {
                stream.write_all(head.as_bytes())?;
                loop {
                    stream.write_all(piece)?;
                }
            }
            _ => {
                let mut sandbox = TcpStream::connect(to)?;
                sandbox.write_all(&request)?;
                let mut answer = Vec::new();
                BufReader::new(sandbox).read_to_end(&mut answer)?;
                stream.write_all(&answer)?;
            }
        }
    }
    Ok(())
}

/// The next request and its action; nothing if there is none any more.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut request, mut action, mut length) = (Vec::new(), String::new(), 0);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line).to_lowercase();
        match text.trim_end().split_once(": ") {
            Some(("x-tc-action", value)) => value.clone_into(&mut action),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            _ => {}
        }
        let is_last = line == b"\r\n";
        if is_last {
            request.extend_from_slice(b"connection: close\r\n");
        }
        request.extend_from_slice(&line);
        if is_last {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.extend_from_slice(&body);
    Ok(Some((action, request)))
}

/// What became of a run.
struct Outcome {
    code: Option<i32>,
    reports: Vec<Value>,
    said: String,
    peak_kib: u64,
}

/// Shares images by such a server, which tricks so many requests of each action.
fn run(sandbox: &Sandbox, posing: &Posing, images: &[&str], give_up_after: &str) -> Outcome {
    let folder = Folder::new();
    let settings = "[http]\ncall_timeout = \"500ms\"\nconnect_timeout = \"500ms\"\n[engine]\nlanding = \"1s\"\n";
    let jobs: String = images.iter().map(|image| job(image, "SHARE", ACCOUNTS)).collect();
    let (running, mut stdout) = Program::new(["run", "--json", "--endpoint", &format!("http://{}", posing.address)])
        .args(["--give-up-after", give_up_after, "--config"])
        .arg(folder.file("settings.toml", settings))
        .arg(folder.file("jobs.ndjson", jobs))
        .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
        .start();
    let mut peak_kib = 0;
    while let Some(kib) = running.peak_kib() {
        peak_kib = kib;
        thread::sleep(Duration::from_millis(5));
    }
    let (code, said) = running.end();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    check_plain("what it says", &said);
    check_plain("its reports", &text);
    assert!(!said.contains("panicked") && !said.contains("sandbox-secret-key-example"), "{said}");
    assert!(sandbox.state().values().all(|accounts| accounts.iter().copied().all(|id| ACCOUNTS.contains(&id))));
    Outcome { code, reports: json_lines(&text), said, peak_kib }
}

/// Runs each of these, some at a time, and gives what each gives.
fn side_by_side<T: Sync, R: Send>(all: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run(one);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const SUCCESS: &str = r#"{"Response":{"RequestId":"1-1-1-1"}}"#;

/// A whole answer with this body.
fn whole(body: &str) -> Vec<u8> {
    format!("{OK}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A refusal with this code, message and request.
fn refusal(code: &str, message: &str, request_id: &str) -> String {
    json!({"Response": {"Error": {"Code": code, "Message": message}, "RequestId": request_id}}).to_string()
}

/// Answers that are none, whatever is made of their bytes.
fn tricks(elsewhere: SocketAddr) -> Vec<(String, Trick)> {
    let say = |text: &str| Trick::Say(text.as_bytes().to_vec());
    let refused = whole(&refusal("InternalError", "later", "2-2-2-2"));
    let mut tricks = vec![
        ("a body without end", Trick::Endless("HTTP/1.1 200 OK\r\n\r\n", vec![b' '; 65_536])),
        ("chunks without end", Trick::Endless(CHUNKED, [b"4000\r\n", &[b' '; 16_384][..], b"\r\n"].concat())),
        ("headers without end", Trick::Endless(OK, b"x: y\r\n".repeat(1_000))),
        ("a header without end", Trick::Endless("HTTP/1.1 200 OK\r\nx: ", vec![b'x'; 65_536])),
        ("a status without end", Trick::Endless("HTTP/1.1 200 ", vec![b'K'; 65_536])),
        ("continue without end", Trick::Endless("", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000))),
        ("hints without end", Trick::Endless("", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1_000))),
        (
            "trailers without end",
            Trick::Endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n".repeat(1_000)),
        ),
        (
            "an extension without end",
            Trick::Endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=", vec![b'x'; 65_536]),
        ),
        ("chunks of one byte", Trick::Endless(CHUNKED, b"1\r\n \r\n".repeat(1_000))),
        ("lines without end", Trick::Endless("", b"\r\n".repeat(10_000))),
        ("a chunk of more than all memory", say(&format!("{CHUNKED}ffffffffffffffff\r\n{{"))),
        ("a chunk whose size is no number", say(&format!("{CHUNKED}0x10\r\n{{"))),
        ("a length that is too long", say(&format!("{OK}content-length: 99999\r\n\r\n{SUCCESS}"))),
        ("a length that is too short", say(&format!("{OK}content-length: 9\r\n\r\n{SUCCESS}"))),
        ("a length below zero", say(&format!("{OK}content-length: -1\r\n\r\n{SUCCESS}"))),
        ("two lengths", say(&format!("{OK}content-length: 9\r\ncontent-length: 36\r\n\r\n{SUCCESS}"))),
        ("a length and chunks", say(&format!("{OK}content-length: 36\r\ntransfer-encoding: chunked\r\n\r\n{SUCCESS}"))),
        ("no body at all", say("HTTP/1.1 204 No Content\r\n\r\n")),
        ("not modified", say("HTTP/1.1 304 Not Modified\r\n\r\n")),
        ("another protocol", say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")),
        ("HTTP/2", Trick::Say(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_vec())),
        (
            "a challenge",
            say("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"a\"\r\ncontent-length: 0\r\n\r\n"),
        ),
        ("a proxy's challenge", say("HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate\r\ncontent-length: 0\r\n\r\n")),
        (
            "a success that is none",
            say(&format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\n\r\n{SUCCESS}", SUCCESS.len())),
        ),
        ("an end in the middle of the head", say("HTTP/1.1 200 OK\r\ncontent-le")),
        ("lists in lists", Trick::Say(whole(&"[".repeat(1_000_000)))),
        ("objects in objects", Trick::Say(whole(&"{\"Response\":".repeat(80_000)))),
        ("a number without end", Trick::Say(whole(&format!("{{\"Response\":{}}}", "9".repeat(1_000_000))))),
        ("a member twice", Trick::Say(whole(r#"{"Response":{"RequestId":"1"},"Response":{"RequestId":"2"}}"#))),
        ("a refusal, and a success for what was not asked yet", Trick::Keep([refused, whole(SUCCESS)].concat())),
        ("an answer before the request", Trick::Early(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("a code that writes to terminals", Trick::Say(whole(&refusal("\u{1b}[31mRed", "no", "3")))),
        ("a code of a megabyte", Trick::Say(whole(&refusal(&"C".repeat(1_000_000), "no", "3")))),
        (
            "a message that writes to terminals, of a megabyte",
            Trick::Say(whole(&refusal(
                "InternalError",
                &"\u{1b}]0;t\u{7}\u{9b}1m\u{202e}\r\n".repeat(60_000),
                "\u{1b}[2J\u{202e}",
            ))),
        ),
    ];
    for encoding in ["gzip", "br", "zstd"] {
        let head = format!("{OK}content-encoding: {encoding}\r\ncontent-length: 1000\r\n\r\n").into_bytes();
        let bomb = [b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", &[0; 990][..]].concat();
        tricks.push((encoding, Trick::Say([head, bomb].concat())));
    }
    let mut tricks: Vec<_> = tricks.into_iter().map(|(name, trick)| (name.to_owned(), trick)).collect();
    for status in [300, 301, 302, 303, 305, 307, 308] {
        let head = format!(
            "HTTP/1.1 {status} Go\r\nlocation: http://{elsewhere}/\r\nrefresh: 0; url=http://{elsewhere}/\r\n\
             alt-svc: http/1.1=\"{elsewhere}\"\r\ncontent-length: 0\r\n\r\n"
        );
        tricks.push((format!("a redirect by {status}"), Trick::Keep(head.into_bytes())));
    }
    tricks
}

#[test]
fn whatever_an_api_answers_once_is_got_over() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let all = tricks(elsewhere.local_addr().unwrap());
    let peaks = side_by_side(&all, |(name, trick)| {
        let sandbox = Sandbox::start(&["--rps", "0"]);
        let posing = Posing::start(&sandbox, trick.clone(), 1);
        let Outcome { code, reports, said, peak_kib } = run(&sandbox, &posing, &IMAGES[..1], "30s");
        assert_eq!(code, Some(0), "{name}: {said}\n{reports:?}");
        // A redirect is a whole answer, after which a connection may be used; what comes unasked ends it.
        let may_ask = name.starts_with("a redirect");
        assert!(may_ask || posing.asked_again.load(Ordering::Relaxed) == 0, "{name}");
        assert!(sandbox.shared(IMAGES[0]).into_iter().eq(ACCOUNTS), "{name}");
        peak_kib
    });
    check_peaks(&peaks);
    check_untouched(&elsewhere);
}

#[test]
fn whatever_an_api_answers_for_ever_ends_the_lane_and_fails_nothing_that_was_not_tried() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let all = tricks(elsewhere.local_addr().unwrap());
    // What is a whole refusal is believed, and counts against an account.
    let is_answer = |name: &str| name.starts_with("a refusal") || name.starts_with("a message");
    let every_fourth: Vec<_> = all.into_iter().filter(|(name, _)| !is_answer(name)).step_by(4).collect();
    let peaks = side_by_side(&every_fourth, |(name, trick)| {
        let sandbox = Sandbox::start(&["--rps", "0"]);
        let posing = Posing::start(&sandbox, trick.clone(), usize::MAX);
        let Outcome { code, reports, said, peak_kib } = run(&sandbox, &posing, &IMAGES, "1s");
        assert_eq!(code, Some(4), "{name}: {said}");
        assert!(said.contains("the endpoint gives no usable answer"), "{name}: {said}");
        let failed: Vec<_> = reports.iter().flat_map(|report| report["failed"].as_array().unwrap()).collect();
        let is_ours = |code: &Value| ["Local.NotAttempted", "Local.NoAnswer"].iter().any(|ours| code == ours);
        let accounts = failed.iter().map(|failed| failed["account_ids"].as_array().unwrap().len()).sum::<usize>();
        assert_eq!((reports.len(), accounts), (3, 9), "{name}: {reports:?}");
        assert!(failed.iter().all(|failed| is_ours(&failed["code"])), "{name}: {reports:?}");
        assert!(sandbox.state().values().all(std::collections::BTreeSet::is_empty), "{name}");
        peak_kib
    });
    check_peaks(&peaks);
    check_untouched(&elsewhere);
}

/// Whatever the clock of an API shows, it is no reason to fall.
#[test]
fn a_clock_from_the_end_of_time_closes_the_lane_and_nothing_more() {
    let body = refusal("AuthFailure.SignatureExpire", "too late", "4");
    let dates =
        ["Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Tue, 99 Nov 99999 77:77:77 GMT", "\u{fe}"];
    side_by_side(&dates, |date| {
        let sandbox = Sandbox::start(&["--rps", "0"]);
        let head = format!("{OK}date: {date}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let posing = Posing::start(&sandbox, Trick::Say(head.into_bytes()), usize::MAX);
        let Outcome { code, reports, said, .. } = run(&sandbox, &posing, &IMAGES, "1s");
        assert!(matches!(code, Some(3 | 4)), "{date}: {code:?} {said}");
        assert!(said.contains("AuthFailure.SignatureExpire"), "{date}: {said}");
        assert_eq!(reports.len(), 3, "{date}: {reports:?}");
    });
}

#[track_caller]
fn check_peaks(peaks: &[u64]) {
    let peak = peaks.iter().copied().max().unwrap();
    figures(&[("runs", peaks.len() as u64), ("most-peak-kib", peak)]);
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB");
}

/// Nobody has come here.
#[track_caller]
fn check_untouched(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

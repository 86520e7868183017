//! Commands of a page in a shell, and a comparison of what they print with what the page shows.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use lapin::{BasicProperties, types::FieldTable};
use serde_json::Value;

use crate::{
    Amqp, COOKIE, Ended, Folder, Message, Program, Sandbox, Vhost, broker, check_plain, of_repository,
    pages::{Block, Page},
    program, properties, text,
};

/// GET, where a machine has no curl.
const CURL: &str = r#"#!/bin/bash
url=${1#http://} host=${1#http://} host=${host%%/*}
exec 3<>"/dev/tcp/${host/://}"
printf 'GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n' "${url#*/}" "$host" >&3
sed '1,/^\r$/d' <&3
"#;

/// A folder like a checkout, with the program on the path.
pub struct Shell {
    pub folder: Folder,
    variables: BTreeMap<&'static str, String>,
}

impl Shell {
    pub fn new() -> Self {
        let folder = Folder::new();
        symlink(of_repository("examples"), folder.path("examples")).unwrap();
        fs::create_dir(folder.path("bin")).unwrap();
        symlink(program::path(), folder.path("bin/imageshare")).unwrap();
        // tests/run has cargo itself run the program; here it is not built again in another way.
        let cargo = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 99\nshift 3\nexec imageshare \"$@\"\n";
        let shell = Self { folder, variables: BTreeMap::new() };
        shell.program("cargo", cargo);
        shell.program("curl", CURL);
        shell
    }

    /// Puts a program on its path.
    pub fn program(&self, name: &str, script: &str) {
        let file = self.folder.file(&format!("bin/{name}"), script);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn env(mut self, name: &'static str, value: String) -> Self {
        self.variables.insert(name, value);
        self
    }

    /// Points the program at a sandbox from now on, with the key that it knows. Another key of the same account, which
    /// is good for an hour, is in `TEMPORARY_KEY`.
    pub fn use_sandbox(&mut self, sandbox: &Sandbox) {
        self.variables.extend([
            ("IMAGESHARE_ENDPOINT", format!("http://{}", sandbox.address)),
            ("TENCENTCLOUD_SECRET_ID", "AKIDSANDBOXEXAMPLE".to_owned()),
            ("TENCENTCLOUD_SECRET_KEY", "sandbox-secret-key-example".to_owned()),
            ("TEMPORARY_KEY", sandbox.temporary_key(3_600).to_string()),
        ]);
    }

    /// Points the program at a virtual host, and `rabbitmqctl` at its node. The name of the virtual host is in `VHOST`.
    pub fn at(self, vhost: &Vhost<'_>) -> Self {
        // It looks for its other files in its own folder, and one of another version than the node may not understand it.
        let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
        let command = broker::command("rabbitmqctl").iter().map(quote).collect::<Vec<_>>().join(" ");
        self.program("rabbitmqctl", &format!("#!/bin/sh\nexec {command} \"$@\"\n"));
        let cookie = self.folder.file(".erlang.cookie", COOKIE);
        fs::set_permissions(cookie, fs::Permissions::from_mode(0o400)).unwrap();
        let home = self.folder.path("").to_str().unwrap().to_owned();
        let names = [("HOME", home), ("IMAGESHARE_BROKER_URL", vhost.url()), ("VHOST", vhost.name.clone())];
        names.into_iter().chain(vhost.node.control()).fold(self, |shell, (name, value)| shell.env(name, value))
    }

    fn broker(&self) -> Amqp {
        Amqp::open(&self.variables["IMAGESHARE_BROKER_URL"])
    }

    /// Runs commands as a person would who types them.
    pub fn run(&self, commands: &str) -> Ended {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path("bin").display());
        let script = format!("cd {:?}\n{commands}", self.folder.path(""));
        let program = Program::of("bash", ["-e", "-o", "pipefail", "-c", &script]).env("PATH", path);
        self.variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    }

    /// Runs the commands of a page one block after the other, and compares exit codes and output with what it shows.
    ///
    /// | block | meaning |
    /// |---|---|
    /// | `sh`, `sh exit=N` | commands, and their exit code where it is not 0 |
    /// | `sh by-hand`, `sh elsewhere=FILE` | commands that are not run here |
    /// | `stdout`, `stderr` | all that the commands before print there |
    /// | `text` | a part of what the commands before print on standard error |
    /// | `sandbox` | starts a fresh sandbox with these flags (`$PWD` is the folder), and points the program at it |
    /// | `faults` | the faults of the sandbox from now on |
    /// | `stats` | what the sandbox counted since it was started |
    /// | `state` | the accounts that each image is shared with in the sandbox |
    /// | `publish QUEUE` | publishes each line that the commands before print: a text, or JSON with `headers` and a `body` |
    /// | `queue NAME` | takes all messages of a queue: the names of the headers and the body of each |
    ///
    /// No command may print a secret key or a control character.
    pub fn follow(&mut self, page: &Page) {
        let (mut sandbox, mut ended) = (None, None);
        for Block { language, mark, text } in &page.blocks {
            match language.as_str() {
                "sandbox" => {
                    let flags = text.replace("$PWD", self.folder.path("").to_str().unwrap());
                    let started = Sandbox::start(&flags.split_whitespace().collect::<Vec<_>>());
                    self.use_sandbox(&started);
                    sandbox = Some(started);
                }
                "faults" => sandbox.as_ref().unwrap().faults(&serde_json::from_str(text).unwrap()),
                "stats" => check_output(&sandbox.as_ref().unwrap().stats().to_string(), text),
                "state" => check_output(&serde_json::json!(sandbox.as_ref().unwrap().state()).to_string(), text),
                "sh" if mark == "by-hand" || mark.starts_with("elsewhere=") => ended = None,
                "sh" => {
                    // Shown when the test fails: the last commands are those that it is about.
                    eprintln!("{}:\n{text}", page.name);
                    let code = if mark.is_empty() { "0" } else { mark.strip_prefix("exit=").unwrap() };
                    let done = self.run(text).check(code.parse().unwrap());
                    for output in [&done.stdout, &done.stderr] {
                        check_plain("the output", output);
                        let has_secret =
                            ["topsecret", "secret-key-example", "horse"].iter().any(|part| output.contains(part));
                        assert!(!has_secret, "{output}");
                    }
                    ended = Some(done);
                }
                "stdout" => check_output(&ended.as_ref().unwrap().stdout, text),
                "stderr" => check_output(&ended.as_ref().unwrap().stderr, text),
                "text" => ended.iter().for_each(|ended| check_printed(&ended.stderr, text)),
                "publish" => {
                    let lines = ended.as_ref().unwrap().stdout.lines();
                    self.broker().publish_to("", mark, lines.map(to_message));
                }
                "queue" => {
                    let messages = self.broker().take_all(mark);
                    check_output(&messages.iter().map(to_line).collect::<String>(), text);
                }
                "csv" | "json" | "toml" => {}
                other => panic!("no block is known as {other:?}"),
            }
        }
    }
}

/// The message of a line.
fn to_message(line: &str) -> (Vec<u8>, BasicProperties) {
    let Ok(Value::Object(message)) = serde_json::from_str(line) else { return (line.into(), properties()) };
    let mut headers = FieldTable::default();
    for (name, value) in message["headers"].as_object().unwrap() {
        headers.insert(name.as_str().into(), text(value.as_str().unwrap()));
    }
    (message["body"].to_string().into_bytes(), properties().with_headers(headers))
}

/// The line of a message.
fn to_line(message: &Message) -> String {
    let names = message.headers.iter().flat_map(|headers| headers.inner().keys());
    let names: String = names.map(|name| format!("{name} ")).collect();
    format!("{names}{}\n", String::from_utf8_lossy(&message.body))
}

/// A block of commands and the one behind it, which is what they print where they print something that is shown.
#[track_caller]
pub fn shown(page: &str, beginning: &str) -> (String, Option<Block>) {
    let mut page = Page::of(page);
    let place = page.find(beginning);
    let is_output = page.blocks.get(place + 1).is_some_and(|next| next.language == "text");
    let output = is_output.then(|| page.blocks.remove(place + 1));
    (page.blocks.remove(place).text, output)
}

/// The lines of a text, without what differs in each run: addresses, the seconds that it took, and the number of requests
/// unless it is the same on each machine.
fn lines(text: &str, are_requests_counted: bool) -> Vec<String> {
    let without = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["seconds", ..] => "seconds".to_owned(),
            ["requests", ..] if !are_requests_counted => "requests".to_owned(),
            // The seconds determine how wide their columns are.
            ["jobs" | "accounts" | "requests", ..] => words.join(" "),
            _ => match line.split_once("127.0.0.1:") {
                Some((before, after)) => {
                    format!("{before}ADDRESS{}", after.trim_start_matches(|sign: char| sign.is_ascii_digit()))
                }
                None => line.trim_end().to_owned(),
            },
        }
    };
    text.lines().map(without).filter(|line| !line.is_empty()).collect()
}

/// What was printed has the lines that the page shows, one after the other.
#[track_caller]
pub fn check_printed(printed: &str, shown: &str) {
    check_output(printed, &format!("...\n{shown}\n..."));
}

/// What was printed is what the page shows, where `[..]` stands for anything in a line and a line of `...` for any number
/// of lines.
#[track_caller]
fn check_output(printed: &str, shown: &str) {
    // A sandbox within the process keeps the limit of 10 requests a second, and a busy machine may bring the requests of two
    // seconds together. An image that is not ready is asked about once a second.
    let are_requests_counted = !printed.contains("working on a sandbox at ") && !printed.contains(" DescribeImages,");
    let (printed_lines, shown_lines) = (lines(printed, are_requests_counted), lines(shown, are_requests_counted));
    if !are_lines(&shown_lines, &printed_lines) {
        let is_beginning =
            |count: usize| are_lines(&[&shown_lines[..count], &["...".to_owned()]].concat(), &printed_lines);
        let agreed = (0..=shown_lines.len()).rev().find(|&count| is_beginning(count)).unwrap_or_default();
        let problem = shown_lines.get(agreed).map_or("more is printed than is shown", String::as_str);
        panic!("shown:\n{shown}\nprinted:\n{printed}\nthe first difference:\n{problem}");
    }
}

fn are_lines(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "..." => (0..=printed.len()).any(|from| are_lines(rest, &printed[from..])),
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(first, others)| is_line(line, first) && are_lines(rest, others))
        }
    }
}

fn is_line(shown: &str, printed: &str) -> bool {
    let Some((before, behind)) = shown.split_once("[..]") else { return shown == printed };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|end| rest.get(end..).is_some_and(|rest| is_line(behind, rest)))
}

/// What a script left running ends with it.
pub const AT_END: &str = "trap 'kill $(jobs -p); wait' EXIT\n";

/// A script with another port in the place of one that may be taken.
pub fn with_port(script: &str, port: &str, free: u16) -> String {
    assert!(script.contains(port), "{script}");
    script.replace(&format!(":{port}"), &format!(":{free}"))
}

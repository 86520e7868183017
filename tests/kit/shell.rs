//! Runs the commands of a Markdown page, and compares their output with what the page shows.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use lapin::{BasicProperties, types::FieldTable};
use serde_json::Value;

use crate::{
    AmqpClient, COOKIE, Folder, Program, ProgramOutput, ReceivedMessage, SandboxProcess, Vhost, broker, check_plain,
    markdown::{CodeBlock, MarkdownPage},
    program, properties, repository_path, text,
};

/// A minimal `curl`, which a machine may lack.
const CURL: &str = r#"#!/bin/bash
url=${1#http://} host=${1#http://} host=${host%%/*}
exec 3<>"/dev/tcp/${host/://}"
printf 'GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n' "${url#*/}" "$host" >&3
sed '1,/^\r$/d' <&3
"#;

/// A shell in a folder like a checkout, with the program in `PATH`.
pub struct Shell {
    pub folder: Folder,
    variables: BTreeMap<&'static str, String>,
}

impl Shell {
    pub fn new() -> Self {
        let folder = Folder::new();
        symlink(repository_path("examples"), folder.path("examples")).unwrap();
        fs::create_dir(folder.path("bin")).unwrap();
        symlink(program::path(), folder.path("bin/imageshare")).unwrap();
        // `cargo run` would build the program again, with another profile.
        let cargo = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 99\nshift 3\nexec imageshare \"$@\"\n";
        let shell = Self { folder, variables: BTreeMap::new() };
        shell.program("cargo", cargo);
        shell.program("curl", CURL);
        shell
    }

    /// Adds a program to `PATH`.
    pub fn program(&self, name: &str, script: &str) {
        let file = self.folder.file(&format!("bin/{name}"), script);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn env(mut self, name: &'static str, value: String) -> Self {
        self.variables.insert(name, value);
        self
    }

    /// Sets the endpoint and key of a sandbox. `TEMPORARY_KEY` is a key of the same account that expires in an hour.
    pub fn use_sandbox(&mut self, sandbox: &SandboxProcess) {
        self.variables.extend([
            ("IMAGESHARE_ENDPOINT", format!("http://{}", sandbox.address)),
            ("TENCENTCLOUD_SECRET_ID", "AKIDSANDBOXEXAMPLE".to_owned()),
            ("TENCENTCLOUD_SECRET_KEY", "sandbox-secret-key-example".to_owned()),
            ("TEMPORARY_KEY", sandbox.temporary_key(3_600).to_string()),
        ]);
    }

    /// Sets the address of a virtual host, and `rabbitmqctl` for its node. `VHOST` is the name of the virtual host.
    pub fn with_vhost(self, vhost: &Vhost<'_>) -> Self {
        // The script must have the version of the node, and finds other files relative to itself.
        let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
        let command = broker::command("rabbitmqctl").iter().map(quote).collect::<Vec<_>>().join(" ");
        self.program("rabbitmqctl", &format!("#!/bin/sh\nexec {command} \"$@\"\n"));
        let cookie = self.folder.file(".erlang.cookie", COOKIE);
        fs::set_permissions(cookie, fs::Permissions::from_mode(0o400)).unwrap();
        let home = self.folder.path("").to_str().unwrap().to_owned();
        let names = [("HOME", home), ("IMAGESHARE_BROKER_URL", vhost.url()), ("VHOST", vhost.name.clone())];
        names.into_iter().chain(vhost.node.rabbitmqctl_env()).fold(self, |shell, (name, value)| shell.env(name, value))
    }

    fn broker(&self) -> AmqpClient {
        AmqpClient::connect(&self.variables["IMAGESHARE_BROKER_URL"])
    }

    /// Runs commands as if they were typed.
    pub fn run(&self, commands: &str) -> ProgramOutput {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path("bin").display());
        let script = format!("cd {:?}\n{commands}", self.folder.path(""));
        let program = Program::external("bash", ["-e", "-o", "pipefail", "-c", &script]).env("PATH", path);
        self.variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    }

    /// Runs the blocks of a page in order, and compares exit codes and output with what the page shows.
    ///
    /// | block | meaning |
    /// |---|---|
    /// | `sh`, `sh exit=N` | commands, and their exit code if it is not 0 |
    /// | `sh by-hand`, `sh elsewhere=FILE` | commands that are not run here |
    /// | `stdout`, `stderr` | the complete output of the commands before |
    /// | `text` | a part of the standard error of the commands before |
    /// | `sandbox` | flags of a new sandbox, which later commands use (`$PWD` is the folder) |
    /// | `faults` | replaces the faults of the sandbox |
    /// | `stats` | the counters of the sandbox |
    /// | `state` | the accounts that each image is shared with in the sandbox |
    /// | `publish QUEUE` | publishes each output line of the commands before: a text, or JSON with `headers` and a `body` |
    /// | `queue NAME` | takes all messages of a queue, and shows header names and body of each |
    ///
    /// No command may print a secret key or a control character.
    pub fn follow(&mut self, page: &MarkdownPage) {
        let (mut sandbox, mut output) = (None, None);
        for CodeBlock { language, attribute, text } in &page.blocks {
            match language.as_str() {
                "sandbox" => {
                    let flags = text.replace("$PWD", self.folder.path("").to_str().unwrap());
                    let started = SandboxProcess::start(&flags.split_whitespace().collect::<Vec<_>>());
                    self.use_sandbox(&started);
                    sandbox = Some(started);
                }
                "faults" => sandbox.as_ref().unwrap().faults(&serde_json::from_str(text).unwrap()),
                "stats" => check_output(&sandbox.as_ref().unwrap().stats().to_string(), text),
                "state" => check_output(&serde_json::json!(sandbox.as_ref().unwrap().state()).to_string(), text),
                "sh" if attribute == "by-hand" || attribute.starts_with("elsewhere=") => output = None,
                "sh" => {
                    // If the test fails, the last commands printed are those that failed.
                    eprintln!("{}:\n{text}", page.name);
                    let code = if attribute.is_empty() { "0" } else { attribute.strip_prefix("exit=").unwrap() };
                    let ended = self.run(text).check(code.parse().unwrap());
                    for text in [&ended.stdout, &ended.stderr] {
                        check_plain("the output", text);
                        let has_secret =
                            ["topsecret", "secret-key-example", "horse"].iter().any(|part| text.contains(part));
                        assert!(!has_secret, "{text}");
                    }
                    output = Some(ended);
                }
                "stdout" => check_output(&output.as_ref().unwrap().stdout, text),
                "stderr" => check_output(&output.as_ref().unwrap().stderr, text),
                "text" => output.iter().for_each(|output: &ProgramOutput| check_output_contains(&output.stderr, text)),
                "publish" => {
                    let lines = output.as_ref().unwrap().stdout.lines();
                    self.broker().publish_to("", attribute, lines.map(to_message));
                }
                "queue" => {
                    let messages = self.broker().take_all(attribute);
                    check_output(&messages.iter().map(to_line).collect::<String>(), text);
                }
                "csv" | "hcl" | "json" | "python" | "toml" | "yaml" => {}
                other => panic!("unknown block {other:?}"),
            }
        }
    }
}

/// Converts a line of a page to a message.
fn to_message(line: &str) -> (Vec<u8>, BasicProperties) {
    let Ok(Value::Object(message)) = serde_json::from_str(line) else { return (line.into(), properties()) };
    let mut headers = FieldTable::default();
    for (name, value) in message["headers"].as_object().unwrap() {
        headers.insert(name.as_str().into(), text(value.as_str().unwrap()));
    }
    (message["body"].to_string().into_bytes(), properties().with_headers(headers))
}

/// Converts a message to a line of a page.
fn to_line(message: &ReceivedMessage) -> String {
    let names = message.headers.iter().flat_map(|headers| headers.inner().keys());
    let names: String = names.map(|name| format!("{name} ")).collect();
    format!("{names}{}\n", String::from_utf8_lossy(&message.body))
}

/// Returns a block of commands, by its prefix, and the block of their output if it follows.
#[track_caller]
pub fn commands_and_output(page: &str, prefix: &str) -> (String, Option<CodeBlock>) {
    let mut page = MarkdownPage::read(page);
    let index = page.find(prefix);
    let is_output = page.blocks.get(index + 1).is_some_and(|next| next.language == "text");
    let output = is_output.then(|| page.blocks.remove(index + 1));
    (page.blocks.remove(index).text, output)
}

/// Returns the lines of a text without the values that differ between runs: addresses, durations, and the number of requests
/// unless it is deterministic.
fn lines(text: &str, are_requests_counted: bool) -> Vec<String> {
    let without = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["seconds", ..] => "seconds".to_owned(),
            ["requests", ..] if !are_requests_counted => "requests".to_owned(),
            // The width of the columns depends on the duration.
            ["jobs" | "accounts" | "requests", ..] => words.join(" "),
            // The duration depends on the latency of this machine.
            ["nothing", "was", "changed:", ..] if line.contains(" in about 0.") => words[..words.len() - 2].join(" "),
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

/// Asserts that the output contains the shown lines, one after the other.
#[track_caller]
pub fn check_output_contains(printed: &str, shown: &str) {
    check_output(printed, &format!("...\n{shown}\n..."));
}

/// Asserts that the output is as shown. `[..]` matches anything within a line, and a line of `...` any number of lines.
#[track_caller]
fn check_output(printed: &str, shown: &str) {
    // The sandbox within the process enforces 10 requests per second, and on a busy machine requests of two seconds may
    // arrive together. An image that is not ready is polled once a second.
    let are_requests_counted = !printed.contains("using a sandbox at ") && !printed.contains(" DescribeImages,");
    let (printed_lines, shown_lines) = (lines(printed, are_requests_counted), lines(shown, are_requests_counted));
    if !lines_match(&shown_lines, &printed_lines) {
        let is_beginning =
            |count: usize| lines_match(&[&shown_lines[..count], &["...".to_owned()]].concat(), &printed_lines);
        let agreed = (0..=shown_lines.len()).rev().find(|&count| is_beginning(count)).unwrap_or_default();
        let problem = shown_lines.get(agreed).map_or("additional output", String::as_str);
        panic!("shown:\n{shown}\nprinted:\n{printed}\nfirst difference:\n{problem}");
    }
}

fn lines_match(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "..." => (0..=printed.len()).any(|from| lines_match(rest, &printed[from..])),
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others))
        }
    }
}

fn line_matches(shown: &str, printed: &str) -> bool {
    let Some((before, behind)) = shown.split_once("[..]") else { return shown == printed };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|end| rest.get(end..).is_some_and(|rest| line_matches(behind, rest)))
}

/// Ends the background jobs of a script when it exits.
pub const KILL_JOBS_AT_EXIT: &str = "trap 'kill $(jobs -p); wait' EXIT\n";

/// Replaces a port in a script by a free one.
pub fn with_port(script: &str, port: &str, free: u16) -> String {
    assert!(script.contains(port), "{script}");
    script.replace(&format!(":{port}"), &format!(":{free}"))
}

//! Secrets must not leave the process by core dumps, output, or arguments.

use std::{fs, os::unix::fs::MetadataExt as _};

use kit::{Folder, Program, ProgramOutput, free_port, repository_files, repository_path, wait_until};

use crate::{
    documentation::{flags, helps},
    run_concurrently,
};

/// Arguments of a shell that runs a program with core dumps enabled.
const ENABLE_DUMPS: [&str; 2] = ["-c", "cd \"$0\" && ulimit -c unlimited && exec \"$@\""];

#[test]
fn process_dumps_no_core_and_hides_its_environment() {
    let folder = Folder::new();
    let place = folder.path(".");
    let shell = || Program::external("sh", ENABLE_DUMPS).arg(&place);
    // Without a broker the worker retries for ever.
    let url = format!("amqp://guest:topsecret@127.0.0.1:{}", free_port());
    let program = shell().arg(kit::program::path()).args(["worker", "--log", "debug"]);
    let (running, _stdout) = program.key("AKIDEXAMPLE", "topsecret").env("IMAGESHARE_BROKER_URL", url).start();
    wait_until("the program starts", || running.stderr().contains("starting").then_some(()));
    let environment = fs::metadata(format!("/proc/{}/environ", running.id())).unwrap();
    assert_eq!(environment.uid(), 0, "the environment is readable by root only");
    running.signal("ABRT");
    assert!(!running.dumped_core());
    // Another program shows that the machine dumps cores.
    let (other, _stdout) = shell().args(["sleep", "1000"]).start();
    let is_ours = || fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap() == "sleep\n";
    wait_until("the program starts", || is_ours().then_some(()));
    let environment = fs::metadata(format!("/proc/{}/environ", other.id())).unwrap();
    other.signal("ABRT");
    assert!(
        other.dumped_core() || environment.uid() != 0,
        "the check is void: run the test as a user, or enable core dumps"
    );
}

/// Malformed broker addresses, most with an unescaped password. Parts of the password are `top`, `tops` and `ecret`.
const ADDRESSES: [&str; 22] = [
    "amqp://usr:tops/ecret@127.0.0.1",
    "amqp://usr:12/topsecret@127.0.0.1",
    "amqp://usr:7/topsecret@127.0.0.1:1",
    "amqp://usr:5672/topsecret@127.0.0.1/",
    "amqp://usr:12@topsecret/x@127.0.0.1",
    "amqp://usr:topsecret%zz@127.0.0.1/",
    "amqp://usr:top@secret@127.0.0.1:1/v",
    "amqp://usr:top:secret@127.0.0.1:1",
    "amqp://usr:topsecret?x@127.0.0.1",
    "amqp://usr:topsecret#@127.0.0.1",
    "amqp:usr:topsecret@127.0.0.1",
    "amqp//usr:topsecret@127.0.0.1",
    "usr:topsecret@127.0.0.1",
    "topsecret@127.0.0.1",
    "amqp://topsecret@127.0.0.1:1",
    "amqp://usr:topsecret@",
    "amqp://usr:topsecret@host name",
    "amqp://usr:topsecret@127.0.0.1:99999",
    "http://usr:topsecret@127.0.0.1",
    "amqps://usr:topsecret@127.0.0.1:1",
    "amqp://usr:topsecret\n@127.0.0.1",
    "amqp://usr:topsecret@127.0.0.1/vh/ost",
];

#[track_caller]
fn check_hidden(secret: &str, output: &str) {
    let parts = ["topsecret", "tops", "top@", "top:", "top%", "/ecret", "secret@", "ecret%"];
    assert!(!parts.iter().any(|part| output.contains(part)), "with {secret}:\n{output}");
}

#[track_caller]
fn check_output(secret: &str, output: &ProgramOutput) {
    check_hidden(secret, &output.stdout);
    check_hidden(secret, &output.stderr);
}

#[test]
fn no_part_of_password_is_shown() {
    // These values must not contain a part of the password.
    let program = |command: &str| {
        let program = Program::new(command.split(' ')).key("AKIDEXAMPLE", "k").env("IMAGESHARE_GIVE_UP_AFTER", "100ms");
        program.env("IMAGESHARE_ENDPOINT", "http://127.0.0.1:1")
    };
    run_concurrently(&ADDRESSES, |address| {
        let folder = Folder::new();
        let file = folder.file("url", address);
        let settings = folder.file("s.toml", format!("[broker]\nurl_file = '{}'\n", file.display()));
        let in_place_of_its_file = folder.file("t.toml", format!("[broker]\nurl_file = {address:?}\n"));
        for command in ["check", "check --connect", "topology --declare", "dead list", "publish -"] {
            check_output(address, &program(command).env("IMAGESHARE_BROKER_URL", address).run());
            check_output(address, &program(command).arg("--config").arg(&settings).run());
            check_output(address, &program(command).arg("--config").arg(&in_place_of_its_file).run());
        }
        // A worker logs each attempt.
        let (running, _stdout) = program("worker --log trace").env("IMAGESHARE_BROKER_URL", address).start();
        wait_until("the worker has tried to connect, or refuses the address", || {
            let log = running.stderr();
            (log.contains("out of reach") || log.contains("(expected amqp://")).then_some(())
        });
        check_hidden(address, &running.stderr());
        running.kill();
    });
}

/// Secrets where another value is expected.
const MISPLACED: [&str; 5] = [
    "amqp://usr:12/topsecret@127.0.0.1",
    "usr:topsecret@127.0.0.1",
    "-----BEGIN PRIVATE KEY-----\ntopsecret\n",
    "{\"secret_key\": \"topsecret\"}",
    "Gu5t9xGARNpq86cd98joQYCN3topsecret",
];

#[test]
fn misplaced_secrets_are_not_shown() {
    let url = "amqp://127.0.0.1:1";
    let variables = "IMAGESHARE_CONFIG IMAGESHARE_ENDPOINT IMAGESHARE_RATE IMAGESHARE_LANE IMAGESHARE_ADMIN \
        IMAGESHARE_GRACE IMAGESHARE_LOG TENCENTCLOUD_CREDENTIALS_FILE TENCENTCLOUD_REGION HTTPS_PROXY SSL_CERT_FILE";
    let commands = [
        "check --config",
        "check --endpoint",
        "check",
        "",
        "publish",
        "run --sandbox",
        "sandbox --world",
        "sandbox --faults",
        "list --image",
        "share --region ap-singapore --image img-6pb6lrmy --account",
        "share --region ap-singapore --image img-6pb6lrmy --sandbox --accounts-file",
    ];
    for secret in MISPLACED {
        for variable in variables.split_whitespace() {
            let program = Program::new(["worker"]).env("IMAGESHARE_BROKER_URL", url).env(variable, secret);
            check_output(secret, &program.terminated_after(1).run());
        }
        for command in commands {
            let program = Program::new(command.split_whitespace()).arg(secret).env("IMAGESHARE_BROKER_URL", url);
            let ended = program.run();
            assert!(ended.code.is_some_and(|code| code > 0), "{command}");
            check_output(secret, &ended);
        }
    }
}

#[test]
fn only_token_flag_takes_secret() {
    // clap could print the values of variables by itself.
    let with_secrets = |program: Program| {
        let program = program.key("AKIDEXAMPLE", "topsecret").env("TENCENTCLOUD_TOKEN", "topsecret");
        program.env("IMAGESHARE_BROKER_URL", "topsecret")
    };
    let mut secret_flags: Vec<String> = Vec::new();
    for (_, help) in helps(with_secrets) {
        assert!(!help.contains("topsecret"), "{help}");
        let is_secret = |name: &String| {
            ["key", "secret", "token", "password", "url", "credential"].iter().any(|word| name.contains(word))
        };
        secret_flags.extend(flags(&help).into_iter().filter(is_secret));
    }
    assert_eq!(secret_flags, ["--token"]);
}

#[test]
fn no_code_of_program_starts_process() {
    for folder in ["bin/", "crates/core/src/", "crates/engine/src/", "crates/worker/src/", "crates/sandbox/src/"] {
        let files = repository_files(folder, ".rs");
        assert!(!files.is_empty(), "{folder} has no files");
        for name in files {
            let code = fs::read_to_string(repository_path(&name)).unwrap();
            for pattern in ["process::Command", "Command::new(", "process::{Command"] {
                assert!(!code.contains(pattern), "{name} has {pattern}");
            }
        }
    }
}

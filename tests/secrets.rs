//! Keys in the memory of a process, and ways by which one could leave it.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::kit::{Folder, Program, files_of_repository, flags, free_port, helps, of_repository, until};

/// What stands before a program, so that the system may make a core dump of it.
const LET_DUMP: [&str; 2] = ["-c", "cd \"$0\" && ulimit -c unlimited && exec \"$@\""];

#[test]
fn no_core_dump_is_made_of_a_process_that_holds_keys_and_nobody_but_root_reads_its_environment() {
    let folder = Folder::new();
    let place = folder.path(".");
    let shell = || Program::of("sh", LET_DUMP).arg(&place);
    // Without a broker it tries again and again.
    let url = format!("amqp://guest:topsecret@127.0.0.1:{}", free_port());
    let program = shell().arg(env!("CARGO_BIN_EXE_imageshare")).args(["worker", "--log", "debug"]);
    let (running, _stdout) = program.key("AKIDEXAMPLE", "topsecret").env("IMAGESHARE_BROKER_URL", url).start();
    until("it has begun", || running.said().contains("starting").then_some(()));
    let environment = fs::metadata(format!("/proc/{}/environ", running.id())).unwrap();
    assert_eq!(environment.uid(), 0, "it is root's");
    running.signal("ABRT");
    assert!(!running.dumped_core());
    // That one would have been made, where the test may say so, is shown by another program.
    let (other, _stdout) = shell().args(["sleep", "1000"]).start();
    let is_ours = || fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap() == "sleep\n";
    until("it has begun", || is_ours().then_some(()));
    let environment = fs::metadata(format!("/proc/{}/environ", other.id())).unwrap();
    other.signal("ABRT");
    assert!(
        other.dumped_core() || environment.uid() != 0,
        "nothing is shown here: run it as a user, or let cores be made"
    );
}

#[test]
fn no_flag_takes_a_secret_but_the_token_whose_signature_is_looked_at() {
    // Of all that can be shown, an environment is what clap shows by itself.
    let with_secrets = |program: Program| {
        let program = program.key("AKIDEXAMPLE", "topsecret").env("TENCENTCLOUD_TOKEN", "topsecret");
        program.env("IMAGESHARE_BROKER_URL", "topsecret")
    };
    let mut found: Vec<String> = Vec::new();
    for (_, help) in helps(with_secrets) {
        assert!(!help.contains("topsecret"), "{help}");
        let is_secret = |name: &String| {
            ["key", "secret", "token", "password", "url", "credential"].iter().any(|word| name.contains(word))
        };
        found.extend(flags(&help).into_iter().filter(is_secret));
    }
    assert_eq!(found, ["--token"]);
}

#[test]
fn nothing_of_ours_starts_a_process() {
    for room in ["bin/", "crates/core/src/", "crates/engine/src/", "crates/worker/src/", "crates/sandbox/src/"] {
        let files = files_of_repository(room, ".rs");
        assert!(!files.is_empty(), "{room} has files");
        for name in files {
            let code = fs::read_to_string(of_repository(&name)).unwrap();
            for way in ["process::Command", "Command::new(", "process::{Command"] {
                assert!(!code.contains(way), "{name} has {way}");
            }
        }
    }
}

//! Command behavior that a transcript cannot show: the exit of a sandbox, output that depends on the version, and many jobs
//! at the API's rate limit.

use std::{fmt::Write as _, fs, time::Instant};

use serde_json::{Value, json};

use kit::{Folder, Program, SandboxProcess, job};

#[test]
fn schemas_completions_and_version_are_printed() {
    for (name, member) in [("job", "account_ids"), ("report", "changed"), ("world", "images"), ("faults", "script")] {
        let ended = Program::new(["schema", name]).run().check(0);
        let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(schema["properties"][member].is_object(), "{schema}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let ended = Program::new(["completions", shell]).run().check(0);
        assert!(ended.stdout.contains("imageshare"), "{shell}");
    }
    let version = Program::new(["--version"]).run().check(0).stdout;
    assert_eq!(version, format!("imageshare {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn state_file_is_loaded_and_saved_at_end() {
    let folder = Folder::new();
    let file = folder.path("state.json").to_str().unwrap().to_owned();
    let share = |sandbox: &SandboxProcess, account: &str| {
        let image = ["--image", "img-6pb6lrmy", "--region", "ap-singapore", "--account", account];
        sandbox.program("share").args(image).run().check(0);
    };
    let first = SandboxProcess::start(&["--state", &file]);
    share(&first, "100000000001");
    assert_eq!(first.interrupt(), Some(0));
    let saved = fs::read(&file).unwrap();
    let second = SandboxProcess::start(&["--state", &file]);
    assert_eq!(fs::read(&file).unwrap(), saved);
    share(&second, "100000000002");
    assert_eq!(second.shared("img-6pb6lrmy"), [100_000_000_001, 100_000_000_002].into());
    drop(second);
    // It was killed, so nothing was saved, and no draft of the file is left.
    assert_eq!(fs::read(&file).unwrap(), saved);
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);
}

#[test]
fn sandbox_tls_needs_its_own_authority() {
    let folder = Folder::new();
    let authority = folder.path("ca.pem").to_str().unwrap().to_owned();
    let sandbox = SandboxProcess::start(&["--tls", "--tls-ca", &authority]);
    let share = || {
        Program::new(["share", "--give-up-after", "1", "--endpoint", &format!("https://{}", sandbox.address)])
            .args(["--image", "img-6pb6lrmy", "--region", "ap-singapore", "--account", "100000000001"])
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    };
    let report = share().env("SSL_CERT_FILE", &authority).run().check(0).report("share");
    assert_eq!(report["changed"], json!(["100000000001"]));
    let share_with_ca = |ca_file: &str| {
        share().arg("--config").arg(folder.file("settings.toml", format!("[http]\nca_file = {ca_file:?}\n"))).run()
    };
    share_with_ca(&authority).check(0);
    let invalid = share_with_ca(folder.file("client.key", "topsecret").to_str().unwrap()).check(2);
    let words = ": no certificate (expected at least one certificate in PEM)";
    assert!(invalid.stderr.contains(words) && !invalid.stderr.contains("topsecret"), "{}", invalid.stderr);
    let refused = share().run().check(4);
    assert!(refused.stderr.contains("no trusted connection to the endpoint"), "{}", refused.stderr);
    assert_eq!(sandbox.interrupt(), Some(0));
}

/// The manual has the command for the full size, with its duration.
#[test]
fn many_jobs_use_fewest_requests_within_limit() {
    const IMAGES: u64 = 6;
    const ACCOUNTS: u64 = 250;
    const WRITES_MIN: u64 = IMAGES * ACCOUNTS.div_ceil(50);

    let sandbox = SandboxProcess::start(&["--rps", "0", "--latency", "80ms"]);
    let mut jobs = String::new();
    for account in 0..ACCOUNTS {
        for image in 0..IMAGES {
            let id = 100_000_000_000 + image * 1000 + account;
            write!(jobs, "{}", job(&format!("img-golden{image:02}"), "SHARE", [id])).unwrap();
        }
    }
    let folder = Folder::new();
    let begun = Instant::now();
    let ended = sandbox.program("run").arg(folder.file("jobs.ndjson", jobs)).run().check(0);
    assert_eq!(ended.json().len() as u64, IMAGES * ACCOUNTS);

    let stats = sandbox.stats();
    let number = |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let writes = number("/by_action/ModifyImageSharePermission");
    assert!(writes >= WRITES_MIN && writes * 10 <= WRITES_MIN * 11, "{writes} writes: {stats}");
    // The limit holds by the worker's clock. On a busy machine the writes of two seconds may arrive together.
    let seconds = begun.elapsed().as_secs_f64();
    assert!(writes as f64 <= 10.0 * seconds + 1.0, "{writes} writes in {seconds} s");
    assert_eq!(number("/max_writes_in_flight"), 1, "{stats}");
    assert_eq!(number("/repeated_accounts"), 0, "{stats}");
    for (image, accounts) in sandbox.state() {
        assert_eq!(accounts.len() as u64, ACCOUNTS, "{image}");
    }
}

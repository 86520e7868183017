//! What a transcript cannot show of commands: the end of a sandbox, and text that is another one in each version.

use std::path::Path;

use serde_json::{Value, json};

use kit::{Program, Sandbox};

#[test]
fn schemas_completions_and_version_are_printed() {
    for name in ["job", "report"] {
        let ended = Program::new(["schema", name]).run().check(0);
        let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(schema["properties"]["account_ids"].is_object() == (name == "job"), "{schema}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let ended = Program::new(["completions", shell]).run().check(0);
        assert!(ended.stdout.contains("imageshare"), "{shell}");
    }
    let version = Program::new(["--version"]).run().check(0).stdout;
    assert_eq!(version, format!("imageshare {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn sandbox_with_tls_is_trusted_by_its_authority_only() {
    let sandbox = Sandbox::start(&["--tls"]);
    let authority = sandbox.until_said("clients are to trust ");
    let share = || {
        Program::new(["share", "--give-up-after", "1", "--endpoint", &format!("https://{}", sandbox.address)])
            .args(["--image", "img-6pb6lrmy", "--region", "ap-singapore", "--account", "100000000001"])
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    };
    let report = share().env("SSL_CERT_FILE", &authority).run().check(0).report("share");
    assert_eq!(report["changed"], json!(["100000000001"]));
    let refused = share().run().check(4);
    assert!(refused.stderr.contains("no trusted connection to the endpoint"), "{}", refused.stderr);
    assert_eq!(sandbox.interrupt(), Some(0));
    assert!(!Path::new(&authority).exists(), "the certificate is removed at the end of the sandbox");
}

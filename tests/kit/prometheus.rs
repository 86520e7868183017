//! A Prometheus of the tests' own, which scrapes a worker every second and evaluates the rules of `deploy/`.

use std::{
    env,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use crate::{Folder, broker::free_port, http, keeper::Keeper, of_repository, until};

/// A server. It ends with its handle.
pub struct Prometheus {
    address: String,
    // It goes first, and ends what has files in the folder.
    _keeper: Keeper,
    _folder: Folder,
}

impl Prometheus {
    /// A server that scrapes this address.
    pub fn scraping(target: &str) -> Self {
        let folder = Folder::new();
        let rules = |name: &str| of_repository(&format!("deploy/prometheus/{name}")).display().to_string();
        let config = folder.file(
            "prometheus.yml",
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}', '{}']\n\
                 scrape_configs: [{{job_name: imageshare, static_configs: [{{targets: ['{target}']}}]}}]\n",
                rules("recording.yml"),
                rules("alerts.yml")
            ),
        );
        let address = format!("127.0.0.1:{}", free_port());
        let keeper = Keeper::new(None);
        let mut server = Command::new("prometheus");
        server
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        keeper.keep(&mut server);
        let started = server.spawn();
        assert!(started.is_ok(), "prometheus is not here; tests/deploy installs the package prometheus");
        until("prometheus serves", || http::try_get(&address, "/-/ready").filter(|answer| answer.code == 200));
        Self { address, _keeper: keeper, _folder: folder }
    }

    /// The value of an expression that brings one, or of none 0.
    #[track_caller]
    pub fn value(&self, expression: &str) -> f64 {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = http::get(&self.address, &format!("/api/v1/query?query={encoded}")).json();
        let found = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        assert!(found.len() <= 1, "{expression}: {answer}");
        found.first().and_then(|one| one["value"][1].as_str()).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Asks every expression of every dashboard and rule, as the repository's own tool does.
    pub fn prove(&self) -> Output {
        let python = env::var_os("TEST_PYTHON").expect("TEST_PYTHON is set by tests/deploy, which runs this test");
        Command::new(python)
            .arg("-B")
            .arg(of_repository("deploy/grafana/tools/prove.py"))
            .args(["--api", &format!("http://{}", self.address), "--rate-interval", "5s", "--range", "5m"])
            .output()
            .unwrap()
    }
}

/// What `promtool check metrics` says of a text; nothing if all is well.
#[track_caller]
pub fn lint(metrics: &str) -> String {
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = tool.spawn().expect("promtool is not here; tests/deploy installs the package prometheus");
    tool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = tool.wait_with_output().unwrap();
    let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(status.success() || !said.is_empty(), "{status}");
    said
}

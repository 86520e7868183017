//! The manual tells the truth: what it names exists, what exists is named, and what it shows happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use serde_json::Value;

use crate::kit::{
    COOKIE, Ended, Folder, Node, Program, Sandbox, Vhost, flags, free_port, helps, json_lines, of_repository,
    pages::{Block, Page},
    until,
};

/// The blocks of commands that are run here: the page and how the block begins.
const RUN_HERE: &[(&str, &str)] = &[
    ("README.md", "cargo run --release -- run examples/jobs.ndjson"),
    ("README.md", "cargo run --release -- run examples/trouble.ndjson"),
    ("README.md", "imageshare list"),
    ("README.md", "imageshare sandbox"),
    ("docs/jobs.md", "imageshare run examples/bad.ndjson"),
    ("docs/jobs.md", "imageshare run examples/bad.csv"),
    ("docs/jobs.md", "imageshare check --config examples/bad.toml"),
    ("docs/jobs.md", "imageshare sandbox"),
    ("docs/jobs.md", "awk"),
    ("docs/jobs.md", "imageshare topology"),
    ("docs/operations.md", "sed -i"),
    ("docs/operations.md", "rabbitmqctl"),
];

/// Those that are run elsewhere: the page, how the block begins, who runs it, and the words of that.
const RUN_ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    ("README.md", "tests/run", ".ci/run", "tests/run"),
    ("README.md", "cargo install --locked --path .", "tests/run", "cargo install --quiet --locked --debug --path ."),
    ("CONTRIBUTING.md", "tests/run", ".ci/run", "tests/run"),
    ("CONTRIBUTING.md", "cargo deny check", "tests/run", "cargo-deny\" check bans licenses sources"),
    // Without Docker, as the page says.
    ("deploy/compose/README.md", "docker compose", "tests/run", "tests/compose"),
    ("docs/operations.md", "kubectl create namespace", "tests/tools/kubernetes.py", "\"example\""),
    ("docs/operations.md", "install -m 600", "tests/package", "^install -m 600"),
    ("docs/releasing.md", "python3 -m venv target/sbom", "tests/sbom", "make.py"),
    ("examples/publishers/README.md", "export", "tests/publishers.rs", "[IMAGE, \"ap-singapore\", \"SHARE\""),
    ("fuzz/README.md", "fuzz/run", "tests/run", "fuzz/run --seconds"),
];

/// Those that are run by hand, since they take minutes and more, change the checkout, or need what is not here.
const BY_HAND: &[(&str, &str)] = &[
    ("CONTRIBUTING.md", "cargo test -p imageshare-engine"),
    ("benches/README.md", "cargo bench --bench broker"),
    ("benches/README.md", "cargo bench --package imageshare-core --bench parse"),
    ("benches/README.md", "cargo bench --package imageshare-core --bench sign"),
    ("benches/README.md", "cargo bench --package imageshare-simulation"),
    ("benches/README.md", "cargo bench --package imageshare-worker"),
    ("deploy/compose/README.md", "alias compose"),
    ("fuzz/README.md", "cp Cargo.lock fuzz/Cargo.lock"),
    ("fuzz/README.md", "target/fuzz/HOST/release/TARGET -merge=1"),
];

/// The key that the sandbox knows.
const KEY: [(&str, &str); 2] =
    [("TENCENTCLOUD_SECRET_ID", "AKIDSANDBOXEXAMPLE"), ("TENCENTCLOUD_SECRET_KEY", "sandbox-secret-key-example")];

/// A folder like a checkout, with the program on the path.
struct Shell {
    folder: Folder,
    variables: Vec<(&'static str, String)>,
}

impl Shell {
    fn new() -> Self {
        let folder = Folder::new();
        symlink(of_repository("examples"), folder.path("examples")).unwrap();
        fs::create_dir(folder.path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_imageshare"), folder.path("bin/imageshare")).unwrap();
        // tests/run has cargo itself run the program; here it is not built again in another way.
        let cargo = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 99\nshift 3\nexec imageshare \"$@\"\n";
        let shell = Self { folder, variables: Vec::new() };
        shell.program("cargo", cargo);
        shell
    }

    /// Puts a program on its path.
    fn program(&self, name: &str, script: &str) {
        let file = self.folder.file(&format!("bin/{name}"), script);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn env(mut self, name: &'static str, value: String) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Runs commands as a person would who types them.
    fn run(&self, commands: &str) -> Ended {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path("bin").display());
        let script = format!("cd {:?}\n{commands}", self.folder.path(""));
        let program = Program::of("bash", ["-e", "-o", "pipefail", "-c", &script]).env("PATH", path);
        self.variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    }
}

/// A block of commands and the one behind it, which is what they print where they print something that is shown.
#[track_caller]
fn shown(page: &str, beginning: &str) -> (String, Option<Block>) {
    assert!(RUN_HERE.contains(&(page, beginning)), "{page}, {beginning} is to be in the list of what is run here");
    let mut page = Page::of(page);
    let place = page.find(beginning);
    let is_output = page.blocks.get(place + 1).is_some_and(|next| next.language == "text");
    let output = is_output.then(|| page.blocks.remove(place + 1));
    (page.blocks.remove(place).text, output)
}

/// The lines of a text, without what is another one each time: addresses, the seconds that it took.
fn lines(text: &str) -> Vec<String> {
    let without = |line: &str| {
        let line = line.trim_end();
        if line.starts_with("seconds ") {
            return "seconds".to_owned();
        }
        // An image that is not ready is looked at once more each second.
        if line.starts_with("requests ") && line.contains(" DescribeImages,") {
            let kinds = line.split(", ").filter(|kind| !kind.ends_with(" DescribeImages"));
            return kinds.filter_map(|kind| kind.rsplit("  ").next()).map(str::trim).collect::<Vec<_>>().join(", ");
        }
        match line.split_once("127.0.0.1:") {
            Some((before, after)) => {
                format!("{before}ADDRESS{}", after.trim_start_matches(|sign: char| sign.is_ascii_digit()))
            }
            None => line.to_owned(),
        }
    };
    text.lines().map(without).filter(|line| !line.is_empty()).collect()
}

/// What was printed has the lines that the page shows, one after the other.
#[track_caller]
fn check_printed(printed: &str, page: &str) {
    let (printed_lines, page) = (lines(printed), lines(page));
    let found = printed_lines.windows(page.len()).any(|window| window == page);
    assert!(found, "the page shows\n{}\n\nand what is printed is\n{printed}", page.join("\n"));
}

/// Runs a block that needs nothing, and compares what it says to people.
#[track_caller]
fn check_shown(page: &str, beginning: &str, code: i32) {
    let (commands, output) = shown(page, beginning);
    let ended = Shell::new().run(&commands).check(code);
    check_printed(&ended.stderr, &output.unwrap().text);
}

#[test]
fn the_first_run_of_the_readme_prints_what_is_shown() {
    check_shown("README.md", "cargo run --release -- run examples/jobs.ndjson", 0);
}

#[test]
fn the_trouble_of_the_readme_is_printed_as_it_is_shown() {
    check_shown("README.md", "cargo run --release -- run examples/trouble.ndjson", 1);
}

#[test]
fn what_is_rejected_is_said_as_it_is_shown() {
    check_shown("docs/jobs.md", "imageshare run examples/bad.ndjson", 1);
    check_shown("docs/jobs.md", "imageshare run examples/bad.csv", 1);
    check_shown("docs/jobs.md", "imageshare check --config examples/bad.toml", 2);
}

/// A sandbox with the world of the examples, and a shell that finds it.
fn with_sandbox() -> (Sandbox, Shell) {
    let world = of_repository("examples/world.toml");
    let sandbox = Sandbox::start(&["--world", world.to_str().unwrap()]);
    let shell = Shell::new().env("IMAGESHARE_ENDPOINT", format!("http://{}", sandbox.address));
    let shell = KEY.iter().fold(shell, |shell, &(name, value)| shell.env(name, value.to_owned()));
    (sandbox, shell)
}

#[test]
fn the_commands_for_one_image_print_what_is_shown() {
    let (sandbox, shell) = with_sandbox();
    let (commands, output) = shown("README.md", "imageshare list");
    let ended = shell.run(&commands).check(0);
    check_printed(&ended.stderr, &output.unwrap().text);
    let accounts = fs::read_to_string(of_repository("examples/accounts.txt")).unwrap();
    let accounts = accounts.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let left: BTreeSet<u64> = accounts.filter(|account| *account != 1_038_493_875).collect();
    assert_eq!(sandbox.shared("img-6pb6lrmy"), left);
}

/// JSON without what is another one each time.
fn without_circumstances(json: &str) -> Value {
    let mut value: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let circumstances = ["received_at", "finished_at", "shared_at", "request_id", "worker"];
    let circumstance = |(name, value): (&String, &mut Value)| {
        if circumstances.contains(&name.as_str()) {
            assert!(value.is_string(), "{name}: {value}");
            *value = Value::Null;
        }
    };
    value.as_object_mut().unwrap().iter_mut().for_each(circumstance);
    for failed in value.get_mut("failed").and_then(Value::as_array_mut).into_iter().flatten() {
        failed.as_object_mut().unwrap().iter_mut().for_each(circumstance);
    }
    value
}

#[test]
fn the_readmes_job_gives_the_report_that_it_shows_as_json_and_as_csv() {
    let page = Page::of("README.md");
    let report = without_circumstances(&page.blocks[page.find("{\"job_id\":\"line-1\"")].text);
    let csv = &page.blocks[page.find("image_id,region")].text;
    let json = &page.blocks[page.find("{\"image_id\"")].text;
    for (input, first_line) in [(json, "line-1"), (csv, "line-2")] {
        let (_sandbox, shell) = with_sandbox();
        let share = "imageshare share -q --image img-6pb6lrmy --region ap-singapore --account 100022975249 >before\n";
        let ended = shell.run(&format!("{share}imageshare run - <<'END'\n{input}END\n")).check(0);
        let mut expected = report.clone();
        expected["job_id"] = first_line.into();
        assert_eq!(without_circumstances(&ended.stdout), expected);
    }
}

#[test]
fn jobs_reports_and_lines_of_the_reference_are_as_shown() {
    let page = Page::of("docs/jobs.md");
    let (_sandbox, shell) = with_sandbox();
    let ended = |commands: &str, code| shell.run(commands).check(code).stdout;
    // Both spellings of a job, and CSV with two images.
    for beginning in ["{\"job_id\": \"rel", "{\"ImageId\"", "image_id,region"] {
        let input = &page.blocks[page.find(beginning)].text;
        let reports = ended(&format!("imageshare run - <<'END'\n{input}END\n"), 0);
        assert!(reports.lines().count() >= 1 && reports.contains("\"succeeded\""), "{reports}");
    }
    let listed =
        &page.blocks[page.find("{\"image_id\":\"img-6pb6lrmy\",\"region\":\"ap-singapore\",\"account_id\"")].text;
    let list = ended("imageshare list --image img-6pb6lrmy --region ap-singapore", 0);
    let lines: Vec<Value> = list.lines().map(without_circumstances).collect();
    assert!(lines.contains(&without_circumstances(listed)), "{list}");

    let (_sandbox, shell) = with_sandbox();
    let ended = |commands: &str, code| shell.run(commands).check(code).stdout;
    let flags = "--image img-6pb6lrmy --region ap-singapore --account 1038493875 --account 100022975249";
    let planned = &page.blocks[page.find("{\"image_id\":\"img-6pb6lrmy\",\"region\":\"ap-singapore\",\"lane\"")].text;
    let plan = ended(&format!("imageshare share {flags} --dry-run"), 0);
    assert_eq!(without_circumstances(&plan), without_circumstances(planned));

    let report = &page.blocks[page.find("{\"job_id\":\"one-of-each\"")].text;
    let job = r#"{"job_id":"one-of-each","image_id":"img-6pb6lrmy","region":"ap-singapore","permission":"SHARE",
        "account_ids":["1038493875","100022975249","100000000404","1038493875"],"labels":{"release":"2026.11"}}"#;
    let job = job.replace('\n', "");
    let shared = "imageshare share -q --image img-6pb6lrmy --region ap-singapore --account 1038493875 >before";
    let reported = ended(&format!("{shared}\nimageshare run - <<'END'\n{job}\nEND\n"), 1);
    assert_eq!(without_circumstances(&reported), without_circumstances(report));
}

#[test]
fn the_measurement_of_the_reference_gives_the_counts_that_are_shown() {
    let (sandbox, _) = shown("docs/jobs.md", "imageshare sandbox");
    let (commands, output) = shown("docs/jobs.md", "awk");
    // No other scenario counts requests of a second while this one does.
    let _alone = Sandbox::start_alone(&[]);
    // In another terminal.
    let script = format!("{AT_END}{} &\n{commands}", sandbox.trim());
    let ended = Shell::new().run(&with_port(&script, "9700", free_port())).check(0);
    let (people, stats) = (ended.stderr.as_str(), ended.stdout.as_str());
    let output = output.unwrap().text;
    let (for_people, counted) = output.split_at(output.find('{').unwrap());
    check_printed(people, for_people);
    let counted: Value = serde_json::from_str(counted).unwrap();
    let stats: Value = serde_json::from_str(stats.lines().last().unwrap()).unwrap();
    assert_eq!(stats, counted);
}

/// What a script left running ends with it.
const AT_END: &str = "trap 'kill $(jobs -p); wait' EXIT\n";

/// A script with another port in the place of one that may be taken.
fn with_port(script: &str, port: &str, free: u16) -> String {
    assert!(script.contains(port), "{script}");
    script.replace(&format!(":{port}"), &format!(":{free}"))
}

#[test]
fn the_readmes_daemon_carries_out_what_is_published() {
    let vhost = Node::shared().vhost();
    let (commands, _) = shown("README.md", "imageshare sandbox");
    let broker = "amqp://guest:guest@localhost:5672/%2F";
    assert!(commands.contains(broker), "{commands}");
    let script = format!("{AT_END}{commands}").replace(broker, &vhost.url());
    let script = with_port(&with_port(&script, "9700", free_port()), "9701", free_port());
    let ended = Shell::new().run(&script).check(0);
    check_printed(
        &ended.stderr,
        "jobs      308   308 succeeded\naccounts  732   688 changed, 34 unchanged, 10 taken off by a SYNC\n",
    );
    // The sandbox says where it listens, on standard output too.
    let reports: String = ended.stdout.split_inclusive('\n').filter(|line| line.starts_with("{\"job_id")).collect();
    assert_eq!(json_lines(&reports).len(), 308);
}

#[test]
fn the_addresses_in_alerts_and_dashboards_are_changed_by_the_command_that_is_shown() {
    let (commands, _) = shown("docs/operations.md", "sed -i");
    let copy = "cp -r \"$CHECKOUT/deploy\" deploy\n";
    let count = "grep -rl https://docs.example.com deploy/prometheus deploy/grafana/dashboards deploy/systemd || true\n\
                 grep -rho 'https://YOUR/ADDRESS#[a-z-]*' deploy | sort -u | wc -l\n";
    let shell = Shell::new().env("CHECKOUT", of_repository("").to_str().unwrap().to_owned());
    let ended = shell.run(&format!("{copy}{commands}{count}")).check(0);
    let linked: usize = ended.stdout.trim().parse().expect("no file has the old address");
    assert!(linked >= 20, "{linked} sections are linked");
}

#[test]
fn the_broker_gets_its_queues_and_is_asked_what_waits_in_them_as_shown() {
    let vhost = Node::shared().vhost();
    let shell = with_control(Shell::new(), &vhost).env("IMAGESHARE_BROKER_URL", vhost.url());
    let of_vhost = |text: &str| text.replace("VHOST", &vhost.name);
    let (commands, _) = shown("docs/jobs.md", "imageshare topology");
    shell.run(&commands).check(0);
    let (ask, output) = shown("docs/operations.md", "rabbitmqctl");
    let ask = of_vhost(&ask);
    until("what was imported is there", || shell.run(&ask).stdout.contains("imageshare.jobs.default").then_some(()));
    let declared = shell.run("imageshare topology --declare").check(0).json();
    assert!(declared.iter().all(|line| line["state"] == "found"), "{declared:?}");
    shell.run("imageshare publish examples/jobs.ndjson").check(0);
    let shown = output.unwrap().text;
    // Its numbers are some seconds old.
    until("the broker says so too", || shell.run(&ask).stdout.contains(shown.trim_end()).then_some(()));
}

/// A shell whose `rabbitmqctl` finds the node.
fn with_control(shell: Shell, vhost: &Vhost<'_>) -> Shell {
    // It looks for what else it needs where it is itself.
    let control = "#!/bin/sh\nexec /usr/lib/rabbitmq/bin/rabbitmqctl \"$@\"\n";
    shell.program("rabbitmqctl", control);
    let cookie = shell.folder.file(".erlang.cookie", COOKIE);
    fs::set_permissions(cookie, fs::Permissions::from_mode(0o400)).unwrap();
    let home = shell.folder.path("").to_str().unwrap().to_owned();
    let shell = shell.env("HOME", home);
    vhost.node.control().into_iter().fold(shell, |shell, (name, value)| shell.env(name, value))
}

#[test]
fn every_block_of_commands_is_run_by_a_test_or_listed_as_run_by_hand() {
    let mut listed: BTreeSet<(&str, &str)> = RUN_HERE.iter().chain(BY_HAND).copied().collect();
    for (page, beginning, file, words) in RUN_ELSEWHERE.iter().copied() {
        let text = fs::read_to_string(of_repository(file)).unwrap();
        assert!(text.contains(words), "{file} does not run {words}");
        listed.insert((page, beginning));
    }
    for page in Page::all() {
        for block in &page.blocks {
            assert!(["csv", "json", "sh", "text"].contains(&block.language.as_str()), "{}: {}", page.name, block.text);
            if block.language == "sh" {
                let is_this =
                    |(name, beginning): &(&str, &str)| *name == page.name && block.text.starts_with(beginning);
                let found = listed.iter().copied().find(is_this);
                let found = found.unwrap_or_else(|| panic!("no test runs this of {}:\n{}", page.name, block.text));
                listed.remove(&found);
            }
        }
    }
    assert!(listed.is_empty(), "no page shows {listed:?}");
}

/// What stands for something in the manual, and something that it may stand for.
const PLACEHOLDERS: [(&str, &str); 9] = [
    ("ADDRESS", "127.0.0.1:0"),
    ("CODE", "InternalError"),
    ("FILE", "jobs.ndjson"),
    ("FOLDER", "."),
    ("ID", "img-6pb6lrmy"),
    ("LANE", "default"),
    ("N", "10"),
    ("REGION", "ap-singapore"),
    ("SHELL", "bash"),
];

/// The program understands a command line. With `--help` behind it, it says what is not understood before it helps, and
/// does nothing.
#[track_caller]
fn check_understood(place: &str, line: &str) {
    let filled = line.split_whitespace().skip(1).map(|word| {
        let found = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
        found.map_or(word, |(_, value)| value)
    });
    let ended = Program::new(filled).arg("--help").run();
    assert_eq!(ended.code, Some(0), "{place}: {line}\n{}", ended.stderr);
}

#[test]
fn every_command_that_the_manual_names_is_understood() {
    let mut count = 0;
    for page in Page::all() {
        for code in page.code() {
            if code.starts_with("imageshare ") {
                check_understood(&page.name, &code);
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} are named");
}

/// The commands and the flags of each, as the help of each says; the flags that all have stand under no name.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let mut commands = BTreeMap::new();
    for (command, help) in helps(|program| program) {
        let (own, common) = help.split_once("\nEverywhere:\n").unwrap();
        if let Some((_, example)) = help.split_once("\nExample: ") {
            // Before it there may be a variable, behind it where the output goes; then there may be another paragraph.
            let example = example.split("\n\n").next().unwrap();
            let line = example.get(example.find("imageshare ").unwrap()..).unwrap();
            check_understood(&command, line.split(" > ").next().unwrap());
        }
        commands.insert(String::new(), flags(common));
        commands.insert(command, flags(own));
    }
    commands
}

#[test]
fn the_page_of_commands_has_every_command_with_every_flag_and_no_others() {
    let mut page = BTreeMap::new();
    for line in Page::of("docs/commands.md").text.lines() {
        let Some(row) = line.strip_prefix("| `imageshare") else { continue };
        let (usage, rest) = row.split_once("` |").unwrap();
        let is_of_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        let command = usage.split_whitespace().take_while(is_of_name).collect::<Vec<_>>().join(" ");
        let (flags, _) = rest.split_once(" |").unwrap();
        let listed = flags.split('`').skip(1).step_by(2).map(|flag| flag.split(' ').next().unwrap().to_owned());
        page.insert(command, listed.collect::<BTreeSet<String>>());
    }
    assert_eq!(page, commands());
}

#[test]
fn the_exit_codes_are_the_same_in_the_program_and_in_the_manual() {
    let of_program: BTreeSet<u8> = {
        let code = fs::read_to_string(of_repository("bin/imageshare/exit.rs")).unwrap();
        let (_, function) = code.split_once("const fn code(self) -> u8 {").unwrap();
        let arms = function.lines().take_while(|line| line != &"    }").filter_map(|line| line.split_once(" => "));
        arms.map(|(_, number)| number.trim_end_matches(',').parse().unwrap()).collect()
    };
    assert!(of_program.len() > 4, "{of_program:?}");
    let page = Page::of("docs/jobs.md");
    let (_, section) = page.text.split_once("## Exit codes\n").unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| "));
    let of_page = rows.filter_map(|row| row.split(' ').next()?.parse().ok()).collect::<BTreeSet<u8>>();
    assert_eq!(of_page, of_program, "docs/jobs.md");
    let numbers = |text: &str| -> BTreeSet<u8> {
        let (_, rest) = text.split_once("xit code").unwrap();
        let sentence = rest.split("\n\n").next().unwrap();
        sentence.split(|sign: char| !sign.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    let help = Program::new(["--help"]).run().check(0).stdout;
    assert_eq!(numbers(&help), of_program, "imageshare --help");
    let readme = Page::of("README.md").text;
    let at = readme.find("The exit code says").unwrap();
    assert_eq!(numbers(readme.get(at..).unwrap()), of_program, "README.md");
}

#[test]
fn every_link_leads_somewhere_and_every_file_that_is_named_is_there() {
    let pages = Page::all();
    let anchors: BTreeMap<&str, Vec<String>> = pages.iter().map(|page| (page.name.as_str(), page.anchors())).collect();
    for page in &pages {
        let folder = page.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in page.links().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.name.clone(),
                file => normal(&format!("{folder}/{file}")),
            };
            assert!(of_repository(&target).exists(), "{}: {link} leads to no file", page.name);
            if !anchor.is_empty() {
                let is_there = anchors[target.as_str()].iter().any(|name| name == anchor);
                assert!(is_there, "{}: {link} leads to no heading", page.name);
            }
        }
        for code in page.code() {
            const FOLDERS: [&str; 8] =
                ["benches/", "bin/", "crates/", "deploy/", "docs/", "examples/", "fuzz/", "tests/"];
            let path = code.split([' ', ':']).next().unwrap();
            let is_exact = !path.contains(['*', '…', '<', '{']);
            if is_exact && FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                assert!(of_repository(path).exists(), "{}: `{code}` is no file", page.name);
            }
        }
    }
}

/// A path without steps to where it came from.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

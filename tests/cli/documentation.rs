//! The manual tells the truth: what it names exists, what exists is named, and what it shows happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use kit::{
    Program, Sandbox, flags, free_port, helps, of_repository,
    pages::Page,
    shell::{AT_END, KEY, Shell, check_printed, check_shown, shown, with_port},
};
use serde_json::Value;

/// The blocks of commands that are run here: the page and how the block begins.
const RUN_HERE: &[(&str, &str)] = &[
    ("README.md", "cargo run --release -- run examples/jobs.ndjson"),
    ("README.md", "cargo run --release -- run examples/trouble.ndjson"),
    ("README.md", "imageshare list"),
    ("docs/jobs.md", "imageshare run examples/bad.ndjson"),
    ("docs/jobs.md", "imageshare run examples/bad.csv"),
    ("docs/jobs.md", "imageshare check --config examples/bad.toml"),
    ("docs/jobs.md", "imageshare sandbox"),
    ("docs/jobs.md", "awk"),
    ("docs/operations.md", "sed -i"),
];

/// Those that are run elsewhere: the page, how the block begins, who runs it, and the words of that.
const RUN_ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    ("README.md", "cargo test", "tests/run", "cargo test"),
    ("README.md", "tests/run", ".ci/run", "tests/run"),
    ("README.md", "imageshare sandbox", "tests/broker/documentation.rs", "imageshare sandbox"),
    ("docs/jobs.md", "imageshare topology", "tests/broker/documentation.rs", "imageshare topology"),
    ("docs/operations.md", "rabbitmqctl", "tests/broker/documentation.rs", "rabbitmqctl"),
    ("README.md", "cargo install --locked --path .", "tests/deploy", "cargo install --quiet --locked --debug --path ."),
    ("CONTRIBUTING.md", "tests/run", ".ci/run", "tests/run"),
    ("CONTRIBUTING.md", "cargo deny check", "tests/deploy", "cargo-deny\" check bans licenses sources"),
    ("docs/operations.md", "kubectl create namespace", "tests/stages/kubernetes.py", "\"example\""),
    ("docs/operations.md", "install -m 600", "tests/stages/package", "^install -m 600"),
    ("docs/releasing.md", "python3 -m venv target/sbom", "tests/deploy", "sbom/make.py target/imageshare.cdx.json"),
    ("examples/publishers/README.md", "export", "tests/broker/publishers.rs", "[IMAGE, \"ap-singapore\", \"SHARE\""),
    ("fuzz/README.md", "fuzz/run", "tests/deploy", "fuzz/run --seconds"),
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
    ("deploy/compose/README.md", "docker compose"),
    ("fuzz/README.md", "cp Cargo.lock fuzz/Cargo.lock"),
    ("fuzz/README.md", "target/fuzz/HOST/release/TARGET -merge=1"),
];

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
    let (sandbox, shell) = with_sandbox();
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

    drop(sandbox);
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

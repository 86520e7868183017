//! Checks the manual: names exist, lists are complete, and commands print what the pages show.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use kit::{
    Folder, Program, SandboxProcess, free_port,
    markdown::MarkdownPage,
    repository_path,
    shell::{KILL_JOBS_AT_EXIT, Shell, check_output_contains, commands_and_output, with_port},
};
use serde_json::Value;

/// Starts a sandbox with the world of the examples, and a shell that uses it.
fn start() -> (SandboxProcess, Shell) {
    let sandbox = SandboxProcess::start(&["--world", repository_path("examples/world.toml").to_str().unwrap()]);
    let mut shell = Shell::new();
    shell.use_sandbox(&sandbox);
    (sandbox, shell)
}

#[test]
fn commands_of_readme_print_what_it_shows() {
    let (sandbox, mut shell) = start();
    shell.follow(&MarkdownPage::read("README.md"));
    let accounts = fs::read_to_string(repository_path("examples/accounts.txt")).unwrap();
    let accounts = accounts.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let remaining: BTreeSet<u64> = accounts.filter(|account| *account != 1_038_493_875).collect();
    assert_eq!(sandbox.shared("img-6pb6lrmy"), remaining);
}

#[test]
fn commands_of_other_pages_print_what_they_show() {
    let (_sandbox, mut shell) = start();
    for page in MarkdownPage::all() {
        if page.name != "README.md" && !page.name.contains("/transcripts/") {
            shell.follow(&page);
        }
    }
}

#[test]
fn commands_marked_as_run_elsewhere_are_named_there() {
    for page in MarkdownPage::all() {
        for block in &page.blocks {
            let Some(file) = block.attribute.strip_prefix("elsewhere=") else { continue };
            let text = fs::read_to_string(repository_path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut words = block.text.split([' ', '\n', '=']).filter(|word| *word != "export");
            let program = words.next().unwrap();
            // Every page has these words, so the command counts too.
            let command = words.next().filter(|_| ["cargo", "imageshare"].contains(&program));
            let is_run = text.contains(program) && command.is_none_or(|command| text.contains(command));
            assert!(is_run, "{}: {file} does not run\n{}", page.name, block.text);
        }
    }
}

#[test]
fn tests_named_in_the_manual_exist() {
    let mut count = 0;
    for page in MarkdownPage::all() {
        for code in page.inline_code() {
            let Some((file, name)) = code.split_once(".rs::") else { continue };
            let text = fs::read_to_string(repository_path(&format!("{file}.rs"))).unwrap_or_default();
            assert!(text.contains(&format!("fn {name}(")), "{}: {code} does not exist", page.name);
            count += 1;
        }
    }
    assert!(count > 100, "{count} are named");
}

/// Returns JSON without the values that differ between runs.
fn without_volatile_members(json: &str) -> Value {
    fn clear(value: &mut Value) {
        for (name, value) in value.as_object_mut().unwrap() {
            if name.ends_with("_at") || name == "request_id" || name == "worker" {
                assert!(value.is_string(), "{name}: {value}");
                *value = Value::Null;
            } else if ["failed", "changed_by", "images"].contains(&name.as_str()) {
                value.as_array_mut().unwrap().iter_mut().for_each(clear);
            }
        }
    }
    let mut value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    clear(&mut value);
    value
}

#[test]
fn json_in_the_manual_is_true() {
    let (readme, jobs) = (MarkdownPage::read("README.md"), MarkdownPage::read("docs/jobs.md"));
    let shown = |page: &MarkdownPage, prefix| without_volatile_members(&page.blocks[page.find(prefix)].text);
    let run_job = |job: &str| format!("imageshare run - <<'END'\n{job}\nEND\n");
    // Runs commands in a world in which the image is shared with an account.
    let printed = |account: &str, commands: &str, code| -> Vec<Value> {
        let (_sandbox, shell) = start();
        let share = "imageshare share -q --image img-6pb6lrmy --region ap-singapore --account";
        let ended = shell.run(&format!("{share} {account} >before\n{commands}")).check(code);
        ended.stdout.lines().map(without_volatile_members).collect()
    };

    let mut report = shown(&readme, "{\"job_id\":\"line-1\"");
    for (beginning, first_line) in [("{\"image_id\"", "line-1"), ("image_id,region", "line-2")] {
        let job = run_job(&readme.blocks[readme.find(beginning)].text);
        report["job_id"] = first_line.into();
        assert_eq!(printed("100022975249", &job, 0), [report.clone()]);
    }
    // Both spellings of a job, and CSV with two images.
    for beginning in ["{\"job_id\": \"rel", "{\"ImageId\"", "image_id,region"] {
        let reports = printed("1038493875", &run_job(&jobs.blocks[jobs.find(beginning)].text), 0);
        assert!(reports.iter().any(|report| report["status"] == "succeeded"), "{reports:?}");
    }
    let several = run_job(&jobs.blocks[jobs.find("{\"job_id\": \"images")].text);
    assert_eq!(printed("1038493875", &several, 0), [shown(&jobs, "{\"job_id\":\"images")]);
    let list = printed("1038493875", "imageshare list --image img-6pb6lrmy --region ap-singapore", 0);
    assert_eq!(list, [shown(&jobs, "{\"image_id\":\"img-6pb6lrmy\",\"region\":\"ap-singapore\",\"account_id\"")]);

    let accounts = "--account 1038493875 --account 100022975249";
    let plan = format!("imageshare share --image img-6pb6lrmy --region ap-singapore {accounts} --dry-run");
    let planned = shown(&jobs, "{\"image_id\":\"img-6pb6lrmy\",\"region\":\"ap-singapore\",\"lane\"");
    assert_eq!(printed("100000000001", &plan, 0), [planned]);

    let job = r#"{"job_id":"one-of-each","image_id":"img-6pb6lrmy","region":"ap-singapore","permission":"SHARE",
        "account_ids":["1038493875","100022975249","100000000404","1038493875"],"labels":{"release":"2026.11"}}"#;
    let report = shown(&jobs, "{\"job_id\":\"one-of-each\"");
    assert_eq!(printed("1038493875", &run_job(&job.replace('\n', "")), 1), [report]);
}

#[test]
fn measurement_of_manual_gives_counts_shown() {
    let (sandbox, _) = commands_and_output("docs/jobs.md", "imageshare sandbox");
    let (commands, output) = commands_and_output("docs/jobs.md", "awk");
    // The program limits the rate by its own clock. On a busy machine the requests of two seconds may arrive together.
    let sandbox = sandbox.trim().replace("--rps 10 ", "--rps 20 ");
    // The manual runs the sandbox in another terminal.
    let script = format!("{KILL_JOBS_AT_EXIT}{sandbox} &\n{commands}");
    let ended = Shell::new().run(&with_port(&script, "9700", free_port())).check(0);
    let (summary, stats) = (ended.stderr.as_str(), ended.stdout.as_str());
    let output = output.unwrap().text;
    let (shown_summary, counted) = output.split_at(output.find('{').unwrap());
    // A simulation asserts the exact counts. On a busy machine the first write of an image may leave before all its
    // accounts are read, which adds a write, and requests of two seconds may arrive together.
    let without_requests = |text: &str| -> String {
        text.lines().filter(|line| !line.starts_with("requests")).map(|line| format!("{line}\n")).collect()
    };
    check_output_contains(&without_requests(summary), &without_requests(shown_summary));
    let [counted, stats] = [counted, stats.lines().last().unwrap()]
        .map(|text| counts("", &serde_json::from_str(text).unwrap()).into_iter().collect::<BTreeMap<_, _>>());
    assert!(counted.keys().eq(stats.keys()), "{stats:?}");
    for (name, shown) in counted {
        assert!(stats[&name].abs_diff(shown) <= 5, "{name}: {stats:?}");
    }
}

/// Returns the numbers of a JSON object and of the objects in it, with their path.
fn counts(path: &str, object: &Value) -> Vec<(String, u64)> {
    let members = object.as_object().unwrap().iter().map(|(name, value)| (format!("{path}/{name}"), value));
    let numbers = |(path, value): (String, &Value)| match value.as_u64() {
        Some(number) => vec![(path, number)],
        None => counts(&path, value),
    };
    members.flat_map(numbers).collect()
}

/// Placeholders in the manual, with an example value each.
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

/// Asserts that a command line can be parsed. With `--help` appended, the program still reports invalid arguments, and does
/// nothing.
#[track_caller]
fn check_parses(place: &str, line: &str) {
    let filled = line.split_whitespace().skip(1).map(|word| {
        let placeholder = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
        placeholder.map_or(word, |(_, value)| value)
    });
    let ended = Program::new(filled).arg("--help").run();
    assert_eq!(ended.code, Some(0), "{place}: {line}\n{}", ended.stderr);
}

#[test]
fn commands_in_the_text_are_understood() {
    let mut count = 0;
    for page in MarkdownPage::all() {
        for code in page.inline_code() {
            if code.starts_with("imageshare ") {
                check_parses(&page.name, &code);
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} are named");
}

/// Returns the flags of each command, from its help. Those that all commands have are under the empty name.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let mut commands = BTreeMap::new();
    for (command, help) in helps(|program| program) {
        // A tool has none of the common flags.
        let (own, common) = help.split_once("\nGlobal options:\n").unwrap_or((&help, ""));
        commands.entry(String::new()).or_insert_with(BTreeSet::new).extend(flags(common));
        commands.insert(command, flags(own));
    }
    commands
}

#[test]
fn commands_page_lists_every_command_and_flag() {
    let mut page = BTreeMap::new();
    for line in MarkdownPage::read("docs/commands.md").text.lines() {
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
fn exit_codes_equal_those_of_manual() {
    let of_program: BTreeSet<u8> = {
        let code = fs::read_to_string(repository_path("bin/imageshare/exit.rs")).unwrap();
        let (_, function) = code.split_once("const fn code(self) -> u8 {").unwrap();
        let arms = function.lines().take_while(|line| line != &"    }").filter_map(|line| line.split_once(" => "));
        arms.map(|(_, number)| number.trim_end_matches(',').parse().unwrap()).collect()
    };
    assert!(of_program.len() > 4, "{of_program:?}");
    let page = MarkdownPage::read("docs/jobs.md");
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
    let readme = MarkdownPage::read("README.md").text;
    let at = readme.find("Exit codes: ").unwrap();
    assert_eq!(numbers(readme.get(at..).unwrap()), of_program, "README.md");
}

/// Returns the help of each command without subcommands. `call` may modify the program before it runs.
pub(crate) fn helps(call: impl Fn(Program) -> Program) -> BTreeMap<String, String> {
    let mut helps = BTreeMap::new();
    let mut waiting = vec![String::new()];
    while let Some(command) = waiting.pop() {
        let program = Program::new(command.split_whitespace()).arg("--help");
        let help = call(program).run().check(0).stdout;
        let headings = ["\nCommands:\n", "\nEveryday:\n", "\nQueue:\n", "\nTools:\n"];
        let sections = headings.iter().filter_map(|heading| Some(help.split_once(heading)?.1));
        let lines = sections.flat_map(|section| section.lines().take_while(|line| !line.is_empty()));
        let names = lines.filter_map(|line| {
            let name = line.strip_prefix("  ")?.split_whitespace().next()?;
            (!line.starts_with("   ") && name != "help").then(|| format!("{command} {name}").trim().to_owned())
        });
        let count = waiting.len();
        waiting.extend(names);
        if waiting.len() == count {
            helps.insert(command, help);
        }
    }
    assert!(helps.len() > 10, "{:?}", helps.keys());
    helps
}

/// Returns the flags in a help text, except `--help`.
pub(crate) fn flags(help: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (short, long) = line.split_at_checked(6)?;
        let is_before_flag = short.trim_start().is_empty() || short.trim_start().starts_with('-');
        let name = long.strip_prefix("--").filter(|_| is_before_flag)?.split(' ').next()?;
        Some(format!("--{name}"))
    };
    help.lines().filter_map(name).filter(|flag| flag != "--help").collect()
}

/// The sections of the settings.
const SECTIONS: [&str; 7] = ["lanes", "credentials", "accounts", "engine", "http", "broker", "admin"];

/// Returns the keys of each section, from the error for an unknown key.
fn keys() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Folder::new();
    let mut file = String::from("stranger = 1\n");
    for section in SECTIONS {
        let named = ["lanes", "credentials"].contains(&section);
        let table = if named { format!("{section}.x") } else { section.to_owned() };
        file.push_str(&format!("[{table}]\nstranger = 1\n"));
    }
    let path = folder.file("settings.toml", file);
    let errors = Program::new(["check", "--config"]).arg(path).run().check(2).stderr;
    let mut keys = BTreeMap::new();
    for line in errors.lines() {
        let Some((place, rest)) = line.split_once("stranger: unknown key (expected ") else { continue };
        let place = place.trim_end_matches(['.', ' ']).rsplit(": ").next().unwrap();
        let section = if place.contains(".toml") { "" } else { place.trim_end_matches(".x") };
        let expected = rest.trim_end_matches(')').split(", ");
        keys.insert(section.to_owned(), expected.map(str::to_owned).collect());
    }
    assert_eq!(keys.get(""), Some(&SECTIONS.map(str::to_owned).into()), "{errors}");
    keys.remove("");
    // Lists of accounts have any name.
    keys.insert("accounts".to_owned(), ["NAME".to_owned()].into());
    assert_eq!(keys.len(), SECTIONS.len(), "{errors}");
    keys
}

#[test]
fn example_shows_all_settings_and_no_others() {
    let text = fs::read_to_string(repository_path("examples/imageshare.toml")).unwrap();
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name.split('.').next().unwrap().to_owned();
        }
        let line = line.trim_start_matches(['#', ' ']);
        if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            let key = if section == "accounts" { "NAME" } else { key };
            shown.entry(section.clone()).or_default().insert(key.to_owned());
        }
    }
    assert_eq!(shown, keys());
}

#[test]
fn page_lists_all_settings_and_no_others() {
    let text = fs::read_to_string(repository_path("docs/jobs.md")).unwrap();
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let Some((key, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) else { continue };
        let Some((section, key)) = key.split_once('.') else { continue };
        if SECTIONS.contains(&section) {
            let key = key.strip_prefix("NAME.").unwrap_or(key);
            listed.entry(section.to_owned()).or_default().insert(key.to_owned());
        }
    }
    assert_eq!(listed, keys());
}

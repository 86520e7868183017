//! The command line with its help: commands in groups, examples, and each common flag only where it has an effect.

use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command, CommandFactory as _, error::ErrorKind, parser::ValueSource};
use textwrap::Options;

use crate::{cli::Cli, exit::MEANINGS, terminal};

/// The commands in groups, in the order of the help.
const GROUPS: [(&str, &[&str]); 3] = [
    ("Everyday", &["share", "cancel", "sync", "list", "accounts", "run"]),
    ("Queue", &["worker", "publish", "reports", "dead", "topology"]),
    ("Tools", &["check", "sandbox", "sign", "schema", "completions", "man"]),
];

/// Three examples of each command, and of the program for its manual page.
const EXAMPLES: &[(&str, [&str; 3])] = &[
    (
        "",
        [
            "imageshare run examples/jobs.ndjson --sandbox",
            "imageshare share --image img-6pb6lrmy --region ap-singapore --account 1038493875",
            "imageshare worker --declare",
        ],
    ),
    (
        "accounts",
        [
            "imageshare accounts > accounts.txt",
            "imageshare accounts --node 2001 --tag env=prod > accounts.txt",
            "imageshare accounts --json | jq .account_id",
        ],
    ),
    (
        "cancel",
        [
            "imageshare cancel --image img-6pb6lrmy --region ap-singapore --account 1038493875",
            "imageshare cancel --image img-6pb6lrmy --region ap-singapore --accounts-file left.txt --dry-run",
            "imageshare unshare --sandbox --image img-6pb6lrmy --region ap-singapore --account 1038493875",
        ],
    ),
    (
        "check",
        [
            "imageshare check --config examples/imageshare.toml",
            "imageshare check --connect",
            "imageshare check --policy --image img-6pb6lrmy --region ap-singapore > policy.json",
        ],
    ),
    (
        "completions",
        [
            "imageshare completions bash > /etc/bash_completion.d/imageshare",
            "imageshare completions zsh > ~/.zfunc/_imageshare",
            "imageshare completions fish > ~/.config/fish/completions/imageshare.fish",
        ],
    ),
    (
        "dead",
        [
            "imageshare dead list",
            "imageshare dead replay --code InvalidAccountId.NotFound --dry-run",
            "imageshare dead drop --reason expired --yes",
        ],
    ),
    (
        "dead drop",
        [
            "imageshare dead drop --reason rejected --dry-run",
            "imageshare dead drop --image img-6pb6lrmy",
            "imageshare dead drop --all --yes",
        ],
    ),
    (
        "dead list",
        [
            "imageshare dead list",
            "imageshare dead list --lane production --limit 10",
            "imageshare dead list --code InvalidAccountId.NotFound --json",
        ],
    ),
    (
        "dead replay",
        [
            "imageshare dead replay --code InvalidAccountId.NotFound --dry-run",
            "imageshare dead replay --reason expired",
            "imageshare dead replay --all --yes",
        ],
    ),
    (
        "list",
        [
            "imageshare list --image img-6pb6lrmy --region ap-singapore",
            "imageshare list --image img-6pb6lrmy --region ap-singapore --ids > accounts.txt",
            "imageshare list --image img-6pb6lrmy --region ap-singapore --json | jq .shared_at",
        ],
    ),
    ("man", ["imageshare man .", "imageshare man /usr/local/share/man/man1", "imageshare man target/man"]),
    (
        "publish",
        [
            "imageshare publish examples/jobs.ndjson",
            "imageshare publish examples/jobs.ndjson --wait",
            "imageshare publish - --region ap-singapore < jobs.csv",
        ],
    ),
    (
        "reports",
        [
            "imageshare reports --account 1038493875 --image img-6pb6lrmy --since 30d",
            "imageshare reports --job-id release-2026.11",
            "imageshare reports --status failed --since 1d --json",
        ],
    ),
    (
        "run",
        [
            "imageshare run examples/jobs.ndjson --sandbox",
            "imageshare run jobs.csv --region ap-singapore --dry-run",
            "imageshare run jobs.ndjson --report reports.ndjson",
        ],
    ),
    (
        "sandbox",
        [
            "imageshare sandbox",
            "imageshare sandbox --listen 127.0.0.1:9700 --latency 80ms",
            "imageshare sandbox --world examples/world.toml --faults faults.json",
        ],
    ),
    (
        "schema",
        [
            "imageshare schema job",
            "imageshare schema job > job.schema.json",
            "imageshare schema report > report.schema.json",
        ],
    ),
    (
        "share",
        [
            "imageshare share --image img-6pb6lrmy --region ap-singapore --account 1038493875",
            "imageshare share --image img-6pb6lrmy --region ap-singapore --accounts-file accounts.txt --dry-run",
            "imageshare share --sandbox --image img-6pb6lrmy --region ap-singapore --account 1038493875",
        ],
    ),
    (
        "sign",
        [
            "imageshare sign --method POST --algorithm tc3 --host cvm.tencentcloudapi.com --service cvm --action DescribeImages --version 2017-03-12 --timestamp 1551113065 --body body.json",
            "imageshare sign --method GET --algorithm tc3 --host cvm.tencentcloudapi.com --service cvm --action DescribeImages --version 2017-03-12 --timestamp 1551113065 --param Limit=10",
            "imageshare sign --method GET --algorithm hmac-sha256 --host cvm.tencentcloudapi.com --service cvm --action DescribeImages --version 2017-03-12 --timestamp 1551113065 --nonce 1 --param Limit=10",
        ],
    ),
    (
        "sync",
        [
            "imageshare sync --image img-6pb6lrmy --region ap-singapore --accounts-file accounts.txt --dry-run",
            "imageshare sync --image img-6pb6lrmy --region ap-singapore --accounts-file accounts.txt",
            "imageshare sync --image img-6pb6lrmy --region ap-singapore --account 1038493875 --force",
        ],
    ),
    (
        "topology",
        [
            "imageshare topology > definitions.json",
            "imageshare topology --declare",
            "imageshare topology --config imageshare.toml --declare",
        ],
    ),
    (
        "worker",
        [
            "imageshare worker --declare",
            "imageshare worker --admin 127.0.0.1:9701 --log debug",
            "imageshare worker --config /etc/imageshare/imageshare.toml --grace 1m",
        ],
    ),
];

/// Commands that use none of the common flags, except that completions name the lanes of the settings.
const TOOLS: [&str; 5] = ["completions", "man", "sandbox", "schema", "sign"];

/// The flags of [`Common`](crate::cli::Common), each with the commands beside the tools that have no use for it.
const UNUSED: [(&str, &[&str]); 9] = [
    ("config", &[]),
    ("endpoint", &["dead", "publish", "reports", "topology"]),
    ("rate", &["dead", "publish", "reports", "topology"]),
    ("batch", &["accounts", "dead", "list", "publish", "reports", "topology"]),
    ("lane", &["topology", "worker"]),
    ("json", &[]),
    ("output", &[]),
    ("quiet", &["topology"]),
    ("verbose", &["dead", "publish", "reports", "topology"]),
];

/// Returns the command line with its help.
pub(crate) fn command() -> Command {
    let command = Cli::command();
    let template = template(&command);
    let rules = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let codes = MEANINGS.map(|(exit, meaning)| format!("{} {meaning}", exit.code())).join("; ");
    let example = "imageshare run examples/jobs.ndjson --sandbox";
    let after = format!("{rules}\n\nExit codes: {codes}.\n\nWithout keys and without a cloud:\n  {example}");
    let mut command = with_examples(command, "").help_template(template).after_help(after);
    // The subcommands get the global flags only here.
    command.build();
    command.mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        UNUSED.iter().filter(|(flag, _)| is_unused(flag, &name)).fold(command, |command, (flag, _)| hide(command, flag))
    })
}

/// Refuses a common flag on the command line that has no effect in the command.
pub(crate) fn refuse_unused(matches: &ArgMatches) -> Result<(), clap::Error> {
    let name = matches.subcommand_name().unwrap_or_default();
    let is_given = |flag: &str| matches.value_source(flag) == Some(ValueSource::CommandLine);
    match UNUSED.iter().find(|(flag, _)| is_given(flag) && is_unused(flag, name)) {
        None => Ok(()),
        Some((flag, _)) => {
            let words = format!("--{flag}: no effect in imageshare {name} (expected only the flags of its --help)\n");
            Err(clap::Error::raw(ErrorKind::UnknownArgument, words))
        }
    }
}

/// Whether a command has no use for a common flag.
fn is_unused(flag: &str, command: &str) -> bool {
    let of_tool = TOOLS.contains(&command) && (flag, command) != ("config", "completions");
    of_tool || UNUSED.iter().any(|(of, commands)| *of == flag && commands.contains(&command))
}

fn hide(command: Command, flag: &str) -> Command {
    let hide_flag = |arg: Arg| if arg.get_id() == flag { arg.hide(true) } else { arg };
    command.mut_args(hide_flag).mut_subcommands(|command| hide(command, flag))
}

/// Returns the examples of a command, such as `share` or `dead list`.
pub(crate) fn examples(name: &str) -> Option<&'static [&'static str; 3]> {
    EXAMPLES.iter().find_map(|(of, examples)| (*of == name).then_some(examples))
}

fn with_examples(command: Command, parent: &str) -> Command {
    command.mut_subcommands(|command| {
        let name = format!("{parent}{}", command.get_name());
        let mut help = String::from("Examples:");
        for example in examples(&name).into_iter().flatten() {
            write!(help, "\n  {example}").expect("writing to a String never fails");
        }
        if let Some(text) = command.get_after_help() {
            write!(help, "\n\n{text}").expect("writing to a String never fails");
        }
        let command = if examples(&name).is_some() { command.after_help(help) } else { command };
        with_examples(command, &format!("{name} "))
    })
}

/// Returns whether a command uses no common flag, file or variable.
pub(crate) fn is_tool(name: &str) -> bool {
    TOOLS.contains(&name)
}

/// Returns the text after the examples in the help of a command.
pub(crate) fn notes(command: &Command, name: &str) -> Option<String> {
    let help = command.get_after_help()?.to_string();
    // The top level has sections of its own for the rest.
    examples(name).filter(|_| !name.is_empty())?;
    help.split_once("\n\n").map(|(_, notes)| notes.to_owned())
}

/// Returns the help template of the top level, with the commands in groups.
fn template(command: &Command) -> String {
    let margin = " ".repeat(15);
    let options = Options::new(terminal::stdout_width().unwrap_or(terminal::WIDTH)).subsequent_indent(&margin);
    let mut template = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (group, names) in GROUPS {
        write!(template, "\n{group}:\n").expect("writing to a String never fails");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let line = textwrap::fill(&format!("  {name:13}{about}"), &options);
            writeln!(template, "{line}").expect("writing to a String never fails");
        }
    }
    template.push_str("\n{options}{after-help}");
    template
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let command = command();
        let all: BTreeSet<&str> =
            command.get_subcommands().map(Command::get_name).filter(|name| *name != "help").collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(grouped.len(), all.len());
    }

    #[test]
    fn every_example_is_valid() {
        for (name, examples) in EXAMPLES {
            for example in examples {
                let words = example.split(['<', '>', '|']).next().unwrap().split_whitespace();
                let parsed = command().try_get_matches_from(words).and_then(|matches| refuse_unused(&matches));
                assert!(parsed.is_ok(), "{name}: {example}: {}", parsed.unwrap_err());
            }
        }
    }

    #[track_caller]
    fn check_flags(line: &str, refused: Option<&str>) {
        let matches = command().try_get_matches_from(line.split(' ')).unwrap();
        let words = refuse_unused(&matches).err().map(|error| error.to_string());
        assert_eq!(
            words.as_deref().and_then(|words| words.strip_prefix("error: ")?.split(' ').next()),
            refused,
            "{line}"
        );
    }

    #[test]
    fn flags_without_effect_are_refused() {
        check_flags("imageshare dead list --rate 5", Some("--rate:"));
        check_flags("imageshare --endpoint https://example.com publish jobs.csv", Some("--endpoint:"));
        check_flags("imageshare list --image img-6pb6lrmy --batch 5", Some("--batch:"));
        check_flags("imageshare schema job -o json", Some("--output:"));
        check_flags("imageshare worker --lane default", Some("--lane:"));
        check_flags("imageshare completions bash --config settings.toml", None);
        check_flags("imageshare list --image img-6pb6lrmy --rate 5 -q", None);
    }

    #[test]
    fn help_of_any_command_fits_80_columns() {
        fn check(mut command: Command) {
            let help = command.clone().term_width(80).render_long_help().to_string();
            // An example stays on one line, so that it can be copied.
            for line in help.lines().filter(|line| !line.starts_with("  imageshare ")) {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands_mut().for_each(|command| check(command.clone()));
        }
        check(command());
    }
}

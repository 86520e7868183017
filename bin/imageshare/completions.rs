//! `imageshare completions`: prints a completion script for a shell.

use clap::{Arg, Command, builder::PossibleValuesParser};
use clap_complete::Shell;
use imageshare_core::{code, ids::KNOWN_REGIONS};
use imageshare_engine::job::local;
use imageshare_worker::{environment::Environment, settings::Settings};

use crate::{
    cli::Common,
    exit::{CommandResult, Exit},
    help, output, work,
};

pub(crate) fn run(common: &Common, shell: Shell) -> CommandResult {
    let settings = Settings::load(&work::flags(common), &Environment::of_process());
    // Without valid settings the script completes everything but lane names. Leaking the names is harmless: the process
    // ends after printing the script.
    let lanes = settings.map_or_else(|_| Vec::new(), |settings| settings.lanes);
    let lanes: Vec<&'static str> = lanes.into_iter().map(|lane| &*lane.name.leak()).collect();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut with_values(help::command(), &lanes), "imageshare", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Adds suggestions to flags that accept further values, so that only the completion script gets them.
fn with_values(command: Command, lanes: &[&'static str]) -> Command {
    command.mut_args(|arg| with_value(arg, lanes)).mut_subcommands(|command| with_values(command, lanes))
}

fn with_value(arg: Arg, lanes: &[&'static str]) -> Arg {
    match arg.get_id().as_str() {
        "region" => arg.value_parser(PossibleValuesParser::new(KNOWN_REGIONS)),
        "code" => {
            let codes = code::table().iter().map(|(code, _)| *code).chain(local::CODES);
            arg.value_parser(PossibleValuesParser::new(codes.collect::<Vec<_>>()))
        }
        "lane" if !lanes.is_empty() => arg.value_parser(PossibleValuesParser::new(lanes.to_vec())),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_regions_lanes_and_codes() {
        let command = with_values(help::command(), &["asia"]);
        let replay = command.find_subcommand("dead").unwrap().find_subcommand("replay").unwrap();
        let share = command.find_subcommand("share").unwrap();
        let has = |command: &Command, flag: &str, value: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_id() == flag).unwrap();
            arg.get_possible_values().iter().any(|possible| possible.get_name() == value)
        };
        assert!(has(replay, "code", "InvalidAccountId.NotFound") && has(replay, "code", "Local.OverQuota"));
        assert!(has(share, "region", "ap-singapore") && has(share, "lane", "asia"));
    }
}

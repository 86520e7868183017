//! The commands of the program and their flags, by what the program says of itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::Program;

/// What `--help` says of each command that does something, by the command's words. The program is called in a way that the
/// caller may change.
pub fn helps(call: impl Fn(Program) -> Program) -> BTreeMap<String, String> {
    let mut helps = BTreeMap::new();
    let mut waiting = vec![String::new()];
    while let Some(command) = waiting.pop() {
        let program = Program::new(command.split_whitespace()).arg("--help");
        let help = call(program).run().check(0).stdout;
        let section = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        let names = section.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
            let name = line.strip_prefix("  ")?.split_whitespace().next()?;
            (!line.starts_with("   ") && name != "help").then(|| format!("{command} {name}").trim().to_owned())
        });
        let before = waiting.len();
        waiting.extend(names);
        if waiting.len() == before {
            helps.insert(command, help);
        }
    }
    assert!(helps.len() > 10, "{:?}", helps.keys());
    helps
}

/// The flags that a help lists, but the one that asks for help.
pub fn flags(help: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (short, long) = line.split_at_checked(6)?;
        let is_before_flag = short.trim_start().is_empty() || short.trim_start().starts_with('-');
        let name = long.strip_prefix("--").filter(|_| is_before_flag)?.split(' ').next()?;
        Some(format!("--{name}"))
    };
    help.lines().filter_map(name).filter(|flag| flag != "--help").collect()
}

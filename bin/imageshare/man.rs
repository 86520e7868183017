//! `imageshare man`: writes the manual pages.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::{Arg, Command};
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::{
    exit::{CommandResult, Exit, MEANINGS, OrExit as _},
    files, help,
};

/// Variables without a flag.
const VARIABLES: [(&str, &str); 4] = [
    ("IMAGESHARE_BROKER_URL", "The broker's address with user and password: amqp:// or amqps://."),
    ("TENCENTCLOUD_SECRET_ID", "The public name of the API key."),
    ("TENCENTCLOUD_SECRET_KEY", "The API key."),
    ("TENCENTCLOUD_TOKEN", "The token of a temporary API key."),
];

/// Files that commands read.
const FILES: [(&str, &str); 3] = [
    (
        "FILE of --config",
        "Settings (TOML). There is no default: without the flag or IMAGESHARE_CONFIG no file is read.",
    ),
    ("~/.tencentcloud/credentials", "Profiles with API keys, read if the variables are unset."),
    (
        "~/.tccli/",
        "Credentials of the vendor's command line, read if the settings have a credential with source tccli.",
    ),
];

pub(crate) fn run(folder: &Path) -> CommandResult {
    let mut pages = Vec::new();
    add_pages(&help::command(), "", &mut pages)
        .and_then(|()| pages.iter().try_for_each(|(file, text)| fs::write(folder.join(file), text)))
        .with_context(|| format!("cannot write manual pages to {}", files::name(folder)))
        .or_exit(Exit::Failed)?;
    Ok(Exit::Done)
}

/// Adds the page of a command, which has this name without that of the program, and those of its subcommands, each with the
/// name of its file.
fn add_pages(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    // `help` has a subcommand for each command.
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        add_pages(subcommand, format!("{name} {}", subcommand.get_name()).trim_start(), pages)?;
    }
    let page = Man::new(command.clone());
    pages.push((page.get_filename(), render(&page, command, name)?));
    Ok(())
}

fn render(page: &Man, command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    if let Some(notes) = help::notes(command, name) {
        roff.control("SH", ["NOTES"]).text([roman(notes)]);
    }
    section(&mut roff, "ENVIRONMENT", &environment(command, name));
    let meanings = MEANINGS.map(|(exit, meaning)| (exit.code().to_string(), meaning.to_owned()));
    section(&mut roff, "EXIT STATUS", &meanings);
    if !help::is_tool(name) {
        section(&mut roff, "FILES", &FILES.map(|(file, meaning)| (file.to_owned(), meaning.to_owned())));
    }
    if let Some(examples) = help::examples(name) {
        roff.control("SH", ["EXAMPLES"]);
        for example in examples {
            roff.control("PP", []).text([roman(*example)]);
        }
    }
    roff.to_writer(&mut text)?;
    Ok(text)
}

fn section(roff: &mut Roff, title: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    roff.control("SH", [title]);
    for (name, meaning) in rows {
        roff.control("TP", []).text([bold(name.as_str())]).text([roman(meaning.as_str())]);
    }
}

/// Returns the variables of a command: first those of its flags, then those without a flag.
fn environment(command: &Command, name: &str) -> Vec<(String, String)> {
    let of_flag = |arg: &Arg| {
        let help = arg.get_help()?.to_string();
        let (_, rest) = help.split_once("[env: ")?;
        let (variable, _) = rest.split_once(']')?;
        Some((variable.to_owned(), format!("Same as --{}. The flag takes precedence.", arg.get_long()?)))
    };
    let mut variables: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(of_flag).collect();
    if !help::is_tool(name) {
        variables.extend(VARIABLES.map(|(variable, meaning)| (variable.to_owned(), meaning.to_owned())));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_one_page_with_its_sections() {
        let mut pages = Vec::new();
        add_pages(&help::command(), "", &mut pages).unwrap();
        assert!(pages.iter().any(|(file, _)| file == "imageshare-dead-replay.1"));
        for (file, text) in pages {
            let text = String::from_utf8(text).unwrap();
            assert!(!file.contains("help"), "{file}");
            for section in ["SYNOPSIS", "OPTIONS", "\"EXIT STATUS\"", "EXAMPLES"] {
                assert!(text.contains(&format!(".SH {section}\n")), "{file} has no {section}");
            }
        }
    }
}

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
    let mut command = help::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, "", folder)
        .with_context(|| format!("cannot write manual pages to {}", files::name(folder)))
        .or_exit(Exit::Failed)?;
    Ok(Exit::Done)
}

/// Writes the pages of a command and its subcommands. `name` is without `imageshare`.
fn write_pages(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, format!("{name} {}", subcommand.get_name()).trim_start(), folder)?;
    }
    let page = Man::new(command.clone());
    fs::write(folder.join(page.get_filename()), render(&page, command, name)?)
}

fn render(page: &Man, command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
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

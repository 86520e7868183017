//! The settings that there are, those that the page lists, and those that the example shows are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use kit::{Folder, Program, of_repository};

/// The sections, with a name where they have names, and the sources of a credential.
const SECTIONS: [&str; 6] = ["lanes", "credentials", "engine", "http", "broker", "admin"];

/// The keys of each section, by what the program says is allowed there.
fn keys() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Folder::new();
    let mut file = String::from("stranger = 1\n");
    for section in SECTIONS {
        let named = ["lanes", "credentials"].contains(&section);
        let table = if named { format!("{section}.x") } else { section.to_owned() };
        file.push_str(&format!("[{table}]\nstranger = 1\n"));
    }
    let path = folder.file("settings.toml", file);
    let said = Program::new(["check", "--config"]).arg(path).run().check(2).stderr;
    let mut keys = BTreeMap::new();
    for line in said.lines() {
        let Some((place, allowed)) = line.split_once("found the key \"stranger\", allowed are ") else { continue };
        let place = place.trim_end_matches([':', ' ']).rsplit(": ").next().unwrap();
        let section = if place.ends_with(".toml") { "" } else { place.trim_end_matches(".x") };
        keys.insert(section.to_owned(), allowed.split(", ").map(str::to_owned).collect());
    }
    assert_eq!(keys.get(""), Some(&SECTIONS.map(str::to_owned).into()), "{said}");
    keys.remove("");
    assert_eq!(keys.len(), SECTIONS.len(), "{said}");
    keys
}

#[test]
fn example_shows_all_settings_and_no_others() {
    let text = fs::read_to_string(of_repository("examples/imageshare.toml")).unwrap();
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
            shown.entry(section.clone()).or_default().insert(key.to_owned());
        }
    }
    assert_eq!(shown, keys());
}

#[test]
fn page_lists_all_settings_and_no_others() {
    let text = fs::read_to_string(of_repository("docs/jobs.md")).unwrap();
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

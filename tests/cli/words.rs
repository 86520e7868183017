//! Checks the language of the tree: phrases, the names of tests, and the names of public types.

use std::{collections::BTreeMap, fs};

use kit::{repository_files, repository_path};

/// Phrases that do not occur, in lower case, and what to write instead. A phrase matches whole words.
const PHRASES: [(&str, &str); 42] = [
    ("allowed are", "(expected WHAT)"),
    ("allowed is", "(expected WHAT)"),
    ("are told", "receive"),
    ("as wished", "requested"),
    ("at the least", "at least N"),
    ("became of", "outcome"),
    ("believed", "valid or trusted"),
    ("believes", "trusts"),
    ("come again", "are redelivered"),
    ("comes again", "is redelivered"),
    ("first design", "what is, and why; history belongs in commits"),
    ("found that", "the problem and (expected WHAT)"),
    ("go on without", "continue without"),
    ("goes back", "is requeued"),
    ("goes on without", "continues without"),
    ("how it went", "outcome"),
    ("is to be", "must"),
    ("is told", "receives"),
    ("it is wished", "requested"),
    ("knows", "has, caches or receives"),
    ("learns", "records or receives"),
    ("let found", "a name for what the value is"),
    ("let mut found", "a name for what the value is"),
    ("let these", "a name for what the value is"),
    ("let told", "a name for what the value is"),
    ("look again", "re-read"),
    ("looks again", "re-reads"),
    ("may be had", "available"),
    ("nobody", "the actor: no caller, no worker"),
    ("says", "states, shows or prints"),
    ("so many", "the number"),
    ("some(found)", "a name for what the value is"),
    ("some time", "the number or the name of the limit"),
    ("somebody", "the actor: a caller, a worker, the operator"),
    ("tells", "shows, or the receiver gets"),
    ("was told", "received"),
    ("who has it", "the listing"),
    ("whoever", "the actor: the caller, the worker, the operator"),
    ("whom", "the actor: the caller, the worker, the operator"),
    ("whose it is", "its owner"),
    ("wish", "request"),
    ("wished", "requested"),
];

/// The files of the tree that people read, with their text.
fn files() -> Vec<(String, String)> {
    let is_read = |name: &String| {
        let is_foreign = name.starts_with("LICENSE") || name.ends_with(".lock") || name == "fuzz/corpus.txt";
        !is_foreign && name != "tests/cli/words.rs"
    };
    let read = |name: String| Some((fs::read_to_string(repository_path(&name)).ok()?, name));
    repository_files("", "").into_iter().filter(is_read).filter_map(read).map(|(text, name)| (name, text)).collect()
}

/// Whether a line contains a phrase as whole words.
fn contains(line: &str, phrase: &str) -> bool {
    let is_end = |sign: Option<char>| !sign.is_some_and(char::is_alphanumeric);
    line.match_indices(phrase).any(|(at, _)| {
        let (before, behind) = (&line[..at], &line[at + phrase.len()..]);
        is_end(before.chars().next_back()) && is_end(behind.chars().next())
    })
}

/// Fails with all problems at once.
fn check(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn private_dialect_does_not_return() {
    let mut problems = Vec::new();
    for (name, text) in files() {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.to_lowercase();
            for (phrase, instead) in PHRASES.iter().filter(|(phrase, _)| contains(&line, phrase)) {
                problems.push(format!("{name}:{number}: \"{phrase}\": write {instead}"));
            }
        }
    }
    check(&problems);
}

#[test]
fn names_of_tests_are_short() {
    let mut problems = Vec::new();
    for (name, text) in files().into_iter().filter(|(name, _)| name.ends_with(".rs")) {
        let mut is_test = false;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let function = line.trim_start_matches("async ").strip_prefix("fn ").filter(|_| is_test);
            let Some((test, _)) = function.and_then(|rest| rest.split_once('(')) else { continue };
            is_test = false;
            if test.split('_').count() > 8 || test.len() > 60 {
                problems.push(format!("{name}:{number}: {test}: use at most 8 words and 60 characters"));
            }
        }
    }
    check(&problems);
}

/// Public types that share a name, and why they may.
const SHARED_NAMES: [(&str, &str); 9] = [
    ("Action", "core's trait of a signed call; the engine's request for one"),
    ("Failure", "core's refusal of a call; the engine's failure of an account"),
    ("Image", "core's entry of DescribeImages; the image in the sandbox's ledger"),
    ("ImageState", "core's state as listed; the ledger's state with its time"),
    ("Job", "the engine's job; the job as a message has it"),
    ("Permission", "core's SHARE and CANCEL; a job's, which may be SYNC"),
    ("Report", "the engine's outcomes; the report as a message has it"),
    ("Status", "the status of a worker; the status of a job in a report"),
    ("TimeOuts", "of the broker; of the HTTP client"),
];

#[test]
fn each_public_type_has_its_own_name() {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, text) in files() {
        let is_code = name.ends_with(".rs") && ["crates/", "bin/"].iter().any(|folder| name.starts_with(folder));
        for (number, line) in (1..).zip(text.lines()).filter(|_| is_code) {
            let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
            let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { continue };
            let end = rest.find(|sign: char| !sign.is_alphanumeric()).unwrap_or(rest.len());
            types.entry(rest[..end].to_owned()).or_default().push(format!("{name}:{number}"));
        }
    }
    assert!(types.len() > 200, "{} types", types.len());
    for (name, reason) in SHARED_NAMES {
        assert!(types.remove(name).is_some_and(|places| places.len() > 1), "{name}: no exception ({reason})");
    }
    types.retain(|_, places| places.len() > 1);
    let problem = |(name, places): (&String, &Vec<String>)| format!("{}: {name}: use another name", places.join(", "));
    check(&types.iter().map(problem).collect::<Vec<_>>());
}

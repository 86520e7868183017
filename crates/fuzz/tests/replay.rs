//! Replays the committed corpus of every target.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper of a test fails the test, as the test itself would"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use imageshare_fuzz::TARGETS;

/// Inputs per target. More cost time in every test run and cover no more edges.
const INPUTS_MAX: usize = 15;

/// Bytes of the whole corpus: every clone contains it.
const CORPUS_LEN_MAX: usize = 128 * 1024;

fn fuzz_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(path)
}

/// The inputs of each target with their lines in the corpus, whose first line describes the format. Panics if the corpus is
/// missing or malformed.
fn corpus() -> BTreeMap<String, BTreeMap<usize, Vec<u8>>> {
    let path = fuzz_path("corpus.txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut corpus: BTreeMap<String, BTreeMap<usize, Vec<u8>>> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#')) {
        let (target, input) = line.split_once(' ').unwrap();
        corpus.entry(target.to_owned()).or_default().insert(number, bytes(input));
    }
    corpus
}

/// Returns the bytes of an input.
fn bytes(line: &str) -> Vec<u8> {
    let mut parts = line.split('\\');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.strip_prefix('x').unwrap().split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend(rest.bytes());
    }
    bytes
}

#[test]
fn every_input_of_the_corpus_passes() {
    let corpus = corpus();
    for (target, check) in TARGETS {
        check(b"");
        for (line, input) in &corpus[target] {
            assert!(catch_unwind(AssertUnwindSafe(|| check(input))).is_ok(), "corpus.txt:{line}");
        }
    }
}

#[test]
fn every_target_has_corpus_and_binary() {
    let targets: BTreeSet<_> = TARGETS.map(|(name, _)| name.to_owned()).into();
    let manifest = fs::read_to_string(fuzz_path("Cargo.toml")).unwrap();
    let binaries = manifest.split("[[bin]]\nname = \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    assert_eq!(binaries.collect::<BTreeSet<_>>(), targets);
    assert_eq!(corpus().into_keys().collect::<BTreeSet<_>>(), targets);
}

#[test]
fn corpus_is_small_and_has_no_duplicates() {
    let mut len = 0;
    for (target, inputs) in corpus() {
        assert!(inputs.len() <= INPUTS_MAX, "{target}: {} inputs (expected at most {INPUTS_MAX})", inputs.len());
        len += inputs.values().map(Vec::len).sum::<usize>();
        let different: BTreeSet<_> = inputs.values().collect();
        assert_eq!(different.len(), inputs.len(), "{target}: duplicate inputs");
    }
    assert!(len <= CORPUS_LEN_MAX, "{len} bytes (expected at most {CORPUS_LEN_MAX})");
}

//! The committed corpus: what was once found stays mended, and each target has one.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use imageshare_fuzz::TARGETS;

/// Bytes of the whole corpus: it is cloned by everybody.
const CORPUS_LEN_MAX: u64 = 300 * 1024;

fn of_fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(path)
}

/// The files of a folder in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(folder: &str) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files(&of_fuzz(folder)).iter().map(stem).collect()
}

#[test]
fn what_was_found_once_is_found_no_more() {
    for (name, check) in TARGETS {
        let inputs = files(&of_fuzz("corpus").join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        check(b"");
        for path in inputs {
            let input = fs::read(&path).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| check(&input))).is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn each_target_has_a_corpus_and_calls_its_check() {
    let known: BTreeSet<_> = TARGETS.map(|(name, _)| name.to_owned()).into();
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
    for name in known {
        let target = fs::read_to_string(of_fuzz(&format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("|data: &[u8]| imageshare_fuzz::{name}(data)")), "{target}");
    }
}

#[test]
fn the_corpus_is_small() {
    let len = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let all: u64 =
        TARGETS.iter().flat_map(|(name, _)| files(&of_fuzz("corpus").join(name))).map(|path| len(&path)).sum();
    assert!(all <= CORPUS_LEN_MAX, "{all} bytes, allowed are {CORPUS_LEN_MAX}");
}

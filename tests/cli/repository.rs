//! Rules of the repository that no compiler keeps: which packages the pure crates may use, one TLS provider, licences,
//! and names that have no place here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, NodeDep, PackageId};

use kit::{files_of_repository, of_repository};

/// What the pure crates may be made of: hashing, parsing, wiping. Nothing that waits, reads, or asks for the time.
const PURE: [&str; 30] = [
    "base64",
    "block-buffer",
    "cfg-if",
    "cmov",
    "cpufeatures",
    "crypto-common",
    "ctutils",
    "digest",
    "hmac",
    "hybrid-array",
    "imageshare-core",
    "imageshare-engine",
    "imageshare-sandbox",
    "itoa",
    "memchr",
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "sha1",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "typenum",
    "unicode-ident",
    "zeroize",
    "zmij",
];

/// Licences that may be passed on with a program under MIT or Apache-2.0.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "BSL-1.0",
];

/// The packages for the platform that this runs on: cargo has these, and needs no network for them.
fn metadata() -> Metadata {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-vV").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let platform = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let options = ["--locked", "--offline", "--filter-platform", platform].map(str::to_owned).to_vec();
    MetadataCommand::new().manifest_path(of_repository("Cargo.toml")).other_options(options).exec().unwrap()
}

fn is_normal(dependency: &NodeDep) -> bool {
    dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
}

/// The names of all packages that a program has in it when it uses these.
fn reached(metadata: &Metadata, from: impl IntoIterator<Item = PackageId>) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut queue: VecDeque<PackageId> = from.into_iter().collect();
    let mut seen: BTreeSet<PackageId> = queue.iter().cloned().collect();
    while let Some(id) = queue.pop_front() {
        for dependency in nodes[&id].deps.iter().filter(|dependency| is_normal(dependency)) {
            if seen.insert(dependency.pkg.clone()) {
                queue.push_back(dependency.pkg.clone());
            }
        }
    }
    seen.iter().map(|id| metadata[id].name.to_string()).collect()
}

fn package(metadata: &Metadata, name: &str) -> PackageId {
    metadata.packages.iter().find(|package| package.name == name).unwrap().id.clone()
}

/// The packages that a crate of the workspace is built with, by cargo's own tree, which knows features.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(of_repository(""))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_pure_crates_are_made_of_what_is_allowed() {
    let allowed: BTreeSet<String> = PURE.map(str::to_owned).into();
    let mut used = BTreeSet::new();
    for crate_of in [
        vec!["--package", "imageshare-core"],
        vec!["--package", "imageshare-engine"],
        vec!["--package", "imageshare-sandbox", "--no-default-features"],
    ] {
        let found = tree(&crate_of);
        let strangers: Vec<_> = found.difference(&allowed).collect();
        assert!(strangers.is_empty(), "{crate_of:?} uses {strangers:?}");
        used.extend(found);
    }
    let idle: Vec<_> = allowed.difference(&used).collect();
    assert!(idle.is_empty(), "{idle:?} are allowed and not used any more");
}

#[test]
fn worker_and_sandbox_do_not_know_each_other_and_arrows_point_to_core() {
    let metadata = metadata();
    let uses = |from: &str, to: &str| {
        let found = reached(&metadata, [package(&metadata, from)]);
        found.contains(to)
    };
    assert!(!uses("imageshare-worker", "imageshare-sandbox"));
    assert!(!uses("imageshare-sandbox", "imageshare-worker"));
    assert!(!uses("imageshare-sandbox", "imageshare-engine"));
    assert!(!uses("imageshare-core", "imageshare-engine"));
    assert!(!uses("imageshare-engine", "imageshare-worker"));
}

#[test]
fn there_is_one_tls_provider() {
    // The lock file has the packages of every platform.
    let lock = fs::read_to_string(of_repository("Cargo.lock")).unwrap();
    let has = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));
    assert!(has("ring") && has("rustls"));
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!has(other), "{other}");
    }
}

#[test]
fn every_package_may_be_passed_on() {
    let metadata = metadata();
    let reached = reached(&metadata, [package(&metadata, "imageshare")]);
    for package in metadata.packages.iter().filter(|package| reached.contains(package.name.as_str())) {
        let licence = package.license.as_deref().unwrap_or_default().replace('/', " OR ");
        // Of alternatives one is enough; of parts all are needed.
        let is_allowed = licence.split(" AND ").all(|part| {
            part.trim_matches(['(', ')', ' '])
                .split(" OR ")
                .any(|one| LICENCES.contains(&one.trim_matches(['(', ')', ' '])))
        });
        assert!(is_allowed, "{} has the licence {licence:?}", package.name);
    }
}

#[test]
fn no_file_names_a_registrys_host_or_a_path_of_somebodys_machine() {
    // In two parts, so that this file does not hold them itself.
    let hosts = [("crates", ".io"), ("pypi", ".org"), ("pythonhosted", ".org"), ("npmjs", ".com"), ("mirrors", ".")];
    let paths = [("/ro", "ot/"), ("/wo", "rk/")];
    let files = files_of_repository("", "");
    assert!(files.len() > 50, "the repository has files");
    for name in files {
        // Cargo writes where each package comes from.
        if name.ends_with("Cargo.lock") {
            continue;
        }
        let text = fs::read(of_repository(&name)).unwrap();
        let text = String::from_utf8_lossy(&text);
        for (one, other) in hosts.iter().chain(&paths) {
            let forbidden = format!("{one}{other}");
            assert!(!text.contains(&forbidden), "{name} names {forbidden}");
        }
    }
}

/// The table of tests/README.md names tests by file and function.
#[test]
fn every_test_in_the_table_of_failures_exists() {
    let page = fs::read_to_string(of_repository("tests/README.md")).unwrap();
    let named: Vec<_> = page.split('`').filter_map(|text| text.split_once(".rs::")).collect();
    assert!(named.len() > 50, "{} tests are named", named.len());
    for (file, test) in named {
        let code = fs::read_to_string(of_repository(&format!("{file}.rs"))).unwrap_or_default();
        let before = code.find(&format!("fn {test}(")).and_then(|at| code.get(..at));
        let marks = |line: &str| line.trim().starts_with("#[") && line.contains("test");
        assert!(before.is_some_and(|before| before.lines().rev().take(3).any(marks)), "{file}.rs has no test {test}");
    }
}

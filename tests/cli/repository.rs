//! Rules of the repository that the compiler does not check: packages of the pure crates, dependencies between crates, one TLS
//! provider, licenses, forbidden names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use kit::{repository_files, repository_path};

/// The packages that the pure crates may use: hashing, parsing, wiping. None does I/O or reads the time.
const PURE: &str = "
    base64 block-buffer cfg-if cmov cpufeatures crypto-common ctutils digest hmac hybrid-array imageshare-core
    imageshare-engine imageshare-sandbox itoa memchr proc-macro2 quote serde serde_core serde_derive serde_json sha1 sha2
    syn thiserror thiserror-impl typenum unicode-ident zeroize zmij";

/// Returns the dependencies of a crate and their licenses, from `cargo tree`.
fn tree(package: &str, features: &[&str]) -> BTreeMap<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(repository_path(""))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{l}|"])
        .args(["--package", package])
        .args(features)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let packages = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let (package, rest) = line.split_once('|').unwrap();
        let (license, _) = rest.split_once('|').unwrap();
        (package.split(' ').next().unwrap().to_owned(), license.to_owned())
    });
    packages.collect()
}

#[test]
fn pure_crates_are_made_of_what_is_allowed() {
    let allowed: BTreeSet<String> = PURE.split_whitespace().map(str::to_owned).collect();
    let crates = [
        tree("imageshare-core", &[]),
        tree("imageshare-engine", &[]),
        tree("imageshare-sandbox", &["--no-default-features"]),
    ];
    let used: BTreeSet<String> = crates.into_iter().flat_map(BTreeMap::into_keys).collect();
    assert_eq!(used, allowed);
}

#[test]
fn crates_know_each_other_in_one_direction_only() {
    for (from, to) in [
        ("imageshare-worker", "imageshare-sandbox"),
        ("imageshare-sandbox", "imageshare-worker"),
        ("imageshare-sandbox", "imageshare-engine"),
        ("imageshare-core", "imageshare-engine"),
        ("imageshare-engine", "imageshare-worker"),
        ("imageshare-amqp", "imageshare-engine"),
        ("imageshare-amqp", "imageshare-worker"),
    ] {
        assert!(!tree(from, &[]).contains_key(to), "{from} uses {to}");
    }
}

#[test]
fn ring_is_the_one_tls_provider() {
    // The lock file includes the packages of every platform.
    let lock = fs::read_to_string(repository_path("Cargo.lock")).unwrap();
    let has = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));
    assert!(has("ring") && has("rustls"));
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!has(other), "{other}");
    }
}

#[test]
fn every_package_may_be_redistributed() {
    let deny = fs::read_to_string(repository_path("deny.toml")).unwrap();
    let (_, rest) = deny.split_once("\nallow = [\n").unwrap();
    let allowed: BTreeSet<_> = rest.split_once(']').unwrap().0.split('"').skip(1).step_by(2).collect();
    for (package, license) in tree("imageshare", &[]) {
        let license = license.replace('/', " OR ");
        let is_allowed = |name: &str| allowed.contains(name.trim_matches(['(', ')', ' ']));
        // One alternative suffices; every conjunct is needed.
        let is_free = license.split(" AND ").all(|part| part.split(" OR ").any(is_allowed));
        assert!(is_free, "{package} has the license {license:?}");
    }
}

#[test]
fn no_file_names_registry_or_private_path() {
    // In two parts, so that this file does not contain them.
    let forbidden = [
        ("crates", ".io"),
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("npmjs", ".com"),
        ("mirrors", "."),
        ("/ro", "ot/"),
        ("/wo", "rk/"),
    ];
    // Cargo writes the registry, and git the path of a worktree.
    let is_checked = |name: &String| name != ".git" && !name.ends_with("Cargo.lock");
    for name in repository_files("", "").into_iter().filter(is_checked) {
        let text = fs::read(repository_path(&name)).unwrap();
        let text = String::from_utf8_lossy(&text);
        for (one, other) in forbidden {
            assert!(!text.contains(&format!("{one}{other}")), "{name} names {one}{other}");
        }
    }
}

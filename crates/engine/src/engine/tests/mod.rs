//! The rules one by one, driven by hand. What they do together, the simulation shows.

use alloc::vec::Vec;

mod busy;
mod doubt;
mod fault;
mod key;
mod kit;
mod lane;
mod listing;
mod numbers;
mod order;
mod pace;
mod quota;
mod split;
mod sync;

/// That the tests exist is looked at where all pages are.
#[test]
fn rules_are_short_and_name_test() {
    for rule in include_str!("../../rules.md").split("\n## ").skip(1) {
        let lines: Vec<_> = rule.trim().lines().collect();
        let name = lines[0];
        assert!(lines.len() <= 2 + 8, "{name} is too long");
        assert!(rule.contains(".rs::"), "{name} names no test");
    }
}

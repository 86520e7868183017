//! How large the scenarios are: so large that the ordinary run ends in a few minutes, or in full.
//!
//! `SIZE=full` makes them full, `TIMES` makes them so many times larger, `SEED` gives them other numbers; `tests/chaos`
//! sets all three.

/// Returns the first number in an ordinary run, the second in a full one, and `TIMES` as much.
pub fn size(ordinary: u64, full: u64) -> u64 {
    let size = match std::env::var("SIZE").as_deref() {
        Err(_) | Ok("ordinary") => ordinary,
        Ok("full") => full,
        Ok(other) => panic!("SIZE: invalid value {other:?} (expected ordinary or full)"),
    };
    size * number("TIMES").unwrap_or(1)
}

/// What makes the numbers of this run others than those of the next one.
pub fn seed() -> u64 {
    number("SEED").unwrap_or_default()
}

/// A number of the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")))
}

//! The real engine against the ledger in virtual time, with faults and a checker. One seed is one history.

pub mod checker;
pub mod random;
pub mod run;
pub mod world;

#[cfg(test)]
mod tests;

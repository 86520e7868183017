//! Settings: one file, the environment and flags become checked values that remember where they came from.

mod environment;

pub use environment::{Environment, NotUtf8};

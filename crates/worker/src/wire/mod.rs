//! The wire formats of jobs and reports.

mod mode;
mod raw;
mod rejection;

pub mod job;

pub use job::{Defaults, Identity, Job};
pub use mode::{Permission, PermissionError};
pub use rejection::{Known, Rejection};

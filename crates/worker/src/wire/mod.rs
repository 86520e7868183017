//! The wire formats of jobs and reports, and of the files that hold them.

mod accounts;
mod documents;
mod images;
mod lines;
mod mode;
mod reader;
mod rejection;
mod rows;
mod sheet;
mod value;

pub mod job;
pub mod report;
pub mod schema;

pub use accounts::{AccountsError, AccountsFile, read_accounts};
pub use images::{IMAGES_MAX, Images, ImagesError, JobImage};
pub use job::{Defaults, Identity, Job};
pub use mode::{Permission, PermissionError};
pub use reader::{Format, JobLine, JobReader};
pub use rejection::{Known, Place, Rejection};
pub use report::Report;

//! Ids of accounts, images, regions and requests. Validated once, at the edge, and `Copy`.

mod account;
mod image;
mod inline;
mod region;
mod request;

pub use account::{AccountId, AccountIdError};
pub use image::{ImageId, ImageIdError};
pub use region::{KNOWN_REGIONS, Region, RegionError};
pub use request::RequestId;

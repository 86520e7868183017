//! The names of things: accounts, images, regions, requests. Parsed once at the edge, `Copy` and checked from then on.

mod account;
mod image;
mod inline;
mod region;
mod request;

pub use account::{AccountId, AccountIdError};
pub use image::{ImageId, ImageIdError};
pub use region::{Region, RegionError};
pub use request::RequestId;

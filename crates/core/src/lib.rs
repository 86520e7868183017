#![doc = "The protocol of the Tencent Cloud API 3.0 as far as sharing images needs it, without IO."]
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod permission;
mod scalar;

pub mod actions;
pub mod code;
pub mod credential;
pub mod ids;
pub mod params;
pub mod response;
pub mod text;
pub mod time;

pub use code::Class;
pub use credential::Credential;
pub use permission::Permission;
pub use time::UnixSeconds;

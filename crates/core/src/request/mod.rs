//! From an action to a signed request: prepared once, signed at the moment of sending and again for every retry.
//!
//! The canonical request holds no time, so [`prepare`] does everything that depends on the size of the request, and
//! [`Signer::sign`] costs the same for every size. Both run the stages of [`tc3`](crate::tc3). With buffers that were used
//! before, neither allocates.
//!
//! The vendor describes the headers on the page
//! [Common Params (213/31574)](https://www.tencentcloud.com/document/product/213/31574).

mod host;
mod prepared;
mod signer;

use core::fmt;

pub use self::{
    host::{Host, HostError},
    prepared::{Prepared, prepare},
    signer::{Signer, Stamp},
};
use crate::{
    credential::{REDACTED, Token},
    ids::Region,
    tc3::Method,
};

/// The content type, to the byte: an HTTP library that adds a charset breaks the signature.
pub const CONTENT_TYPE: &str = "application/json";

/// The headers that are signed. Signing the action is not demanded but binds it to the signature.
pub const SIGNED_HEADERS: &str = "content-type;host;x-tc-action";

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The host, such as `cvm.tencentcloudapi.com`.
    pub host: Host<'a>,
    /// The region of the image.
    pub region: Option<Region>,
    /// The language of messages, where the service translates them.
    pub language: Option<Language>,
}

/// A language of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// The default of the China site.
    Chinese,
    /// English.
    English,
}

/// A request ready for any HTTP client: method, path, headers, body.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    prepared: &'a Prepared,
    stamp: &'a Stamp,
    token: Option<&'a Token>,
}

impl Language {
    /// The header `X-TC-Language`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en-US",
        }
    }
}

impl<'a> SignedRequest<'a> {
    /// The HTTP method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        Method::Post.as_str()
    }

    /// The path.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        "/"
    }

    /// Returns every header that the API requires. `Authorization` and `X-TC-Token` must not be logged.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let Self { prepared, stamp, token } = *self;
        // Each header when it is asked for: an array of all of them would be copied to the caller.
        (0..9).filter_map(move |place| match place {
            0 => Some(("Authorization", stamp.authorization.as_str())),
            1 => Some(("Content-Type", CONTENT_TYPE)),
            2 => Some(("Host", prepared.host.as_str())),
            3 => Some(("X-TC-Action", prepared.action)),
            4 => Some(("X-TC-Version", prepared.version)),
            5 => Some(("X-TC-Timestamp", stamp.timestamp.as_str())),
            6 => prepared.region.as_ref().map(|region| ("X-TC-Region", region.as_str())),
            7 => prepared.language.map(|language| ("X-TC-Language", language.as_str())),
            _ => token.map(|token| ("X-TC-Token", token.expose())),
        })
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.prepared.body
    }
}

impl fmt::Debug for SignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.headers().map(|(name, value)| match name {
            "Authorization" | "X-TC-Token" => (name, REDACTED),
            _ => (name, value),
        });
        f.debug_map().entries(shown).entry(&"body_len", &self.body().len()).finish()
    }
}

#[cfg(test)]
mod tests;

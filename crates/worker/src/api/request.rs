//! A signed request in the form that the HTTP client takes.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use imageshare_core::request::SignedRequest;

/// The name of this client in the header `X-TC-RequestClient`.
const CLIENT_TAG: &str = concat!("imageshare_", env!("CARGO_PKG_VERSION"));

/// Returns the request for this address.
pub(super) fn into_http(signed: &SignedRequest<'_>, uri: &Uri) -> Request<Bytes> {
    let mut request = Request::post(uri.clone());
    for (name, value) in signed.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the names of the API's headers are valid");
        let mut value =
            HeaderValue::from_str(value).expect("headers are made of checked parts, all of them visible ASCII");
        value.set_sensitive(name == header::AUTHORIZATION || name == "x-tc-token");
        request = request.header(name, value);
    }
    request
        .header("x-tc-requestclient", CLIENT_TAG)
        .body(Bytes::copy_from_slice(signed.body()))
        .expect("the address comes from a checked endpoint, and every header was checked")
}

//! Where a process serves its status and metrics.

use std::net::SocketAddr;

use super::{
    resolver::section,
    values::{Invalid, Parser},
};

section! {
    /// Where a process serves its status and metrics.
    AdminSettings from RawAdmin () {
        /// Where a worker listens for requests of its status and metrics; if unset, it does not listen (`run` has
        /// `--metrics`)
        listen: Option<SocketAddr> = None, address().optional(), variables &["IMAGESHARE_ADMIN"], flag "--admin";
    }
}

fn address() -> Parser<SocketAddr> {
    Parser::of_text("an address and a port, such as 127.0.0.1:9701", |text| text.parse().map_err(|_| Invalid::Value))
}

//! Where a process serves its status and metrics.

use std::net::SocketAddr;

use super::{
    resolver::section,
    values::{Invalid, Parser, word},
};
use crate::admin::Readiness;

section! {
    /// Where a process serves its status and metrics.
    AdminSettings from RawAdmin () {
        /// Where a worker listens for requests of its status and metrics; if unset, it does not listen (`run` has
        /// `--metrics`)
        listen: Option<SocketAddr> = None, address().optional(), variables &["IMAGESHARE_ADMIN"], flag "--admin";
        /// What `/readyz` requires: `broker`, a process that works and is connected to the broker; `lanes`, besides, that every
        /// lane can work
        readiness: Readiness = Readiness::default(), readiness(), variables &["IMAGESHARE_READINESS"];
    }
}

fn address() -> Parser<SocketAddr> {
    Parser::of_text("an address and a port, such as 127.0.0.1:9701", |text| text.parse().map_err(|_| Invalid::Value))
}

fn readiness() -> Parser<Readiness> {
    word(Readiness::ALL.map(|readiness| (readiness.as_str().to_owned(), readiness)))
}

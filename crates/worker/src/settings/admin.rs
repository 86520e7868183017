//! Where a process answers what is asked about it.

use std::net::SocketAddr;

use imageshare_core::disclosure::disclosed;

use super::{
    choices::Choices,
    file::Section,
    origin::{Given, Setting},
};

/// Where to listen for status and metrics; nothing listens unless somebody says where. `outside` is what the environment
/// and the flags give.
pub(super) fn read(
    mut section: Section,
    outside: Vec<Given>,
    choices: &mut Choices<'_>,
) -> (Option<SocketAddr>, Option<Setting>) {
    let listen = section.take("listen", &mut choices.problems).into_iter().chain(outside).collect();
    section.finish("listen", &mut choices.problems);
    choices.choose_any("admin.listen", listen, address).unzip()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("found {}, allowed is an address and a port, such as 127.0.0.1:9701", disclosed(text)))
}

//! The metadata service of an instance: the name of its role, and the role's temporary key.

use http::{Method, Response, StatusCode, request::Parts};

use super::{Shared, api::page, payload::Payload, state::Decision};

/// Where all of it is.
pub(super) const PATH: &str = "/latest/meta-data/";

/// Where the role is, below that.
const ROLE: &str = "cam/security-credentials/";

/// What an instance asked for.
pub(super) enum Found {
    /// A page of its own.
    Page(Response<Payload>),
    /// The key of its role.
    Key(Decision),
}

/// Answers a request of a path below [`PATH`].
pub(super) fn answer(shared: &Shared, path: &str, parts: &Parts) -> Found {
    let mut state = shared.lock();
    let role = state.instance_role().map(|role| role.name.clone());
    let text = |status, text: String| Found::Page(page(status, "text/plain", Payload::whole(text)));
    let (Some(role), &Method::GET) = (role, &parts.method) else {
        return text(StatusCode::NOT_FOUND, "not found".to_owned());
    };
    match path.strip_prefix(ROLE) {
        Some("") => text(StatusCode::OK, role),
        Some(name) if name == role => {
            let now = shared.now();
            Found::Key(state.decide_instance_role(now))
        }
        Some(_) | None => text(StatusCode::NOT_FOUND, "not found".to_owned()),
    }
}

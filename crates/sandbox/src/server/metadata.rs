//! The metadata service of an instance.

use http::{Method, Response, StatusCode, request::Parts};

use super::{Shared, api::page, payload::Payload, state::Decision};

/// The root of all paths.
pub(super) const PATH: &str = "/latest/meta-data/";

/// The path of the role, below [`PATH`].
const ROLE: &str = "cam/security-credentials/";

/// A response of the metadata service.
pub(super) enum Answer {
    /// A page.
    Page(Response<Payload>),
    /// The temporary key of the role.
    Key(Decision),
}

/// Answers a request for a path below [`PATH`].
pub(super) fn answer(shared: &Shared, path: &str, parts: &Parts) -> Answer {
    let mut state = shared.lock();
    let role = state.instance_role().map(|role| role.name.clone());
    let text = |status, text: String| Answer::Page(page(status, "text/plain", Payload::whole(text)));
    let (Some(role), &Method::GET) = (role, &parts.method) else {
        return text(StatusCode::NOT_FOUND, "not found".to_owned());
    };
    match path.strip_prefix(ROLE) {
        Some("") => text(StatusCode::OK, role),
        Some(name) if name == role => {
            let now = shared.now();
            Answer::Key(state.decide_instance_role(now))
        }
        Some(_) | None => text(StatusCode::NOT_FOUND, "not found".to_owned()),
    }
}

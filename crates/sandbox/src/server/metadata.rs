//! The metadata service of an instance. The instance and its attributes are the same in every world, except its role.

use http::{Method, Response, StatusCode, request::Parts};

use super::{Shared, api::page, payload::Payload, state::Decision};

/// The root of all paths.
pub(super) const PATH: &str = "/latest/meta-data/";

/// The path of the role, below [`PATH`].
const ROLE: &str = "cam/security-credentials/";

/// The documented paths below [`PATH`] with their values. The instance is in no scaling group and neither prepaid nor a spot
/// instance, so it lacks `as-group-id`, `payment/termination-time` and `spot/termination-time`.
const PAGES: [(&str, &str); 25] = [
    ("app-id", "1250000000"),
    ("instance-id", "ins-8o2kqd1x"),
    ("instance-name", "imageshare-sandbox"),
    ("instance/bandwidth-limit-egress", "100000"),
    ("instance/image-id", "img-6pb6lrmy"),
    ("instance/instance-type", "S5.MEDIUM4"),
    ("instance/security-group", "sg-4fztlopx"),
    ("local-ipv4", "10.0.0.4"),
    ("mac", "52:54:00:12:34:56"),
    ("network/interfaces/macs/52:54:00:12:34:56/local-ipv4s/10.0.0.4/gateway", "10.0.0.1"),
    ("network/interfaces/macs/52:54:00:12:34:56/local-ipv4s/10.0.0.4/local-ipv4", "10.0.0.4"),
    ("network/interfaces/macs/52:54:00:12:34:56/local-ipv4s/10.0.0.4/public-ipv4", "203.0.113.4"),
    ("network/interfaces/macs/52:54:00:12:34:56/local-ipv4s/10.0.0.4/public-ipv4-mode", "NAT"),
    ("network/interfaces/macs/52:54:00:12:34:56/local-ipv4s/10.0.0.4/subnet-mask", "255.255.255.0"),
    ("network/interfaces/macs/52:54:00:12:34:56/mac", "52:54:00:12:34:56"),
    ("network/interfaces/macs/52:54:00:12:34:56/primary-local-ipv4", "10.0.0.4"),
    ("network/interfaces/macs/52:54:00:12:34:56/public-ipv4s", "203.0.113.4"),
    ("network/interfaces/macs/52:54:00:12:34:56/subnet-id", "subnet-e1gnlaw2"),
    ("network/interfaces/macs/52:54:00:12:34:56/vpc-id", "vpc-5lz2f7j0"),
    ("payment/charge-type", "POSTPAID_BY_HOUR"),
    ("payment/create-time", "2026-11-02 16:15:30"),
    ("placement/region", "ap-singapore"),
    ("placement/zone", "ap-singapore-1"),
    ("public-ipv4", "203.0.113.4"),
    ("uuid", "5b2c1c3a-6a2b-4c5a-9d3e-2f1b0a9c8d7e"),
];

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
    if parts.method != Method::GET {
        return text(StatusCode::NOT_FOUND, "not found".to_owned());
    }
    if let Some(role) = role {
        match path.strip_prefix(ROLE) {
            Some("") => return text(StatusCode::OK, role),
            Some(name) if name == role => {
                let now = shared.now();
                return Answer::Key(state.decide_instance_role(now));
            }
            _ => {}
        }
    }
    match look_up(path) {
        Some(value) => text(StatusCode::OK, value),
        None => text(StatusCode::NOT_FOUND, "not found".to_owned()),
    }
}

/// Returns the value of a path, or the entries of a folder, one per line.
fn look_up(path: &str) -> Option<String> {
    if let Some((_, value)) = PAGES.iter().find(|(page, _)| *page == path) {
        return Some((*value).to_owned());
    }
    let folder = if path.is_empty() || path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    let mut entries: Vec<&str> = PAGES
        .iter()
        .filter_map(|(page, _)| page.strip_prefix(&*folder))
        .map(|rest| rest.split_once('/').map_or(rest, |(entry, _)| rest.get(..=entry.len()).unwrap_or(entry)))
        .collect();
    entries.dedup();
    (!entries.is_empty()).then(|| entries.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_folders_are_listed() {
        assert_eq!(look_up("placement/region").as_deref(), Some("ap-singapore"));
        assert_eq!(look_up("placement/").as_deref(), Some("region\nzone"));
        assert_eq!(look_up("placement").as_deref(), Some("region\nzone"));
        let address = "network/interfaces/macs/52:54:00:12:34:56/local-ipv4s/10.0.0.4";
        assert_eq!(
            look_up(address).as_deref(),
            Some("gateway\nlocal-ipv4\npublic-ipv4\npublic-ipv4-mode\nsubnet-mask")
        );
        assert!(look_up("").unwrap().starts_with("app-id\ninstance-id\ninstance-name\ninstance/\nlocal-ipv4\n"));
        for path in ["placement/other", "place", "/", "cam/"] {
            assert_eq!(look_up(path), None, "{path}");
        }
    }
}

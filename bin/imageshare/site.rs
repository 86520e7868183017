//! The two sites of the vendor. A key of one site is invalid at the endpoints of the other.

use imageshare_core::Class;
use imageshare_worker::endpoint::Endpoint;

/// Returns a hint if the endpoint refused the key, which may belong to the other site.
pub(crate) fn hint(class: Option<Class>, endpoint: &Endpoint) -> Option<String> {
    if class != Some(Class::Credential) {
        return None;
    }
    let host = endpoint.host();
    let (here, there, other) = if host.ends_with(".intl.tencentcloudapi.com") {
        ("international", "mainland", "https://cvm.tencentcloudapi.com")
    } else if host.ends_with(".tencentcloudapi.com") && !host.ends_with(".internal.tencentcloudapi.com") {
        ("mainland", "international", "https://cvm.intl.tencentcloudapi.com")
    } else {
        return None;
    };
    Some(format!("{host} accepts keys of the {here} site; for a key of the {there} site use --endpoint {other}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(endpoint: &str, class: Class, expected: Option<&str>) {
        let hint = hint(Some(class), &endpoint.parse().unwrap());
        assert_eq!(hint.is_some(), expected.is_some(), "{hint:?}");
        assert!(expected.is_none_or(|expected| hint.unwrap().ends_with(expected)));
    }

    #[test]
    fn refused_key_gets_hint_about_other_site() {
        check("cvm.intl.tencentcloudapi.com", Class::Credential, Some("--endpoint https://cvm.tencentcloudapi.com"));
        let international = Some("--endpoint https://cvm.intl.tencentcloudapi.com");
        check("cvm.tencentcloudapi.com", Class::Credential, international);
        check("cvm.ap-guangzhou.tencentcloudapi.com", Class::Credential, international);
        check("cvm.internal.tencentcloudapi.com", Class::Credential, None);
        check("http://127.0.0.1:9700", Class::Credential, None);
        check("cvm.intl.tencentcloudapi.com", Class::Permission, None);
    }
}

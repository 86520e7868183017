//! Host names: which ones the sandbox serves as a proxy, and which product they name.

use std::net::IpAddr;

use imageshare_core::ids::Region;

use crate::actions::Product;

/// The domains of the API.
const DOMAINS: [&str; 3] = ["tencentcloudapi.com", "tencentcloudapi.cn", "tencentcloudapi.com.cn"];

/// The host of the metadata service.
const METADATA: &str = "metadata.tencentyun.com";

/// Returns the names without a region, for a certificate: those of the API, of the metadata service and of this machine.
pub(super) fn certificate_names() -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1", METADATA].map(ToOwned::to_owned).to_vec();
    for product in Product::API.map(Product::name) {
        names.push(format!("{product}.localhost"));
        names.extend(DOMAINS.iter().map(|domain| format!("{product}.{domain}")));
        names.extend(["intl", "internal"].map(|site| format!("{product}.{site}.tencentcloudapi.com")));
    }
    names
}

/// Whether a name belongs to the API or to the metadata service: `PRODUCT.DOMAIN`, with `intl`, `internal`, a region, or
/// a region and `intl` in between.
pub(super) fn is_service(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let product = DOMAINS.iter().find_map(|domain| name.strip_suffix(domain)?.strip_suffix('.'));
    let is_api = product.is_some_and(|name| {
        let labels: Vec<&str> = name.split('.').collect();
        let is_product = |label: &str| Product::API.iter().any(|product| product.name() == label);
        let is_region = |label: &str| label.parse::<Region>().is_ok();
        match labels.as_slice() {
            [product] | [product, "intl" | "internal"] => is_product(product),
            [product, region] | [product, region, "intl"] => is_product(product) && is_region(region),
            _ => false,
        }
    });
    is_api || name == METADATA
}

/// Returns a `Host` header without its port, if it has one.
pub(crate) fn without_port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    // The last group of an IPv6 address without brackets is not a port.
    let is_name = !name.contains(':') || name.ends_with(']');
    (is_port && is_name).then_some(name)
}

/// Whether the service of a credential scope is only the beginning of an address.
///
/// The SDKs for Java, PHP, C++, Ruby and Node take the service from the configured endpoint, up to its first dot. With an
/// address or `localhost` that is not a product.
pub(super) fn is_cut_from_address(service: &str, host: &str) -> bool {
    let name = without_port(host).unwrap_or(host);
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let is_address = name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok();
    is_address && [host, name].iter().any(|host| host.split('.').next() == Some(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_and_metadata_names_are_served() {
        for name in [
            "cvm.tencentcloudapi.com",
            "CVM.TencentCloudAPI.com",
            "sts.intl.tencentcloudapi.com",
            "cvm.internal.tencentcloudapi.com",
            "cvm.ap-singapore.tencentcloudapi.com",
            "cvm.ap-shanghai-fsi.tencentcloudapi.com",
            "sts.na-ashburn.intl.tencentcloudapi.com",
            "cvm.tencentcloudapi.cn",
            "sts.tencentcloudapi.com.cn",
            "metadata.tencentyun.com",
        ] {
            assert!(is_service(name), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_served() {
        for name in [
            "",
            "tencentcloudapi.com",
            ".tencentcloudapi.com",
            "cvmtencentcloudapi.com",
            "cos.tencentcloudapi.com",
            "cvm.tencentcloudapi.com.",
            "cvm.tencentcloudapi.com.example.com",
            "x.cvm.tencentcloudapi.com",
            "cvm.Mars_1.tencentcloudapi.com",
            "cvm.ap-singapore.internal.tencentcloudapi.com",
            "metadata.tencentyun.com.evil.example",
            "localhost",
            "169.254.0.23",
        ] {
            assert!(!is_service(name), "{name}");
        }
    }

    #[test]
    fn ports_are_removed_from_names_and_addresses() {
        assert_eq!(without_port("127.0.0.1:9700"), Some("127.0.0.1"));
        assert_eq!(without_port("[::1]:9700"), Some("[::1]"));
        for host in ["cvm.localhost", "[::1]", "::1", "cvm.localhost:", "cvm.localhost:x", ""] {
            assert_eq!(without_port(host), None, "{host}");
        }
    }

    #[test]
    fn services_cut_from_addresses_are_recognized() {
        for (service, host) in [
            ("127", "127.0.0.1:9700"),
            ("127", "127.0.0.1"),
            ("localhost", "localhost:9700"),
            ("localhost:9700", "localhost:9700"),
            ("[::1]:9700", "[::1]:9700"),
            ("[::1]", "[::1]:9700"),
        ] {
            assert!(is_cut_from_address(service, host), "{service} of {host}");
        }
        for (service, host) in
            [("128", "127.0.0.1:9700"), ("cbs", "cbs.localhost"), ("sandbox", "sandbox:9700"), ("", ""), ("cvm", "x")]
        {
            assert!(!is_cut_from_address(service, host), "{service} of {host}");
        }
    }
}

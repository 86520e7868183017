//! How the API is reached: time-outs, trust, proxy.

use std::{path::PathBuf, time::Duration};

use super::{
    error::SettingsProblem,
    resolver::{SettingsResolver, section},
    setting::{Setting, SettingOrigin},
    values::{Parser, duration, file_path, parsed, shown},
};
use crate::{
    http::{NetworkSettings, NoProxy, Proxy, TimeOuts},
    tls::Trust,
};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

section! {
    /// How the API is reached.
    HttpSettings from RawHttp () {
        /// For a connection, including the proxy's tunnel and TLS; at most `http.call_timeout`. A DNS lookup may take
        /// `http.call_timeout` minus this time, or half of `http.call_timeout` if that is longer
        connect_timeout: Duration = TimeOuts::default().connect, duration(TENTH..=60 * SECOND);
        /// For a whole call; a worker takes at most `broker.heartbeat`
        call_timeout: Duration = TimeOuts::default().call, duration(TENTH..=600 * SECOND);
        /// Authorities to trust instead of the root certificates of this machine, or of those that `SSL_CERT_FILE` names
        ca_file: Option<PathBuf> = None, file_path("a PEM file with certificates").optional();
        /// A proxy that makes tunnels (CONNECT) for TLS; [below](#proxy)
        proxy: Option<Proxy> = None, proxy().optional(), variables &["HTTPS_PROXY", "https_proxy"];
        /// Hosts that are reached without the proxy; [below](#proxy)
        no_proxy: Option<NoProxy> = None, parsed(NoProxy::EXPECTED).optional(), variables &["NO_PROXY", "no_proxy"];
    }
}

impl HttpSettings {
    /// Records a connection that may take longer than the whole call. The value that was set is at fault.
    pub(super) fn check(&self, resolver: &mut SettingsResolver<'_>) {
        let Self { connect_timeout: connect, call_timeout: call, .. } = self;
        if connect.value <= call.value {
            return;
        }
        let (key, at_fault, limit): (_, &Setting<Duration>, _) = match connect.origin {
            SettingOrigin::Default => {
                ("call_timeout", call, format!("at least http.connect_timeout, {}", shown(connect.value)))
            }
            _ => ("connect_timeout", connect, format!("at most http.call_timeout, {}", shown(call.value))),
        };
        let fault = format!("invalid value {}", shown(at_fault.value));
        resolver.report(SettingsProblem::of_key(at_fault.origin.clone(), format!("http.{key}"), fault, limit));
    }

    pub(super) fn time_outs(&self) -> TimeOuts {
        TimeOuts { connect: self.connect_timeout.value, call: self.call_timeout.value }
    }

    /// Returns which network a client reaches: the trust and the proxy.
    pub(super) fn outside(&self) -> NetworkSettings {
        let trust = Trust { ca_file: self.ca_file.value.clone(), client: None };
        let except = self.no_proxy.value.clone().unwrap_or_default();
        NetworkSettings { trust, proxy: self.proxy.value.clone().map(|proxy| proxy.with_exceptions(except)) }
    }
}

fn proxy() -> Parser<Proxy> {
    parsed(Proxy::EXPECTED)
}

//! Limits of the engine and time-outs of the HTTP client.

use std::time::Duration;

use imageshare_engine::{
    limits::{LimitValues, Limits},
    time::Millis,
};

use super::{
    choices::Choices,
    file::Section,
    origin::{Given, Origin, Setting},
    values::{FilePath, duration, file_path, whole},
};
use crate::{
    http::{NetworkSettings, NoProxy, Proxy, TimeOuts},
    tls::Trust,
};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

pub(super) fn read_engine(mut section: Section, choices: &mut Choices<'_>) -> (LimitValues, Vec<Setting>) {
    let mut take = |key: &str| section.take(key, &mut choices.problems).into_iter().collect::<Vec<_>>();
    let (attempts, cap, image_wait) = (take("attempts"), take("cap"), take("image_wait"));
    let (mut write_lag, mut read_lag) = (take("write_lag"), take("read_lag"));
    section.finish("attempts, cap, write_lag, read_lag, image_wait", &mut choices.problems);
    write_lag.extend(choices.variable("IMAGESHARE_WRITE_LAG"));
    read_lag.extend(choices.variable("IMAGESHARE_READ_LAG"));

    let limits = LimitValues::default();
    let key = |key: &str| format!("engine.{key}");
    let of_millis = |length: Millis| Duration::from_millis(length.0);
    let attempts = choices.choose(key("attempts"), limits.attempts, attempts, |text| whole(text, 1..=100, "tries"));
    let cap = choices.choose(key("cap"), limits.cap, cap, |text| whole(text, 1..=100_000, "accounts an image"));
    let write_lag = choices.choose(key("write_lag"), of_millis(limits.write_lag), write_lag, |text| {
        duration(text, Duration::ZERO..=3_600 * SECOND)
    });
    let read_lag = choices.choose(key("read_lag"), of_millis(limits.read_lag), read_lag, |text| {
        duration(text, Duration::ZERO..=600 * SECOND)
    });
    let image_wait = choices.choose(key("image_wait"), of_millis(limits.image_wait), image_wait, |text| {
        duration(text, SECOND..=7 * 86_400 * SECOND)
    });
    let values = LimitValues {
        attempts: attempts.0,
        cap: cap.0,
        write_lag: to_millis(write_lag.0),
        read_lag: to_millis(read_lag.0),
        image_wait: to_millis(image_wait.0),
        image_wait_blocked: limits.image_wait_blocked.min(to_millis(image_wait.0)),
        ..limits
    };
    if let Err(error) = Limits::new(values.clone()) {
        choices.problems.push(format!("engine.{error}"));
    }
    (values, vec![attempts.1, cap.1, write_lag.1, read_lag.1, image_wait.1])
}

/// How the API is reached: the time-outs, whom to trust, and by which proxy.
pub(super) fn read_http(mut section: Section, choices: &mut Choices<'_>) -> (TimeOuts, NetworkSettings, Vec<Setting>) {
    let mut take = |key: &str| section.take(key, &mut choices.problems).into_iter().collect::<Vec<_>>();
    let (connect, call, ca_file) = (take("connect_timeout"), take("call_timeout"), take("ca_file"));
    section.finish("connect_timeout, call_timeout, ca_file", &mut choices.problems);
    let default = TimeOuts::default();
    let connect = choices.choose("http.connect_timeout".to_owned(), default.connect, connect, |text| {
        duration(text, TENTH..=60 * SECOND)
    });
    let call =
        choices.choose("http.call_timeout".to_owned(), default.call, call, |text| duration(text, TENTH..=600 * SECOND));
    if connect.0 > call.0 {
        // The one that was set is at fault.
        let (connect, call) = (&connect.1, &call.1);
        choices.problems.push(match connect.origin {
            Origin::Default => {
                let Setting { value, origin, .. } = call;
                format!("{origin}: found {value}, allowed is at least http.connect_timeout, {}", connect.value)
            }
            _ => {
                let Setting { value, origin, .. } = connect;
                format!("{origin}: found {value}, allowed is at most http.call_timeout, {}", call.value)
            }
        });
    }
    let ca_file =
        choices.choose_any("http.ca_file", ca_file, |text| file_path(text, "a file with certificates")).unzip();
    // As other programs have them: the first that is set counts, and one that is set to nothing is not set.
    let mut of = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| choices.variable(name).filter(|given| !given.text.is_empty()))
    };
    let (proxy, except) = (of(["HTTPS_PROXY", "https_proxy"]), of(["NO_PROXY", "no_proxy"]));
    let except = except.map_or_else(NoProxy::default, |Given { text, origin }| {
        text.parse().unwrap_or_else(|problem| {
            choices.problems.push(format!("{origin}: {problem}"));
            NoProxy::default()
        })
    });
    let proxy = proxy.into_iter().collect();
    let proxy = choices.choose_any("http.proxy", proxy, |text| Proxy::new(text, except.clone())).unzip();
    let trust = Trust { ca_file: ca_file.0.map(|FilePath(path)| path), client: None };
    let settings = [Some(connect.1), Some(call.1), ca_file.1, proxy.1].into_iter().flatten().collect();
    (TimeOuts { connect: connect.0, call: call.0 }, NetworkSettings { trust, proxy: proxy.0 }, settings)
}

fn to_millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

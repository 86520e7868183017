//! The broker's management interface: which limits apply to our queues.
//!
//! AMQP shows the arguments of a queue, and nothing of the policies that lower its limits. The management plugin does.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use http::{HeaderValue, Uri};
use imageshare_core::{params::encode, text::printable};
use serde_json::{Map, Value};
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::{
    events,
    topology::{self, DEAD, REPORTS},
};
use crate::{
    address::{Address, AddressError, percent_decoded},
    http::{Client, basic_authorization},
};

/// Characters of a foreign text that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// How often a worker inspects the limits, and how soon again after a failure.
const LOOK_EVERY: Duration = Duration::from_mins(5);
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The columns that are requested.
const COLUMNS: &str = "policy,operator_policy,effective_policy_definition,arguments";

/// The address of the management interface. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagementUrl {
    /// Scheme, host, port.
    base: String,
    user: String,
    password: Zeroizing<String>,
}

/// Why the limits of a queue are unknown. Printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uninspected {
    /// There is no such queue.
    #[error("queue {0}: not found by the management interface")]
    Missing(String),
    /// The interface refused the request, or could not be reached.
    #[error("queue {queue}: cannot inspect policies: {problem}")]
    Failed {
        /// The queue.
        queue: String,
        /// The problem.
        problem: String,
    },
}

/// A limit that may lose jobs. The message names policy, key, value and expectation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("queue {queue}: {policy}: {key} is {value} (expected {expected}): {effect}")]
pub struct PolicyLimit {
    queue: String,
    /// The policies that apply to the queue, printable.
    policy: String,
    key: &'static str,
    /// Printable.
    value: String,
    expected: &'static str,
    effect: &'static str,
}

/// A rule for a key of the policies that apply to a queue.
struct Rule {
    key: &'static str,
    is_allowed: fn(&Value) -> bool,
    expected: &'static str,
    effect: &'static str,
}

const NONE: fn(&Value) -> bool = |_| false;

/// For the queues of jobs.
const OF_JOBS: [Rule; 10] = [
    Rule {
        key: "delivery-limit",
        is_allowed: |value| value.as_i64().is_some_and(|limit| limit >= topology::DELIVERY_LIMIT.into()),
        expected: "no limit below 1000000",
        effect: "the broker drops a job after as many crashes of its worker",
    },
    Rule { key: "message-ttl", is_allowed: NONE, expected: "none", effect: "the broker drops a job that waits longer" },
    Rule { key: "max-length", is_allowed: NONE, expected: "none", effect: "a full queue refuses or drops jobs" },
    Rule { key: "max-length-bytes", is_allowed: NONE, expected: "none", effect: "a full queue refuses or drops jobs" },
    Rule { key: "expires", is_allowed: NONE, expected: "none", effect: "the broker deletes the queue with its jobs" },
    Rule {
        key: "overflow",
        is_allowed: |value| value == "reject-publish",
        expected: "reject-publish",
        effect: "a full queue drops jobs, and dead letters may be lost",
    },
    Rule {
        key: "dead-letter-exchange",
        is_allowed: |value| value == DEAD,
        expected: DEAD,
        effect: "where the queue has no such argument, jobs that the broker drops are no dead letters",
    },
    Rule {
        key: "dead-letter-routing-key",
        is_allowed: |value| value == DEAD,
        expected: DEAD,
        effect: "where the queue has no such argument, jobs that the broker drops are no dead letters",
    },
    Rule {
        key: "dead-letter-strategy",
        is_allowed: |value| value == "at-least-once",
        expected: "at-least-once",
        effect: "where the queue has no such argument, dead letters may be lost",
    },
    Rule {
        key: "consumer-timeout",
        is_allowed: |value| value.as_u64().is_some_and(|millis| millis > LEASE_MAX_MILLIS),
        expected: "more than 1500000, the longest broker.lease in milliseconds",
        effect: "the broker takes a job back from a worker that still works on it",
    },
];

/// The upper bound of `broker.lease`: a worker requeues a job by then.
const LEASE_MAX_MILLIS: u64 = 25 * 60 * 1_000;

/// For the queue of dead letters.
const OF_DEAD: [Rule; 5] = [
    Rule {
        key: "delivery-limit",
        is_allowed: |value| value.as_i64().is_some_and(|limit| limit >= topology::DELIVERY_LIMIT.into()),
        expected: "no limit below 1000000",
        effect: "the broker drops a dead letter that was listed as often",
    },
    Rule { key: "message-ttl", is_allowed: NONE, expected: "none", effect: "dead letters vanish" },
    Rule {
        key: "max-length",
        is_allowed: NONE,
        expected: "none",
        effect: "a full queue drops or refuses dead letters",
    },
    Rule {
        key: "max-length-bytes",
        is_allowed: NONE,
        expected: "none",
        effect: "a full queue drops or refuses dead letters",
    },
    Rule { key: "expires", is_allowed: NONE, expected: "none", effect: "the broker deletes the queue with all in it" },
];

/// For the queue of reports, which may be short, but has to accept every report.
const OF_REPORTS: [Rule; 2] = [
    Rule {
        key: "overflow",
        is_allowed: |value| value == "drop-head",
        expected: "drop-head",
        effect: "a full queue refuses reports, and no further job is acknowledged",
    },
    Rule { key: "expires", is_allowed: NONE, expected: "none", effect: "the broker deletes the queue with all in it" },
];

/// Inspects the limits of these lanes' queues and of the queues of dead letters and reports. Returns those that may lose
/// jobs, and the queues whose limits are unknown.
pub async fn inspect<'a>(
    client: &Client,
    url: &ManagementUrl,
    vhost: &str,
    lanes: impl IntoIterator<Item = &'a str>,
) -> (Vec<PolicyLimit>, Vec<Uninspected>) {
    let ours = [(DEAD.to_owned(), &OF_DEAD[..]), (REPORTS.to_owned(), &OF_REPORTS[..])];
    let of_lanes = lanes.into_iter().map(|lane| (topology::jobs_queue(lane), &OF_JOBS[..]));
    let (mut limits, mut unknown) = (Vec::new(), Vec::new());
    for (queue, rules) in of_lanes.chain(ours) {
        match ask(client, url, vhost, &queue).await {
            Ok(shown) => limits.extend(judge(&queue, &shown, rules)),
            Err(error) => unknown.push(error),
        }
    }
    (limits, unknown)
}

/// Logs the limits that may lose jobs when a worker starts, and again when they change.
pub async fn watch(client: Client, url: ManagementUrl, vhost: String, lanes: Vec<String>) -> Infallible {
    let mut known = None;
    loop {
        let seen = inspect(&client, &url, &vhost, lanes.iter().map(String::as_str)).await;
        let (limits, unknown) = &seen;
        let pause = if unknown.is_empty() { LOOK_EVERY } else { LOOK_AGAIN };
        if known.as_ref() != Some(&seen) {
            events::LimitsInspected { limits, unknown }.record();
            known = Some(seen);
        }
        sleep(pause).await;
    }
}

async fn ask(client: &Client, url: &ManagementUrl, vhost: &str, queue: &str) -> Result<Value, Uninspected> {
    let failed =
        |problem: &str| Uninspected::Failed { queue: queue.to_owned(), problem: printable(problem, SHOWN_CHARS_MAX) };
    let path = format!("{}/api/queues/{}/{}?columns={COLUMNS}", url.base, encode(vhost), encode(queue));
    let uri: Uri = path.parse().map_err(|_| failed("the address cannot be used"))?;
    let reply = client.get_as(uri, Some(url.authorization())).await.map_err(|reason| failed(&reason.to_string()))?;
    match reply.status {
        200 => serde_json::from_slice(&reply.body).map_err(|_| failed("the answer is not JSON")),
        401 | 403 => Err(failed("user or password refused, or the user lacks the tag monitoring or management")),
        404 => Err(Uninspected::Missing(queue.to_owned())),
        status => Err(failed(&format!("the management interface answered {status}"))),
    }
}

/// Returns what the policies of a queue may lose.
fn judge<'a>(queue: &'a str, shown: &'a Value, rules: &'a [Rule]) -> impl Iterator<Item = PolicyLimit> + 'a {
    // Without any it is an empty list.
    let effective = shown.get("effective_policy_definition").and_then(Value::as_object);
    let name = |of: &str| shown.get(of).and_then(Value::as_str).filter(|name| !name.is_empty());
    let named = [("policy", name("policy")), ("operator policy", name("operator_policy"))];
    let named = named.into_iter().filter_map(|(what, name)| Some(format!("{what} {}", shown_text(name?))));
    let policy = named.collect::<Vec<_>>().join(" and ");
    let is_argument = |key: &str| {
        let arguments = shown.get("arguments").and_then(Value::as_object);
        key.starts_with("dead-letter-") && arguments.is_some_and(|of: &Map<_, _>| of.contains_key(&format!("x-{key}")))
    };
    rules.iter().filter_map(move |Rule { key, is_allowed, expected, effect }| {
        let value = effective?.get(*key).filter(|value| !is_allowed(value))?;
        // Only for these an argument takes precedence over the policy.
        if is_argument(key) {
            return None;
        }
        let value = value.as_str().map_or_else(|| shown_text(&value.to_string()), shown_text);
        Some(PolicyLimit { queue: queue.to_owned(), policy: policy.clone(), key, value, expected, effect })
    })
}

fn shown_text(text: &str) -> String {
    printable(text, SHOWN_CHARS_MAX)
}

impl ManagementUrl {
    /// Whether it is reached over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.base.starts_with("https")
    }

    /// What the address of a management interface looks like.
    pub const EXPECTED: &str = "http://user:password@host:port or https://, with percent escapes in user and password";

    fn authorization(&self) -> HeaderValue {
        basic_authorization(self.user.as_bytes(), self.password.as_bytes())
    }
}

impl FromStr for ManagementUrl {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = Address::split(text, &["http", "https"])?;
        let scheme = address.scheme.ok_or(AddressError("no scheme http:// or https://"))?;
        if address.has_path() {
            return Err(AddressError("has a path; write %2F for a slash in a password"));
        }
        let Address { login, host, port, .. } = address;
        let login = login.ok_or(AddressError("no user and password"))?;
        let (user, password) = login.split_once(':').ok_or(AddressError("no password"))?;
        let default_port = if scheme == "https" { 15_671 } else { 15_672 };
        let decoded = |text| percent_decoded(text).filter(|text: &String| !text.contains(char::is_control));
        Ok(Self {
            base: format!("{scheme}://{host}:{}", port.unwrap_or(default_port)),
            user: decoded(user).filter(|user| !user.contains(':')).ok_or(AddressError("invalid user"))?,
            password: Zeroizing::new(decoded(password).ok_or(AddressError("invalid password"))?),
        })
    }
}

impl fmt::Display for ManagementUrl {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl fmt::Debug for ManagementUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn address_is_shown_without_user_and_password() {
        let url: ManagementUrl = "http://a:top%2Fsecret@b.example/".parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.password.as_str()), ("http://b.example:15672", "top/secret"));
        assert_eq!(format!("{url:?}"), "http://b.example:15672");
        assert_eq!(url.authorization(), "Basic YTp0b3Avc2VjcmV0");
        assert!(url.authorization().is_sensitive());
        let url: ManagementUrl = "https://a:b@[::1]:443".parse().unwrap();
        assert_eq!(url.to_string(), "https://[::1]:443");
    }

    #[test]
    fn anything_else_is_refused_and_not_shown() {
        for text in [
            "",
            "topsecret",
            "amqp://a:topsecret@b.example",
            "http://b.example",
            "http://topsecret@b.example",
            "http://a:top/secret@b.example",
            "http://a:topsecret@b.example/path",
            "http://a:topsecret%0@b.example",
            "http://a%3Ab:topsecret@b.example",
        ] {
            let error = text.parse::<ManagementUrl>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret"), "{text}: {shown}");
        }
    }

    #[track_caller]
    fn check(rules: &[Rule], policy: &Value, expected: &[&str]) {
        let arguments = json!({"x-dead-letter-exchange": DEAD, "x-delivery-limit": 1_000_000});
        let shown = json!({"policy": "blanket", "operator_policy": null, "arguments": arguments,
            "effective_policy_definition": policy});
        let words: Vec<_> = judge("q", &shown, rules).map(|limit| limit.to_string()).collect();
        let begins = words.iter().map(|words| words.split(": the ").next().unwrap()).collect::<Vec<_>>();
        assert_eq!(begins, expected);
    }

    #[test]
    fn lower_delivery_limit_is_a_danger() {
        let words = "queue q: policy blanket: delivery-limit is 3 (expected no limit below 1000000)";
        check(&OF_JOBS, &json!({"delivery-limit": 3}), &[words]);
        check(&OF_JOBS, &json!({"delivery-limit": -1}), &[&words.replace(" 3 ", " -1 ")]);
        check(&OF_JOBS, &json!({"delivery-limit": 2_000_000}), &[]);
        check(&OF_JOBS, &json!([]), &[]);
    }

    #[test]
    fn consumer_timeout_exceeds_the_longest_lease() {
        let words = "queue q: policy blanket: consumer-timeout is 60000 \
                     (expected more than 1500000, the longest broker.lease in milliseconds)";
        check(&OF_JOBS, &json!({"consumer-timeout": 60_000}), &[words]);
        check(&OF_JOBS, &json!({"consumer-timeout": 1_800_000}), &[]);
    }

    #[test]
    fn dead_letter_argument_overrides_policy() {
        check(&OF_JOBS, &json!({"dead-letter-exchange": "other"}), &[]);
        let words = "queue q: policy blanket: dead-letter-strategy is at-most-once (expected at-least-once): \
                     where the queue has no such argument, dead letters may be lost";
        check(&OF_JOBS, &json!({"dead-letter-strategy": "at-most-once"}), &[words]);
    }

    #[test]
    fn reports_may_expire_and_dead_letters_may_not() {
        check(&OF_REPORTS, &json!({"message-ttl": 1}), &[]);
        check(
            &OF_DEAD,
            &json!({"message-ttl": 1}),
            &["queue q: policy blanket: message-ttl is 1 (expected none): dead letters vanish"],
        );
    }
}

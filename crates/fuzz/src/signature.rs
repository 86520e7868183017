//! Signed requests: core's signer against the sandbox's verification, which shares no code with it.

use http::{HeaderMap, HeaderName, HeaderValue};
use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::{Action, AssumeRole, DescribeImageSharePermission, ModifyImageSharePermission},
    ids::{AccountId, ImageId, Region},
    params::Pairs,
    request::{Host, Language, Prepared, SIGNED_HEADERS, Signer, Target},
    tc3::{self, CanonicalRequest, HexDigest, Method, SignedHeaders},
    v1::{self, Algorithm, Common},
};
use imageshare_sandbox::{
    flat,
    verify::{Key, Keys, Received, verify},
};

use crate::source::Source;

/// Maximum clock skew in seconds.
const SKEW_MAX: u64 = 300;

/// Maximum age in seconds of the signature before: two days.
const EARLIER_MAX: u64 = 2 * 86_400;

/// The last second whose date both sides support.
const SECONDS_MAX: u64 = 253_402_207_200;

/// Names of the parameters that signature version 1 adds.
const COMMON: [&str; 9] =
    ["Action", "Version", "Timestamp", "Nonce", "SecretId", "SignatureMethod", "Region", "Token", "Signature"];

/// Checks requests. A signer that keeps its key and buffers signs as the stages of the specification do from the start. The
/// sandbox accepts the signature within the clock skew only, and rejects it once any signed byte changes. Versions 3 and 1.
///
/// # Panics
/// If a property does not hold.
pub fn signature(data: &[u8]) {
    let mut source = Source::new(data);
    loop {
        check_request(&mut source);
        if source.is_empty() {
            break;
        }
    }
}

fn check_request(source: &mut Source<'_>) {
    let now = UnixSeconds::new(source.number() % SECONDS_MAX).expect("it is before the last second");
    let caller = KnownCaller::read(source);
    let change = ByteChange { at: source.number(), by: source.byte() };
    let hosts = [source.text(), "cvm.intl.tencentcloudapi.com".to_owned()];
    let host = hosts.iter().find_map(|text| Host::new(text).ok()).expect("the second one is a host");
    let region = source.text().parse().ok();
    let kind = source.byte();
    let mut signed =
        Signed { caller: &caller, signer: Signer::new(caller.credential.clone()), host, region, now, change };
    if kind.is_multiple_of(2) {
        let image_id: ImageId = source.parsed("img-6pb6lrmy");
        let permission = if kind & 2 == 0 { Permission::Share } else { Permission::Cancel };
        signed.check(&AssumeRole {
            role_arn: source.text(),
            role_session_name: source.text(),
            duration_seconds: None,
            external_id: None,
        });
        signed.check(&DescribeImageSharePermission { image_id });
        let count = usize::from(source.byte());
        let mut numbers = Source::new(source.bytes(8 * count));
        let numbers = std::iter::from_fn(|| numbers.take().map(u64::from_be_bytes));
        let account_ids = numbers.filter_map(|number| AccountId::new(number).ok()).collect();
        signed.check(&ModifyImageSharePermission { image_id, account_ids, permission });
    } else {
        let algorithm = if kind & 2 == 0 { Algorithm::HmacSha1 } else { Algorithm::HmacSha256 };
        let method = if kind & 4 == 0 { Method::Get } else { Method::Post };
        let mut pairs = Pairs::default();
        for _ in 0..kind >> 4 {
            let (name, value) = (source.text(), source.text());
            if pairs.get(&name).is_none() && !COMMON.contains(&name.as_str()) {
                pairs.push(name, value);
            }
        }
        signed.check_v1(algorithm, method, pairs);
    }
}

/// A credential, and the sandbox's key for it.
struct KnownCaller {
    credential: Credential,
    keys: Keys,
}

impl KnownCaller {
    fn read(source: &mut Source<'_>) -> Self {
        let credential = Credential {
            secret_id: source.parsed("AKIDEXAMPLE"),
            secret_key: source.parsed("key"),
            token: source.text().parse().ok(),
        };
        let key = Key {
            secret_key: credential.secret_key.expose().to_owned(),
            account: AccountId::new(100_009_999_999).expect("it has twelve digits"),
            temporary: credential.token.as_ref().map(|token| (token.expose().to_owned(), u64::MAX)),
        };
        let mut keys = Keys::default();
        keys.insert(credential.secret_id.as_str().to_owned(), key);
        Self { credential, keys }
    }
}

/// A change of one byte.
#[derive(Clone, Copy)]
struct ByteChange {
    at: u64,
    by: u8,
}

impl ByteChange {
    /// Returns a changed text; `None` if the text is empty.
    fn apply(self, text: &[u8]) -> Option<Vec<u8>> {
        let at = usize::try_from(self.at.checked_rem(text.len() as u64)?).ok()?;
        let mut changed = text.to_vec();
        *changed.get_mut(at)? ^= self.by.max(1);
        Some(changed)
    }
}

/// The parameters of a request without its action.
struct Signed<'a> {
    caller: &'a KnownCaller,
    /// Keeps a key and buffers between signatures, which must not affect the result.
    signer: Signer,
    host: Host<'a>,
    region: Option<Region>,
    now: UnixSeconds,
    change: ByteChange,
}

impl Signed<'_> {
    fn check<A: Action>(&mut self, action: &A) {
        let Self { caller: KnownCaller { credential, keys }, signer, host, region, now, change } = self;
        let language = Some(if change.by == 0 { Language::Chinese } else { Language::English });
        let prepared = Prepared::new(action, &Target { host: *host, region: *region, language });
        let before = UnixSeconds::new(now.get().saturating_sub(change.at % EARLIER_MAX)).unwrap_or(*now);
        signer.sign(&prepared, before);
        let request = signer.sign(&prepared, *now);
        let given: Vec<(&str, &str)> = request.headers().collect();
        let signed = SignedHeaders::select(SIGNED_HEADERS, &given).expect("they are among the headers");
        let hashed_payload = HexDigest::sha256(request.body());
        let canonical = CanonicalRequest { method: Method::Post, query: "", headers: &signed, hashed_payload };
        let stages = tc3::sign(&canonical, A::SERVICE, credential, *now);
        assert!(
            given.contains(&("Authorization", stages.authorization.as_str())),
            "the signature depends on earlier ones"
        );

        let headers: HeaderMap = given
            .iter()
            .map(|(name, value)| header(name, value.as_bytes()))
            .collect::<Option<_>>()
            .expect("headers can be sent");
        let none = Pairs::default();
        let received = Received { method: "POST", query: "", headers: &headers, body: request.body(), pairs: &none };
        let seconds = now.get();
        assert_eq!(verify(&received, keys, seconds).map(|caller| caller.service), Ok(Some(A::SERVICE.to_owned())));
        check_clock(&received, keys, seconds, change.at);

        if let Some(body) = change.apply(request.body()) {
            assert!(
                verify(&Received { body: &body, ..received }, keys, seconds).is_err(),
                "a changed body is accepted"
            );
        }
        for name in ["authorization", "content-type", "host", "x-tc-action", "x-tc-timestamp", "x-tc-token"] {
            let Some(value) = headers.get(name) else { continue };
            let Some(changed) = change.apply(value.as_bytes()).filter(|changed| !is_equivalent(name, value, changed))
            else {
                continue;
            };
            let Some((name, changed)) = header(name, &changed) else { continue };
            let mut headers = headers.clone();
            headers.insert(name, changed);
            let accepted = verify(&Received { headers: &headers, ..received }, keys, seconds);
            assert!(accepted.is_err(), "a changed header is accepted: {headers:?}");
        }
    }

    fn check_v1(&self, algorithm: Algorithm, method: Method, mut pairs: Pairs) {
        let Self { caller: KnownCaller { credential, keys }, host, region, now, change, .. } = self;
        let (region, nonce) = (region.as_ref().map(|region| region.as_str()), change.at.max(1));
        let common = Common { action: "A", version: "B", region, timestamp: *now, nonce, algorithm };
        common.push_to(&mut pairs, credential);
        let signature = v1::signature(algorithm, &credential.secret_key, &v1::string_to_sign(method, *host, &pairs));
        let query = v1::query(&pairs, &signature);
        let headers: HeaderMap = header("host", host.as_str().as_bytes()).into_iter().collect();
        let of = |text: &[u8]| flat::parse(text).ok();
        let sent = of(query.as_bytes()).expect("the query can be parsed");
        let received = Received { method: method.as_str(), query: &query, headers: &headers, body: b"", pairs: &sent };
        let seconds = now.get();
        assert_eq!(verify(&received, keys, seconds).map(|caller| caller.service), Ok(None));
        check_clock(&received, keys, seconds, change.at);
        let other = if method == Method::Get { "POST" } else { "GET" };
        assert!(verify(&Received { method: other, ..received }, keys, seconds).is_err(), "another method is accepted");
        let Some(changed) = change.apply(query.as_bytes()).and_then(|query| of(&query)) else { return };
        // Version 1 signs values without escapes, so `A=1&B=2` may be one pair or two.
        let signed_content = |mut pairs: Pairs| {
            let signature = pairs.take("Signature");
            (signature, v1::string_to_sign(method, *host, &pairs))
        };
        if signed_content(changed.clone()) != signed_content(sent.clone()) {
            assert!(
                verify(&Received { pairs: &changed, ..received }, keys, seconds).is_err(),
                "a changed query is accepted"
            );
        }
    }
}

fn check_clock(received: &Received<'_>, keys: &Keys, seconds: u64, skew: u64) {
    let skew = skew % (2 * SKEW_MAX);
    for server in [seconds + skew, seconds.saturating_sub(skew)] {
        assert_eq!(verify(received, keys, server).is_ok(), server.abs_diff(seconds) <= SKEW_MAX);
    }
}

/// Whether two values of a header are equivalent: they differ in case or surrounding white space only.
fn is_equivalent(name: &str, value: &HeaderValue, changed: &[u8]) -> bool {
    let (Ok(value), Ok(changed)) = (value.to_str(), str::from_utf8(changed)) else { return false };
    match name {
        "authorization" => value.split(',').map(str::trim).eq(changed.split(',').map(str::trim)),
        "content-type" | "host" | "x-tc-action" => value.trim().to_lowercase() == changed.trim().to_lowercase(),
        _ => false,
    }
}

fn header(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    Some((name.to_lowercase().parse().ok()?, HeaderValue::from_bytes(value).ok()?))
}

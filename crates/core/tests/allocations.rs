//! Signing in steady state and reading a success allocate nothing, a listing little; counted by a global allocator.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

use allocation_counter::measure;
use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::{DescribeImageSharePermission, ModifyImageSharePermission},
    ids::AccountId,
    request::{Host, Language, Prepared, Signer, Target, prepare},
    response::{Failure, parse},
};

fn share(accounts: u64) -> ModifyImageSharePermission {
    ModifyImageSharePermission {
        image_id: "img-6pb6lrmy".parse().unwrap(),
        account_ids: (0..accounts).map(|n| AccountId::new(100_022_975_249 + n).unwrap()).collect(),
        permission: Permission::Share,
    }
}

#[test]
fn counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1_u64)))).count_total, 1);
}

#[test]
fn signing_allocates_nothing_in_steady_state() {
    let credential = Credential {
        secret_id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE".parse().unwrap(),
        secret_key: "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE".parse().unwrap(),
        token: Some("fake+Token/with=specials".parse().unwrap()),
    };
    let region = Some("ap-singapore".parse().unwrap());
    let host = Host::new("cvm.intl.tencentcloudapi.com").unwrap();
    let target = Target { host, region, language: Some(Language::English) };
    let actions = [share(500), share(1), share(50)];
    let [largest, ..] = &actions;
    let mut prepared = Prepared::new(largest, &target);
    let mut signer = Signer::new(credential);
    let noon = 1_751_025_600;
    let at = |seconds| UnixSeconds::new(seconds).unwrap();
    signer.sign(&prepared, at(noon));

    let mut bytes_sent = 0;
    let counted = measure(|| {
        for action in &actions {
            prepare(action, &target, &mut prepared);
            for second in 0..10 {
                let request = signer.sign(&prepared, at(noon + second));
                let headers = request.headers().map(|(name, value)| name.len() + value.len());
                bytes_sent += headers.sum::<usize>() + request.body().len();
            }
        }
    });
    assert!(bytes_sent > 80_000, "{bytes_sent}");
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}

#[test]
fn reading_a_success_allocates_nothing() {
    let body = br#"{"Response":{"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;
    let counted = measure(|| assert!(parse::<ModifyImageSharePermission>(200, body).is_ok()));
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}

#[test]
fn parsing_error_allocates_code_and_message() {
    let body = br#"{"Response":{"Error":{"Code":"InvalidAccountId.NotFound","Message":"The account does not exist."},
        "RequestId":"ed93f3cb-f35e-473f-b9f3-0d451b8b79c6"}}"#;
    let counted = measure(|| {
        let refused = parse::<ModifyImageSharePermission>(200, body);
        assert!(matches!(refused, Err(Failure::Api(_))));
    });
    assert!(counted.count_current == 0 && counted.count_total <= 4, "{} allocations", counted.count_total);
}

#[test]
fn parsing_listing_allocates_only_list() {
    let entry =
        |nth: u64| format!(r#"{{"CreatedTime":"2026-11-24T07:00:00Z","AccountId":"{}"}}"#, 100_022_975_249 + nth);
    let set: Vec<String> = (0..500).map(entry).collect();
    let body = format!(r#"{{"Response":{{"SharePermissionSet":[{}],"RequestId":"x"}}}}"#, set.join(","));
    let counted = measure(|| {
        let listed = parse::<DescribeImageSharePermission>(200, body.as_bytes()).unwrap();
        assert_eq!(listed.answer.len(), 500);
    });
    // The list grows by doubling: 4, 8, ... 512 entries of 24 bytes.
    assert!(counted.count_total <= 8, "{} allocations", counted.count_total);
    assert!(counted.bytes_max <= 512 * 24 + 256 * 24, "{} bytes at once", counted.bytes_max);
}

//! Signing in steady state allocates nothing, counted by a global allocator.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

use allocation_counter::measure;
use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::ModifyImageSharePermission,
    ids::AccountId,
    request::{Language, Prepared, Signer, Target, prepare},
};

fn share(accounts: u64) -> ModifyImageSharePermission {
    ModifyImageSharePermission {
        image_id: "img-6pb6lrmy".parse().unwrap(),
        account_ids: (0..accounts).map(|n| AccountId::new(100_022_975_249 + n).unwrap()).collect(),
        permission: Permission::Share,
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1_u64)))).count_total, 1);
}

#[test]
fn prepare_and_sign_allocate_nothing_once_their_buffers_have_grown() {
    let credential = Credential {
        secret_id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE".parse().unwrap(),
        secret_key: "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE".parse().unwrap(),
        token: Some("fake+Token/with=specials".parse().unwrap()),
    };
    let region = Some("ap-singapore".parse().unwrap());
    let target = Target { host: "cvm.intl.tencentcloudapi.com", region, language: Some(Language::English) };
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

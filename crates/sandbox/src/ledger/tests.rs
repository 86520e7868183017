//! Tests of each rule, and of the whole ledger against a model.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec,
    vec::Vec,
};

use proptest::prelude::*;

use super::*;

const OWNER: u64 = 100_009_999_999;

fn account(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

fn accounts(numbers: &[u64]) -> Vec<AccountId> {
    numbers.iter().copied().map(account).collect()
}

fn owner() -> AccountId {
    account(OWNER)
}

fn here() -> Region {
    "ap-singapore".parse().unwrap()
}

fn golden() -> ImageId {
    "img-6pb6lrmy".parse().unwrap()
}

fn world() -> Ledger {
    let mut ledger = Ledger { accounts: Accounts::open(), ..Ledger::default() };
    ledger.put_image(golden(), Image::normal(owner(), here()));
    ledger
}

fn share(ledger: &mut Ledger, numbers: &[u64]) -> Result<(), Refusal> {
    ledger.modify(0, owner(), here(), golden(), &accounts(numbers), Permission::Share)
}

fn cancel(ledger: &mut Ledger, numbers: &[u64]) -> Result<(), Refusal> {
    ledger.modify(0, owner(), here(), golden(), &accounts(numbers), Permission::Cancel)
}

fn shared(ledger: &Ledger) -> Vec<u64> {
    ledger.state().flat_map(|(_, accounts)| accounts).map(AccountId::get).collect()
}

#[track_caller]
fn check_code(done: Result<(), Refusal>, code: &str) {
    assert_eq!(done.map_err(|refusal| refusal.code.to_string()), Err(code.to_string()));
}

#[test]
fn share_and_cancel_change_the_shares() {
    let mut ledger = world();
    share(&mut ledger, &[20_000, 10_000]).unwrap();
    assert_eq!(shared(&ledger), [10_000, 20_000]);
    cancel(&mut ledger, &[10_000]).unwrap();
    assert_eq!(shared(&ledger), [20_000]);
    assert!(ledger.is_shared(golden(), account(20_000)));
    assert_eq!(ledger.shared_count(golden()), 1);
}

#[test]
fn image_problems_have_documented_codes() {
    let normal = || Image::normal(owner(), here());
    let cases = [
        (Image { region: "ap-guangzhou".parse().unwrap(), ..normal() }, "InvalidImageId.NotFound"),
        (Image { owner: account(10_001), ..normal() }, "UnauthorizedOperation.ImageNotBelongToAccount"),
        (Image { state: ImageState::Creating, ..normal() }, "InvalidParameterValue.InvalidImageState"),
        (Image { license: License::Byol, ..normal() }, "FailedOperation.BYOLImageShareFailed"),
        (Image { encrypted: true, ..normal() }, "UnsupportedOperation.EncryptedImagesNotSupported"),
        (Image { image_type: ImageType::Public, ..normal() }, "InvalidParameterValue.InvalidImageId"),
        (Image { image_type: ImageType::Shared, ..normal() }, "InvalidParameterValue.InvalidImageId"),
        (Image { instance_image: true, ..normal() }, "InvalidParameter.InstanceImageNotSupport"),
        (Image { access: Access { write: false, ..Access::default() }, ..normal() }, "UnauthorizedOperation"),
    ];
    for (image, code) in cases {
        let mut ledger = world();
        ledger.put_image(golden(), image);
        check_code(share(&mut ledger, &[10_000]), code);
        assert_eq!(shared(&ledger), [] as [u64; 0]);
    }
    check_code(share(&mut Ledger::default(), &[10_000]), "InvalidImageId.NotFound");
}

#[test]
fn account_problems_have_documented_codes() {
    let mut ledger = world();
    ledger.accounts.unknown.insert(account(10_001));
    ledger.accounts.sub_accounts.insert(account(10_002));
    ledger.accounts.faults.insert(account(10_003), String::from("InvalidParameterValue.InvalidAppIdFormat"));
    for (number, code) in [
        (OWNER, "FailedOperation.AccountIsYourSelf"),
        (10_001, "InvalidAccountId.NotFound"),
        (10_002, "FailedOperation.NotMasterAccount"),
        (10_003, "InvalidParameterValue.InvalidAppIdFormat"),
    ] {
        check_code(share(&mut ledger, &[number]), code);
    }
    ledger.accounts.open = false;
    check_code(share(&mut ledger, &[10_004]), "InvalidAccountId.NotFound");
    ledger.accounts.known.insert(account(10_004));
    share(&mut ledger, &[10_004]).unwrap();
    check_code(share(&mut ledger, &[]), "MissingParameter");
}

#[test]
fn defaults_follow_the_evidence() {
    let mut ledger = world();
    let hundred: Vec<u64> = (10_000..10_100).collect();
    share(&mut ledger, &hundred).unwrap();
    check_code(share(&mut ledger, &[&hundred[..], &[20_000]].concat()), "InvalidParameterValue.LimitExceeded");
    check_code(share(&mut ledger, &[10_000]), "FailedOperation.AccountAlreadyExists");
    check_code(share(&mut ledger, &[20_000, 10_000]), "FailedOperation.AccountAlreadyExists");
    cancel(&mut ledger, &[20_000]).unwrap();
}

#[test]
fn closed_account_can_be_cancelled() {
    let mut ledger = world();
    share(&mut ledger, &[10_001]).unwrap();
    ledger.accounts.unknown.insert(account(10_001));
    check_code(share(&mut ledger, &[10_001]), "InvalidAccountId.NotFound");
    cancel(&mut ledger, &[10_001]).unwrap();
    assert_eq!(shared(&ledger), [] as [u64; 0]);
}

#[test]
fn cap_and_batch_limit_are_enforced() {
    let mut ledger = world();
    ledger.dials.cap = 3;
    ledger.dials.batch_limit = Some(4);
    ledger.dials.share_again_in_batch = Repeat::Succeeds;
    share(&mut ledger, &[10_001, 10_002]).unwrap();
    let refusal = share(&mut ledger, &[10_003, 10_004]).unwrap_err();
    assert_eq!(refusal.code, "OverQuota");
    assert_eq!(refusal.message, "The image `img-6pb6lrmy` is shared with 2 accounts; 2 more exceed the quota of 3.");
    assert_eq!(shared(&ledger), [10_001, 10_002]);
    share(&mut ledger, &[10_001, 10_003]).unwrap();
    let refusal = share(&mut ledger, &[10_001, 10_004, 10_004]).unwrap_err();
    let message = "The image `img-6pb6lrmy` is shared with 3 accounts; 1 more exceed the quota of 3.";
    assert_eq!(refusal.message, message, "accounts that have the image do not count");
    check_code(share(&mut ledger, &[10_001, 10_002, 10_003, 10_004, 10_005]), "InvalidParameterValue.LimitExceeded");
}

#[track_caller]
fn check_failing_batch(dial: FailingBatch, blamed: u64, applied: &[u64]) {
    let mut ledger = world();
    ledger.dials.failing_batch = dial;
    ledger.accounts.unknown.extend(accounts(&[10_002, 10_004]));
    let refusal = share(&mut ledger, &[10_001, 10_002, 10_003, 10_004, 10_005]).unwrap_err();
    assert!(refusal.message.contains(&blamed.to_string()), "{refusal}");
    assert_eq!(shared(&ledger), applied);
}

#[test]
fn failing_batch_follows_the_dial() {
    check_failing_batch(FailingBatch::Nothing, 10_002, &[]);
    check_failing_batch(FailingBatch::UntilFirst, 10_002, &[10_001]);
    check_failing_batch(FailingBatch::UntilLast, 10_004, &[10_005]);
    check_failing_batch(FailingBatch::Others, 10_002, &[10_001, 10_003, 10_005]);
}

#[test]
fn rolled_back_batch_keeps_dates() {
    let mut ledger = world();
    share(&mut ledger, &[10_001]).unwrap();
    let before = ledger.shares(9, owner(), here(), golden()).unwrap();
    ledger.accounts.unknown.insert(account(10_002));
    let list = accounts(&[10_001, 10_002]);
    ledger.dials.cancel_absent = Repeat::Fails;
    ledger.modify(9, owner(), here(), golden(), &list, Permission::Cancel).unwrap_err();
    assert_eq!(ledger.shares(9, owner(), here(), golden()).unwrap(), before);
}

#[test]
fn repeated_requests_follow_the_dials() {
    let mut ledger = world();
    ledger.dials.share_again_alone = Repeat::Succeeds;
    ledger.dials.share_again_in_batch = Repeat::Succeeds;
    share(&mut ledger, &[10_001]).unwrap();
    share(&mut ledger, &[10_001]).unwrap();
    share(&mut ledger, &[10_001, 10_002]).unwrap();
    cancel(&mut ledger, &[10_003]).unwrap();
    assert_eq!(ledger.repeated_accounts(), 3);
    ledger.dials.share_again_alone = Repeat::Fails;
    check_code(share(&mut ledger, &[10_001]), "FailedOperation.AccountAlreadyExists");
    share(&mut ledger, &[10_001, 10_002]).unwrap();
    ledger.dials.share_again_in_batch = Repeat::Fails;
    check_code(share(&mut ledger, &[10_004, 10_002]), "FailedOperation.AccountAlreadyExists");
    ledger.dials.cancel_absent = Repeat::Fails;
    check_code(cancel(&mut ledger, &[10_003]), "InvalidAccountId.NotFound");
    assert_eq!(shared(&ledger), [10_001, 10_002]);
}

#[test]
fn image_becomes_normal_on_time_unless_occupied() {
    let mut ledger = world();
    let creating = Image { state: ImageState::Creating, normal_at: Some(4000), ..Image::normal(owner(), here()) };
    ledger.put_image(golden(), creating);
    ledger.occupy(golden(), 5000);
    let state = |now| ledger.image(now, owner(), here(), golden()).unwrap().unwrap().state;
    assert_eq!([state(4999), state(5000)], [ImageState::Syncing, ImageState::Normal]);
    ledger.release_all();
    let state = |now| ledger.image(now, owner(), here(), golden()).unwrap().unwrap().state;
    assert_eq!([state(3999), state(4000)], [ImageState::Creating, ImageState::Normal]);
}

#[test]
fn unknown_image_follows_the_dials() {
    let mut ledger = Ledger::default();
    let list = |ledger: &Ledger| ledger.shares(0, owner(), here(), golden()).map_err(|refusal| refusal.code);
    let image = |ledger: &Ledger| {
        ledger.image(0, owner(), here(), golden()).map(|view| view.is_some()).map_err(|refusal| refusal.code)
    };
    assert_eq!((list(&ledger), image(&ledger)), (Err("InvalidImageId.NotFound".into()), Ok(false)));
    ledger.dials.list_unknown = Unknown::Empty;
    ledger.dials.describe_unknown = Unknown::Error;
    assert_eq!((list(&ledger), image(&ledger)), (Ok(vec![]), Err("InvalidImageId.NotFound".into())));
}

#[test]
fn listing_may_be_denied_or_truncated() {
    let mut ledger = world();
    share(&mut ledger, &[10_001, 10_002, 10_003]).unwrap();
    ledger.dials.listing_limit = Some(2);
    let listing = ledger.shares(0, owner(), here(), golden()).unwrap();
    assert_eq!(listing, [(account(10_001), 0), (account(10_002), 0)]);
    check_code(
        ledger.shares(0, account(10_001), here(), golden()).map(|_| ()),
        "UnauthorizedOperation.ImageNotBelongToAccount",
    );
    let access = Access { list: false, describe: false, write: true };
    ledger.put_image(golden(), Image { access, ..Image::normal(owner(), here()) });
    check_code(ledger.shares(0, owner(), here(), golden()).map(|_| ()), "UnauthorizedOperation");
    check_code(ledger.image(0, owner(), here(), golden()).map(|_| ()), "UnauthorizedOperation");
    assert_eq!(ledger.images(0, owner(), here()).count(), 0);
}

#[test]
fn receivers_see_shared_image_and_others_none() {
    let mut ledger = world();
    share(&mut ledger, &[10_001]).unwrap();
    let seen = |caller| ledger.image(0, account(caller), here(), golden()).unwrap().map(|view| view.image_type);
    assert_eq!(seen(OWNER), Some(ImageType::Private));
    assert_eq!(seen(10_001), Some(ImageType::Shared));
    assert_eq!(seen(10_002), None);
    assert_eq!(ledger.images(0, account(10_001), here()).count(), 1);
}

#[test]
fn open_image_belongs_to_its_first_writer() {
    let mut ledger = Ledger::open();
    ledger.occupy(golden(), 1);
    let state = |ledger: &Ledger, now| ledger.image(now, owner(), here(), golden()).unwrap().unwrap().state;
    assert_eq!([state(&ledger, 0), state(&ledger, 1)], [ImageState::Syncing, ImageState::Normal]);
    ledger.release_all();
    assert_eq!(ledger.shares(0, owner(), here(), golden()), Ok(vec![]));
    share(&mut ledger, &[10_001]).unwrap();
    let list = accounts(&[10_002]);
    let by_another = ledger.modify(0, account(10_001), here(), golden(), &list, Permission::Share);
    check_code(by_another, "UnauthorizedOperation.ImageNotBelongToAccount");
}

#[test]
fn imposed_changes_bypass_the_rules() {
    let mut ledger = world();
    ledger.dials.cap = 0;
    assert!(ledger.impose(1, golden(), owner(), Permission::Share));
    assert!(!ledger.impose(2, golden(), owner(), Permission::Share));
    assert_eq!(shared(&ledger), [OWNER]);
}

/// A request of the property test: the delay before it, whether it is a SHARE, and its accounts.
type Step = (u64, bool, Vec<u64>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u64..2000, any::<bool>(), prop::collection::vec(10_000_u64..10_012, 1..6)), 1..60)
}

proptest! {
    /// Compares listings with a model that keeps a copy of the list for every time.
    #[test]
    fn past_listing_equals_list_of_that_time(
        steps in steps(), cap in 1_usize..12, dial in 0_usize..4,
    ) {
        let mut ledger = world();
        ledger.dials.cap = cap;
        ledger.dials.share_again_alone = Repeat::Succeeds;
        ledger.dials.share_again_in_batch = Repeat::Succeeds;
        ledger.accounts.unknown.insert(account(10_011));
        ledger.dials.failing_batch =
            [FailingBatch::Nothing, FailingBatch::UntilFirst, FailingBatch::UntilLast, FailingBatch::Others][dial];
        let mut history: BTreeMap<u64, Vec<(AccountId, u64)>> = BTreeMap::from([(0, vec![])]);
        let mut now = 1;
        for (later, share, numbers) in steps {
            now += later;
            let before = ledger.clone();
            let permission = Permission::of_presence(share);
            let done = ledger.modify(now, owner(), here(), golden(), &accounts(&numbers), permission);
            let has: BTreeSet<u64> = shared(&ledger).into_iter().collect();
            prop_assert!(has.len() <= cap);
            match done {
                Ok(()) => prop_assert!(numbers.iter().all(|number| has.contains(number) == share)),
                Err(refusal) => {
                    let expected = ["InvalidAccountId.NotFound", "OverQuota"].contains(&&*refusal.code);
                    prop_assert!(expected, "{refusal}");
                    if dial == 0 {
                        prop_assert_eq!(shared(&ledger), shared(&before));
                    }
                }
            }
            history.insert(now, ledger.shares(now, owner(), here(), golden()).unwrap());
            let remembered = now.saturating_sub(ledger.dials.history_ms);
            for (&then, list) in history.range(remembered..) {
                prop_assert_eq!(&ledger.shares(then, owner(), here(), golden()).unwrap(), list);
            }
        }
    }
}

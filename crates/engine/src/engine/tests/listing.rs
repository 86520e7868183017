//! Listings.

use alloc::vec;

use imageshare_core::Permission;

use super::kit::{Kit, LANE};
use crate::{
    io::{Action, Notice},
    job::Mode,
    limits::LimitValues,
    policy::Policy,
    time::Millis,
};

#[test]
fn first_job_lists_and_sends_difference() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1, 2, 3]);
    kit.list([2]);
    assert_eq!(kit.write(Permission::Share), [1, 3]);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed", "unchanged", "changed"]);
    assert_eq!(kit.report(delivery).requests, 1);
}

#[test]
fn accounts_in_requested_state_cost_no_write() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Cancel, 0, [1, 2]);
    kit.list([7]);
    assert_eq!(kit.outcomes(delivery), ["unchanged", "unchanged"]);
    assert_eq!(kit.report(delivery).requests, 0);
}

#[test]
fn own_write_counts_until_listing_shows_it() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.accept();
    kit.pass(Millis(1000));
    let second = kit.job(Mode::Share, 0, [1]);
    assert_eq!(kit.outcomes(second), ["unchanged"], "by our own write, without a call");
    // An account that is not known makes a reading of the image; one that began too early does not undo our write.
    kit.pass(Millis(30_000));
    let third = kit.job(Mode::Share, 0, [1]);
    kit.list([1]);
    assert_eq!(kit.outcomes(third), ["unchanged"]);
}

#[test]
fn listing_of_same_millisecond_is_too_early() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { read_lag: Millis(0), ..LimitValues::default() });
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.accept();
    let again = kit.job(Mode::Share, 0, [1]);
    assert_eq!(kit.outcomes(again), ["unchanged"]);
    kit.job(Mode::Cancel, 0, [1]);
    assert_eq!(kit.write(Permission::Cancel), [1]);
}

#[test]
fn old_listing_reports_nothing_unchanged() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2]);
    kit.list([1, 2]);
    kit.pass(Millis(31_000));
    let late = kit.job(Mode::Share, 0, [1]);
    assert!(!kit.is_settled(late));
    kit.list([2]);
    assert_eq!(kit.write(Permission::Share), [1]);
}

#[test]
fn suspicious_length_proves_no_absence() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Cancel, 0, [777]);
    kit.list(0..20);
    assert_eq!(kit.write(Permission::Cancel), [777], "the listing may have been cut at 20");
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn refused_listing_is_noticed_once() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.refuse("UnauthorizedOperation");
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    kit.job(Mode::Share, 0, [2]);
    assert_eq!(kit.write(Permission::Share), [2]);
    assert_eq!(kit.outcomes(delivery), ["changed"]);
    let count = kit.notices.iter().filter(|notice| matches!(notice, Notice::CannotList { .. })).count();
    assert_eq!(count, 1);
}

#[test]
fn own_write_decides_during_read_lag() {
    let limits = LimitValues { read_lag: Millis::from_secs(120), ..LimitValues::default() };
    let mut kit = Kit::new(Policy::COMMAND, limits);
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.accept();
    kit.pass(Millis::from_secs(60));
    let again = kit.job(Mode::Share, 0, [1]);
    assert_eq!(kit.outcomes(again), ["unchanged"]);
    assert!(kit.open.is_empty(), "no listing could contradict the write");
}

#[test]
fn failed_listing_is_tried_again() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.refuse("InternalError");
    kit.list([1]);
    assert_eq!(kit.outcomes(delivery), ["unchanged"]);
    assert_eq!(kit.notices, vec![]);
}

#[test]
fn jobs_share_a_listing_in_flight() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let first = kit.job(Mode::Share, 0, [1]);
    kit.call();
    let second = kit.job(Mode::Share, 0, [2]);
    kit.list([1, 2]);
    assert!(kit.is_settled(first) && kit.is_settled(second));
    kit.pass(Millis(10_000));
    assert!(kit.open.is_empty(), "no further listing is needed");
}

#[test]
fn listing_names_image_and_region() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let job = super::kit::job(Mode::Share, 4, [1]);
    let (region, image_id) = (job.region, job.image_id);
    kit.deliver(job);
    assert_eq!(kit.call().1, Action::ReadShares { region, image_id });
}

#[test]
fn unlistable_image_is_forgotten_eventually() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for image in 0..30 {
        kit.job(Mode::Share, image, [1]);
        kit.refuse("InvalidImageId.NotFound");
        kit.refuse("InvalidImageId.NotFound");
    }
    assert_eq!(kit.settled.len(), 30);
    kit.pass(Millis(3_600_000));
    let images = kit.engine.lanes[&LANE].images().len();
    assert!(images <= 1, "{images} images");
}

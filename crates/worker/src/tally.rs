//! The totals of a run's reports, with a bounded list of its failures.

use std::collections::BTreeMap;

use imageshare_core::{
    ids::{AccountId, ImageId},
    text::printable,
};

use crate::wire::report::{Counts, FailureGroup, Report, Status};

/// Failed accounts that are listed, as many as one job may name; the others are counted.
const ACCOUNTS_MAX: usize = 10_000;

/// Characters of a text that are kept. Reports of a broker are written by others.
const TEXT_CHARS_MAX: usize = 1000;

/// Rejections that are listed; the others are counted.
const REJECTIONS_MAX: usize = 100;

/// The totals of reports. Their size does not depend on the number of reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs by their status.
    pub jobs: BTreeMap<Status, u64>,
    /// Accounts that were brought to the requested state.
    pub changed: u64,
    /// Accounts that were in the requested state already.
    pub unchanged: u64,
    /// Accounts that a SYNC removed.
    pub cancelled: u64,
    /// Accounts that are not known to be in the requested state.
    pub failed: u64,
    /// Failed accounts by image and code, in the order of image and code.
    pub failures: BTreeMap<(Option<ImageId>, String), Failures>,
    /// Failed accounts that are not listed.
    pub failures_more: u64,
    /// Why jobs were rejected.
    pub rejections: Vec<String>,
    /// Rejections that are not listed.
    pub rejections_more: u64,
    /// How many accounts `failures` lists.
    accounts_listed: usize,
}

/// Accounts that failed on one image with one code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// The message of the first of them.
    pub message: String,
    /// The first of them.
    pub account_ids: Vec<AccountId>,
    /// How many more failed.
    pub more: u64,
}

impl Tally {
    /// Adds a report.
    pub fn add(&mut self, report: &Report) {
        *self.jobs.entry(report.status).or_default() += 1;
        let Counts { changed, unchanged, cancelled, failed } = report.counts();
        self.changed += changed;
        self.unchanged += unchanged;
        self.cancelled += cancelled;
        self.failed += failed;
        for image in &report.images {
            image.failed.iter().for_each(|group| self.add_failed(image.image_id, group));
        }
        if report.truncated.is_some() {
            self.failures_more += failed;
        }
        if let Some(reason) = &report.reason {
            if self.rejections.len() < REJECTIONS_MAX {
                self.rejections.push(printable(reason, TEXT_CHARS_MAX));
            } else {
                self.rejections_more += 1;
            }
        }
    }

    /// Returns the number of jobs with this status.
    #[must_use]
    pub fn jobs(&self, status: Status) -> u64 {
        self.jobs.get(&status).copied().unwrap_or_default()
    }

    /// Returns whether every job succeeded for every account.
    #[must_use]
    pub fn is_all_done(&self) -> bool {
        self.failed == 0 && self.jobs.keys().all(|status| *status == Status::Succeeded)
    }

    fn add_failed(&mut self, image_id: Option<ImageId>, group: &FailureGroup) {
        let kind = (image_id, printable(&group.code, TEXT_CHARS_MAX));
        let accounts = group.account_ids.len();
        let listed = accounts.min(ACCOUNTS_MAX - self.accounts_listed);
        if listed == 0 && !self.failures.contains_key(&kind) {
            self.failures_more += accounts as u64;
            return;
        }
        let failures = self.failures.entry(kind).or_insert_with(|| Failures {
            message: printable(&group.message, TEXT_CHARS_MAX),
            account_ids: Vec::new(),
            more: 0,
        });
        failures.account_ids.extend(group.account_ids.iter().take(listed));
        failures.more += (accounts - listed) as u64;
        self.accounts_listed += listed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::report::ImageOutcomes;

    fn image_outcomes(image: &str, failed: &[(u64, &str)]) -> ImageOutcomes {
        let group = |&(id, code): &(u64, &str)| FailureGroup {
            code: code.to_owned(),
            message: format!("message of {id}"),
            request_id: None,
            account_ids: vec![AccountId::new(id).unwrap()],
        };
        ImageOutcomes {
            image_id: image.parse().ok(),
            changed: vec![AccountId::new(10_001).unwrap()],
            unchanged: vec![AccountId::new(10_002).unwrap(), AccountId::new(10_003).unwrap()],
            failed: failed.iter().map(group).collect(),
            ..ImageOutcomes::default()
        }
    }

    fn report(status: Status, image: &str, failed: &[(u64, &str)]) -> Report {
        Report {
            job_id: None,
            lane: None,
            permission: None,
            status,
            reason: (status == Status::Rejected).then(|| "permission: missing".to_owned()),
            images: vec![image_outcomes(image, failed)],
            truncated: None,
            duplicates: 0,
            requests: 0,
            redelivered: false,
            received_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: jiff::Timestamp::UNIX_EPOCH,
            labels: BTreeMap::new(),
            worker: String::new(),
        }
    }

    #[test]
    fn failures_are_grouped_with_first_message() {
        let mut tally = Tally::default();
        tally.add(&report(Status::Partial, "img-6pb6lrmy", &[(20_001, "A"), (20_002, "B"), (20_003, "A")]));
        tally.add(&report(Status::Partial, "img-gvbnzy6f", &[(20_001, "A")]));
        assert_eq!((tally.changed, tally.unchanged, tally.failed, tally.jobs(Status::Partial)), (2, 4, 4, 2));
        let of_one = &tally.failures[&("img-6pb6lrmy".parse().ok(), "A".to_owned())];
        assert_eq!(of_one.message, "message of 20001");
        assert_eq!(of_one.account_ids, [20_001, 20_003].map(|id| AccountId::new(id).unwrap()));
        assert_eq!(tally.failures.len(), 3);
        assert!(!tally.is_all_done());
    }

    #[test]
    fn text_of_other_publishers_is_printable() {
        let mut tally = Tally::default();
        tally.add(&report(Status::Failed, "img-6pb6lrmy", &[(20_001, "A\u{1b}]0;x\u{7}\nforged")]));
        let rejected = Report { reason: Some("\u{1b}[2J".to_owned()), ..report(Status::Rejected, "", &[]) };
        tally.add(&rejected);
        let texts: Vec<_> = tally.failures.keys().map(|(_, code)| code).chain(&tally.rejections).collect();
        assert!(texts.iter().all(|text| text.chars().all(|c| !c.is_control())), "{texts:?}");
        assert_eq!(texts.len(), 2);
    }

    #[test]
    fn accounts_count_for_each_image() {
        let mut tally = Tally::default();
        let images = [image_outcomes("img-6pb6lrmy", &[(20_001, "A")]), image_outcomes("img-gvbnzy6f", &[])];
        tally.add(&Report { images: images.into(), ..report(Status::Partial, "", &[]) });
        assert_eq!((tally.jobs(Status::Partial), tally.changed, tally.unchanged, tally.failed), (1, 2, 4, 1));
        assert_eq!(tally.failures.keys().next().unwrap().0, "img-6pb6lrmy".parse().ok());
    }

    #[test]
    fn truncated_report_counts_as_a_whole_one() {
        let mut tally = Tally::default();
        let counts = Counts { changed: 3, unchanged: 0, cancelled: 1, failed: 2 };
        let mut truncated = report(Status::Partial, "img-6pb6lrmy", &[]);
        (truncated.images, truncated.truncated) = (vec![], Some(counts));
        tally.add(&truncated);
        assert_eq!((tally.changed, tally.unchanged, tally.cancelled, tally.failed), (3, 0, 1, 2));
        assert_eq!((tally.failures.len(), tally.failures_more), (0, 2));
    }

    #[test]
    fn lists_are_bounded_and_numbers_exact() {
        let mut tally = Tally::default();
        for id in 20_000..30_010 {
            tally.add(&report(Status::Failed, "img-6pb6lrmy", &[(id, "A")]));
            tally.add(&report(Status::Rejected, "", &[]));
        }
        tally.add(&report(Status::Failed, "img-6pb6lrmy", &[(30_010, "B")]));
        let listed: Vec<_> = tally.failures.values().map(|kind| (kind.account_ids.len(), kind.more)).collect();
        assert_eq!((listed, tally.failures_more), (vec![(ACCOUNTS_MAX, 10)], 1));
        assert_eq!((tally.rejections.len(), tally.rejections_more), (REJECTIONS_MAX, 9_910));
    }

    #[test]
    fn only_succeeded_jobs_are_all_done() {
        let mut tally = Tally::default();
        assert!(tally.is_all_done(), "nothing to do is done");
        tally.add(&report(Status::Succeeded, "img-6pb6lrmy", &[]));
        assert!(tally.is_all_done());
        tally.add(&report(Status::Rejected, "", &[]));
        assert!(!tally.is_all_done());
    }
}

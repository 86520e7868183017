//! What histories reached, so that a long run can say what it never tried.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::Class;
use imageshare_engine::{
    io::{CloseReason, Notice, Outcome},
    job::{AccountOutcome, Report, local},
};

use crate::fault::InjectedFault;

/// How often each thing was reached, in runs.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    reached: BTreeMap<String, u64>,
}

impl Coverage {
    /// Everything that there is to reach.
    #[must_use]
    pub fn everything() -> BTreeSet<String> {
        let faults = InjectedFault::OF_CALLS
            .into_iter()
            .chain(InjectedFault::OF_STEPS)
            .map(|fault| format!("fault: {}", fault.as_str()));
        let classes: BTreeSet<_> = imageshare_core::code::table().iter().map(|&(_, class)| class).collect();
        let classes = classes.into_iter().chain([Class::Unknown]).map(|class| format!("answer: {}", class.as_str()));
        let reasons = [
            CloseReason::Account,
            CloseReason::Clock,
            CloseReason::Credential,
            CloseReason::Endpoint,
            CloseReason::Permission,
        ];
        let closed = reasons.map(|reason| format!("lane closed: {}", reason.as_str()));
        let codes = [local::CANCEL_LIMIT, local::EXPIRED, local::IMAGE_BUSY, local::NO_ANSWER, local::OVER_QUOTA];
        let reported = codes.map(|code| format!("reported: {code}"));
        let rest = [
            "answer: accepted",
            "answer: none, nothing sent",
            "answer: none, sent",
            "answer: skewed",
            "broker: acknowledgement lost",
            "broker: call waits for a proof",
            "broker: priority rejected",
            "broker: silent connection ended",
            "broker: silent connection resumed",
            "broker: worker cut off",
            "broker: worker suspended",
            "lane opened",
            "notice: batch",
            "notice: cap",
            "notice: cannot list",
            "notice: image busy",
            "reported: a code of the API",
            "reported: cancelled by a SYNC",
            "reported: changed",
            "reported: changed without a request of its own",
            "reported: unchanged",
        ];
        faults.chain(classes).chain(closed).chain(reported).chain(rest.map(String::from)).collect()
    }

    /// Adds what another run reached.
    pub fn add(&mut self, run: &Self) {
        for what in run.reached.keys() {
            *self.reached.entry(what.clone()).or_default() += 1;
        }
    }

    /// Adds what other runs reached.
    pub fn add_all(&mut self, runs: &Self) {
        for (what, count) in &runs.reached {
            *self.reached.entry(what.clone()).or_default() += count;
        }
    }

    /// What was reached, and in how many runs.
    #[must_use]
    pub const fn reached(&self) -> &BTreeMap<String, u64> {
        &self.reached
    }

    pub(crate) fn fault(&mut self, fault: InjectedFault) {
        self.mark("fault: ", fault.as_str());
    }

    pub(crate) fn broker(&mut self, what: &str) {
        self.mark("broker: ", what);
    }

    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted(_) => self.mark("answer: ", "accepted"),
            Outcome::Refused { class, .. } => self.mark("answer: ", class.as_str()),
            Outcome::Skewed => self.mark("answer: ", "skewed"),
            Outcome::Unanswered { sent: true, .. } => self.mark("answer: ", "none, sent"),
            Outcome::Unanswered { sent: false, .. } => self.mark("answer: ", "none, nothing sent"),
        }
    }

    pub(crate) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::BatchReduced(_) => self.mark("notice: ", "batch"),
            Notice::CannotList { .. } => self.mark("notice: ", "cannot list"),
            Notice::CapReduced { .. } => self.mark("notice: ", "cap"),
            Notice::Closed { reason, .. } => self.mark("lane closed: ", reason.as_str()),
            Notice::ImageBusy { .. } => self.mark("notice: ", "image busy"),
            Notice::Opened => self.mark("lane opened", ""),
        }
    }

    pub(crate) fn report(&mut self, report: &Report) {
        if !report.cancelled.is_empty() {
            self.mark("reported: ", "cancelled by a SYNC");
        }
        for (_, outcome) in &report.outcomes {
            match outcome {
                AccountOutcome::Changed(_) if report.requests == 0 => {
                    self.mark("reported: ", "changed without a request of its own");
                }
                AccountOutcome::Changed(_) => self.mark("reported: ", "changed"),
                AccountOutcome::Unchanged => self.mark("reported: ", "unchanged"),
                AccountOutcome::Failed(failure) if failure.code.starts_with("Local.") => {
                    self.mark("reported: ", &failure.code);
                }
                AccountOutcome::Failed(_) => self.mark("reported: ", "a code of the API"),
            }
        }
    }

    fn mark(&mut self, kind: &str, what: &str) {
        self.reached.entry(format!("{kind}{what}")).or_insert(1);
    }
}

//! The jobs whose reports are still to come.

use std::{collections::BTreeMap, ops::Range, time::SystemTime};

use imageshare_engine::{
    io::{DeliveryId, LaneId},
    job::Mode,
};

/// Low bits of a delivery's number that count deliveries; those above are its lane. A million million jobs are more than a
/// process lives to see, and no settings file has room for sixteen million lanes.
const COUNT_BITS: u32 = 40;

/// Jobs by their deliveries. Those of a lane stand together, in the order in which they came.
#[derive(Debug)]
pub(super) struct Held<I> {
    jobs: BTreeMap<DeliveryId, HeldJob<I>>,
    /// Accounts that the jobs of each lane name.
    accounts: BTreeMap<LaneId, usize>,
    taken_in: u64,
}

/// A job whose report is still to come.
#[derive(Debug)]
pub(super) struct HeldJob<I> {
    pub(super) identity: I,
    pub(super) mode: Mode,
    /// Accounts that it names.
    pub(super) accounts: usize,
    pub(super) received_at: SystemTime,
}

impl<I> Held<I> {
    pub(super) const fn new() -> Self {
        Self { jobs: BTreeMap::new(), accounts: BTreeMap::new(), taken_in: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Takes in a job, and gives it its delivery.
    pub(super) fn take_in(&mut self, lane: LaneId, job: HeldJob<I>) -> DeliveryId {
        let delivery = DeliveryId(deliveries(lane).start.0 + self.taken_in);
        self.taken_in += 1;
        *self.accounts.entry(lane).or_default() += job.accounts;
        self.jobs.insert(delivery, job);
        delivery
    }

    /// A job has its report.
    pub(super) fn settle(&mut self, delivery: DeliveryId) -> Option<(LaneId, HeldJob<I>)> {
        let lane = u32::try_from(delivery.0 >> COUNT_BITS).expect("only so many bits are left");
        let (lane, job) = (LaneId(lane), self.jobs.remove(&delivery)?);
        if let Some(accounts) = self.accounts.get_mut(&lane) {
            *accounts -= job.accounts;
        }
        Some((lane, job))
    }

    /// Accounts that the jobs of a lane name.
    pub(super) fn accounts(&self, lane: LaneId) -> usize {
        self.accounts.get(&lane).copied().unwrap_or_default()
    }

    /// Whether no job of a lane is held.
    pub(super) fn has_none(&self, lane: LaneId) -> bool {
        self.jobs.range(deliveries(lane)).next().is_none()
    }

    /// Lets go of the jobs of a lane, in the order in which they came.
    pub(super) fn let_go(&mut self, lane: LaneId) -> impl Iterator<Item = I> {
        self.accounts.remove(&lane);
        self.jobs.extract_if(deliveries(lane), |_, _| true).map(|(_, job)| job.identity)
    }

    /// When the job of a lane came that has waited longest.
    pub(super) fn oldest(&self, lane: LaneId) -> Option<SystemTime> {
        self.jobs.range(deliveries(lane)).next().map(|(_, job)| job.received_at)
    }
}

/// The deliveries of a lane.
fn deliveries(lane: LaneId) -> Range<DeliveryId> {
    let from = |lane: u64| DeliveryId(lane << COUNT_BITS);
    from(lane.0.into())..from(u64::from(lane.0) + 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn each_lane_has_its_jobs_in_their_order() {
        let mut held = Held::new();
        let mut take = |lane, second| {
            let job = HeldJob { identity: second, mode: Mode::Share, accounts: 1, received_at: at(second) };
            held.take_in(LaneId(lane), job)
        };
        let [first, _, third, _] = [take(1, 10), take(0, 11), take(1, 12), take(2, 13)];
        assert_eq!((held.oldest(LaneId(1)), held.oldest(LaneId(3))), (Some(at(10)), None));
        assert_eq!((held.accounts(LaneId(1)), held.accounts(LaneId(3))), (2, 0));
        let (lane, job) = held.settle(first).unwrap();
        assert_eq!((lane, job.identity), (LaneId(1), 10));
        assert!(held.settle(first).is_none(), "once");
        assert_eq!(held.oldest(LaneId(1)), Some(at(12)));
        assert_eq!((held.accounts(LaneId(1)), held.has_none(LaneId(1))), (1, false));
        assert_eq!(held.let_go(LaneId(1)).collect::<Vec<_>>(), [12]);
        assert_eq!((held.accounts(LaneId(1)), held.has_none(LaneId(1))), (0, true));
        assert!(held.settle(third).is_none());
        assert_eq!((held.len(), held.oldest(LaneId(0)), held.oldest(LaneId(2))), (2, Some(at(11)), Some(at(13))));
    }
}

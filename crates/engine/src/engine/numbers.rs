//! The numbers of a lane, for whoever watches. Nothing is decided by them.

use super::{
    Engine,
    account::{Account, Wish},
    image::Image,
    lane::Kind,
};
use crate::{arena::Key, io::LaneId};

/// The numbers of a lane at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneNumbers {
    /// Writes a second that are allowed now, at most the lane's limit.
    pub write_rate: f64,
    /// DescribeImageSharePermission a second, likewise.
    pub read_rate: f64,
    /// DescribeImages a second, likewise.
    pub image_rate: f64,
    /// Accounts that the next request may hold: the lane's limit, or what the API taught.
    pub batch: u32,
    /// Accounts in hand with an operation. Those of a ticket that waits behind a SYNC have none yet.
    pub operations: usize,
    /// Times that a refused list was split, since the engine was made.
    pub splits: u64,
}

impl Engine {
    /// The numbers of a lane as of the last input or poll; nothing of a lane that was never up. Looks at each image of
    /// the lane, so it is not to be asked at every turn.
    #[must_use]
    pub fn lane_numbers(&self, lane: LaneId) -> Option<LaneNumbers> {
        let found = self.lanes.get(&lane)?;
        let rate = |kind: Kind| found.pacers[kind as usize].rate(self.now);
        let images = found.images.iter().filter_map(|&image| self.images.get(image));
        Some(LaneNumbers {
            write_rate: rate(Kind::Write),
            read_rate: rate(Kind::ReadShares),
            image_rate: rate(Kind::ReadImage),
            batch: u32::try_from(found.batch_max()).unwrap_or(u32::MAX),
            operations: images.map(|image| image.pending as usize).sum(),
            splits: found.splits,
        })
    }

    /// Makes a wish the front of its account, or none.
    pub(super) fn set_front(&mut self, account: Key<Account>, front: Option<Key<Wish>>) {
        let found = &mut self.accounts[account];
        let before = core::mem::replace(&mut found.front, front);
        let image = &mut self.images[found.image];
        image.pending = image.pending + u32::from(front.is_some()) - u32::from(before.is_some());
        if before.is_some() && front.is_none() {
            self.look_at_provisional(account);
        }
    }

    /// A list was split, to find an account at fault.
    pub(super) fn count_split(&mut self, image: Key<Image>) {
        let lane = self.images[image].lane;
        self.lane(lane).splits += 1;
    }
}

//! Random jobs from a seed, and the state that they must lead to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::seed;

/// A pseudorandom generator (SplitMix64).
#[derive(Default)]
pub struct SplitMix64(u64);

/// Regions of images. A history has images in the first two: the second one begins at [`SECOND_REGION_START`].
pub const REGIONS: [&str; 8] = [
    "ap-singapore",
    "ap-guangzhou",
    "ap-shanghai",
    "ap-beijing",
    "ap-hongkong",
    "ap-tokyo",
    "eu-frankfurt",
    "na-siliconvalley",
];

/// Number of the first image in the second region.
pub const SECOND_REGION_START: u64 = 50;

/// Number of images that random jobs name.
pub const IMAGES: u64 = 6;

/// Jobs in publish order.
#[derive(Default)]
pub struct JobHistory {
    pub random: SplitMix64,
    pub jobs: Vec<Value>,
    requested: BTreeMap<String, BTreeMap<u64, bool>>,
}

impl SplitMix64 {
    /// Returns a generator that is independent of the run's seed.
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the generator of a scenario, which depends on the run's seed.
    pub fn for_scenario(scenario: u64) -> Self {
        let mut seed = Self(seed());
        Self(scenario ^ seed.below(u64::MAX))
    }

    /// Returns a number from 0 up to `bound`, exclusive.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl JobHistory {
    /// Returns an empty history with the random generator of a scenario.
    pub fn for_scenario(scenario: u64) -> Self {
        Self { random: SplitMix64::for_scenario(scenario), ..Self::default() }
    }

    /// Adds a SHARE and returns its `job_id`.
    pub fn share(&mut self, image: &str, accounts: impl IntoIterator<Item = u64>) -> String {
        self.add(image, true, accounts)
    }

    /// Adds a SHARE or a CANCEL and returns its `job_id`.
    pub fn add(&mut self, image: &str, is_share: bool, accounts: impl IntoIterator<Item = u64>) -> String {
        let accounts: BTreeSet<u64> = accounts.into_iter().collect();
        let job_id = format!("job-{:05}", self.jobs.len());
        let texts: Vec<String> = accounts.iter().map(ToString::to_string).collect();
        let permission = if is_share { "SHARE" } else { "CANCEL" };
        self.jobs.push(json!({
            "job_id": job_id, "image_id": image, "region": region(image), "permission": permission,
            "account_ids": texts,
        }));
        let image = self.requested.entry(image.to_owned()).or_default();
        image.extend(accounts.into_iter().map(|account| (account, is_share)));
        job_id
    }

    /// Adds jobs with up to six accounts each, which often overlap, for the images from number `first` on.
    pub fn add_random(&mut self, count: usize, first: u64) {
        const ACCOUNTS: u64 = 120;
        for _ in 0..count {
            let image = image(first + self.random.below(IMAGES));
            let is_share = self.random.below(5) < 3;
            let accounts: Vec<u64> = (0..=self.random.below(6)).map(|_| account(self.random.below(ACCOUNTS))).collect();
            self.add(&image, is_share, accounts);
        }
    }

    /// Returns the accounts of each image once every job has succeeded.
    pub fn expected(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let shared = |accounts: &BTreeMap<u64, bool>| {
            accounts.iter().filter(|(_, is_shared)| **is_shared).map(|(account, _)| *account).collect::<BTreeSet<u64>>()
        };
        self.requested.iter().map(|(image, accounts)| (image.clone(), shared(accounts))).collect()
    }
}

pub fn image(number: u64) -> String {
    format!("img-golden{number:02}")
}

pub(crate) fn region(of: &str) -> &'static str {
    REGIONS[usize::from(*of >= *image(SECOND_REGION_START))]
}

pub const fn account(number: u64) -> u64 {
    100_000_000_000 + number
}

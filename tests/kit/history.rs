//! Jobs by a seed, and what has to be true when they are done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::seed;

/// Numbers that are the same for the same seed (SplitMix64).
#[derive(Default)]
pub struct Random(u64);

/// Where images are. The first is that of those below [`OF_SECOND_REGION`], the second that of all others of a history.
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

/// The number of the first image in the second region.
pub const OF_SECOND_REGION: u64 = 50;

/// The images of random jobs.
pub const IMAGES: u64 = 6;

/// Jobs in the order in which they are published.
#[derive(Default)]
pub struct History {
    pub random: Random,
    pub jobs: Vec<Value>,
    wished: BTreeMap<String, BTreeMap<u64, bool>>,
}

impl Random {
    /// The numbers of one seed, whatever the seed of the run.
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers of a scenario, others for each seed of a run.
    pub fn of(scenario: u64) -> Self {
        let mut seed = Self(seed());
        Self(scenario ^ seed.below(u64::MAX))
    }

    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl History {
    /// An empty one whose random jobs are those of a scenario.
    pub fn of(scenario: u64) -> Self {
        Self { random: Random::of(scenario), ..Self::default() }
    }

    /// Adds a job and gives its `job_id`.
    pub fn add(&mut self, image: &str, is_share: bool, accounts: impl IntoIterator<Item = u64>) -> String {
        let accounts: BTreeSet<u64> = accounts.into_iter().collect();
        let job_id = format!("job-{:05}", self.jobs.len());
        let texts: Vec<String> = accounts.iter().map(ToString::to_string).collect();
        let permission = if is_share { "SHARE" } else { "CANCEL" };
        self.jobs.push(json!({
            "job_id": job_id, "image_id": image, "region": region(image), "permission": permission,
            "account_ids": texts,
        }));
        let image = self.wished.entry(image.to_owned()).or_default();
        image.extend(accounts.into_iter().map(|account| (account, is_share)));
        job_id
    }

    /// Adds jobs of a few accounts each, of which two jobs of one image often name the same. Images are numbered from
    /// `first` on.
    pub fn add_random(&mut self, count: usize, first: u64) {
        const ACCOUNTS: u64 = 120;
        for _ in 0..count {
            let image = image(first + self.random.below(IMAGES));
            let is_share = self.random.below(5) < 3;
            let accounts: Vec<u64> = (0..=self.random.below(6)).map(|_| account(self.random.below(ACCOUNTS))).collect();
            self.add(&image, is_share, accounts);
        }
    }

    /// Who has each image when all is done.
    pub fn expected(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let shared = |wishes: &BTreeMap<u64, bool>| {
            wishes.iter().filter(|(_, is_shared)| **is_shared).map(|(account, _)| *account).collect::<BTreeSet<u64>>()
        };
        self.wished.iter().map(|(image, wishes)| (image.clone(), shared(wishes))).collect()
    }
}

pub fn image(number: u64) -> String {
    format!("img-golden{number:02}")
}

pub(crate) fn region(of: &str) -> &'static str {
    REGIONS[usize::from(*of >= *image(OF_SECOND_REGION))]
}

pub const fn account(number: u64) -> u64 {
    100_000_000_000 + number
}

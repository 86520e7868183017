//! Reads the members of the organization that a key's account administers.

use std::{collections::BTreeSet, time::Duration};

use imageshare_core::actions::{Action, DescribeOrganizationMembers, OrganizationMember, OrganizationMembers, Tag};
use tokio::time::Instant;

use crate::{
    http::Client,
    lanes::OpenLane,
    listing::{PacedReader, ReadFailure},
    wire::job::ACCOUNTS_MAX,
};

/// Readings of all pages, if members join or leave in between.
const READINGS_MAX: usize = 3;

/// Which members of an organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Only those of this node.
    pub node_id: Option<u64>,
    /// Only those with all of these tags.
    pub tags: Vec<Tag>,
}

/// Reads with one lane's credential, at the lane's pace. The service is that of the lane's site.
#[derive(Debug)]
pub struct OrganizationReader(PacedReader);

impl OrganizationReader {
    /// Returns a reader for a lane.
    #[must_use]
    pub fn new(client: &Client, lane: &OpenLane) -> Self {
        let endpoint = lane.endpoint.of_service(DescribeOrganizationMembers::SERVICE);
        Self(PacedReader::new(client, lane, endpoint))
    }

    /// Returns the members of the organization in the order of the API, at most [`ACCOUNTS_MAX`]. Each call is repeated for
    /// `give_up_after`, as for a listing.
    ///
    /// # Errors
    /// If the API refuses or gives no usable response in that time, if there are more members, or if the pages do not
    /// make a whole. A SYNC with a list that lacks a member would cancel its shares, so there is no partial result.
    pub async fn members(
        &mut self,
        filter: &MemberFilter,
        give_up_after: Duration,
    ) -> Result<Vec<OrganizationMember>, ReadFailure> {
        let give_up_at = Instant::now() + give_up_after;
        for _ in 0..READINGS_MAX {
            if let Some(members) = self.read_pages(filter, give_up_at).await? {
                return Ok(members);
            }
        }
        let problem = format!("the pages of {READINGS_MAX} readings do not fit together (expected each member once)");
        Err(ReadFailure::Inconsistent(problem))
    }

    /// Reads all pages. Returns `None` if they do not fit together, since a member joined or left in between.
    async fn read_pages(
        &mut self,
        filter: &MemberFilter,
        give_up_at: Instant,
    ) -> Result<Option<Vec<OrganizationMember>>, ReadFailure> {
        let mut members: Vec<OrganizationMember> = Vec::new();
        let mut accounts = BTreeSet::new();
        for page in 0.. {
            let action = DescribeOrganizationMembers {
                offset: page * DescribeOrganizationMembers::PAGE_LEN,
                node_id: filter.node_id,
                tags: filter.tags.clone(),
            };
            let left = give_up_at.saturating_duration_since(Instant::now());
            let OrganizationMembers { total, members: more } = self.0.read(&action, None, left).await?;
            if total > ACCOUNTS_MAX as u64 {
                let problem = format!("{total} members (expected at most {ACCOUNTS_MAX}, as many as a job may name)");
                return Err(ReadFailure::Inconsistent(problem));
            }
            let is_last = more.is_empty() || action.offset + DescribeOrganizationMembers::PAGE_LEN >= total;
            let is_repeated = more.iter().any(|member| !accounts.insert(member.account_id));
            members.extend(more);
            if is_repeated || (is_last && members.len() as u64 != total) {
                return Ok(None);
            }
            if is_last {
                break;
            }
        }
        Ok(Some(members))
    }
}

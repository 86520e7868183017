//! `imageshare accounts`: lists the members of the organization as an account file.

use std::fmt::Write as _;

use imageshare_core::{
    actions::{DescribeOrganizationMembers, OrganizationMember, Tag},
    ids::AccountId,
};
use imageshare_engine::io::LaneId;
use imageshare_worker::{
    credentials::Owner,
    lanes::{OpenLane, route},
    organization::{MemberFilter, OrganizationReader},
    settings::Settings,
};
use serde::Serialize;

use crate::{
    cli::{AccountsArguments, Common, OutputFormat},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    output::{self, counted},
    runtime,
    terminal::Terminal,
    work::{self, plan},
};

/// A member in JSON.
#[derive(Serialize)]
struct Member<'a> {
    account_id: AccountId,
    name: Option<&'a str>,
    node_id: Option<u64>,
    node_name: Option<&'a str>,
    permission_status: Option<&'a str>,
}

pub(crate) fn run(common: &Common, arguments: &AccountsArguments) -> CommandResult {
    let settings = work::settings(common, &arguments.api, &None)?;
    let filter = MemberFilter { node_id: arguments.node, tags: arguments.tag.clone() };
    if filter.tags.len() > DescribeOrganizationMembers::TAGS_MAX {
        let message = format!(
            "--tag: given {} times (expected at most {} tags)",
            filter.tags.len(),
            DescribeOrganizationMembers::TAGS_MAX
        );
        return Err(Problem::new(Exit::Usage, message));
    }
    let lane = lane(&settings)?;
    let terminal = Terminal::new(settings.output.quiet);
    let format = if settings.output.json { OutputFormat::Json } else { common.output.unwrap_or(OutputFormat::Table) };
    let (members, own) = runtime::run(async {
        let session = work::prepare(settings, &arguments.api).await?;
        let _announcer = terminal.announce(session.client.waits());
        let lane = session.lane(lane);
        let mut reader = OrganizationReader::new(&session.client, lane);
        let members = reader.members(&filter, session.settings.give_up_after).await;
        let own = owner(lane).await;
        if let Some(sandbox) = session.sandbox {
            sandbox.stop().await;
        }
        let members = members.map_err(|error| {
            Problem::new(plan::exit_of(&error), format!("cannot list the members of the organization: {error}"))
        })?;
        Ok((members, own))
    })?;
    let (listed, unconfirmed): (Vec<_>, Vec<_>) = members
        .into_iter()
        .filter(|member| own != Some(member.account_id))
        .partition(|member| arguments.unconfirmed || member.is_confirmed());
    if !unconfirmed.is_empty() {
        let ids: Vec<String> = unconfirmed.iter().map(|member| member.account_id.to_string()).collect();
        terminal.note(&format!(
            "omitted: {} with unconfirmed membership (--unconfirmed lists them): {}",
            counted(ids.len(), "account"),
            ids.join(" ")
        ));
    }
    output::print(&text(&listed, format))?;
    Ok(Exit::Done)
}

/// Returns the lane whose key lists the members. An organization has no region, so `--region` matters only if there are
/// several lanes.
fn lane(settings: &Settings) -> Result<LaneId, Problem> {
    let lanes = &settings.lanes;
    match (&settings.lane, lanes.as_slice(), settings.region) {
        (None, [_], _) => Some(LaneId(0)),
        (Some(name), ..) => (0..).map(LaneId).zip(lanes).find(|(_, lane)| lane.name == *name).map(|(id, _)| id),
        (None, _, Some(region)) => return route(lanes, None, [region]).or_exit(Exit::Usage),
        (None, _, None) => None,
    }
    .ok_or_else(|| {
        let names: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
        let expected = format!("the lane whose key administers the organization: {}", names.join(", "));
        Problem::new(Exit::Usage, format!("--lane: missing (expected {expected})"))
    })
}

/// Returns the account of the key, if STS names it. It is a member too, but it owns the images.
async fn owner(lane: &OpenLane) -> Option<AccountId> {
    let mut identity = lane.credentials.identity();
    match identity.wait_for(|identity| identity.owner != Owner::Asked).await.ok()?.owner {
        Owner::Known(account) => Some(account),
        Owner::Asked | Owner::Unreached(_) | Owner::Unknown(_) => None,
    }
}

fn text(members: &[OrganizationMember], format: OutputFormat) -> String {
    match format {
        OutputFormat::Ids => members.iter().map(|member| format!("{}\n", member.account_id)).collect(),
        OutputFormat::Json => members.iter().map(|member| output::json_line(&Member::new(member))).collect(),
        OutputFormat::Table => members.iter().map(line).collect(),
    }
}

/// Returns a line of an account file, with the names of node and member in a comment.
fn line(OrganizationMember { account_id, name, node_name, .. }: &OrganizationMember) -> String {
    let names: Vec<&str> = [node_name, name].into_iter().flatten().map(String::as_str).collect();
    let mut line = account_id.to_string();
    if !names.is_empty() {
        write!(line, "  # {}", names.join(": ")).expect("writing to a String never fails");
    }
    line + "\n"
}

impl<'a> Member<'a> {
    fn new(member: &'a OrganizationMember) -> Self {
        Self {
            account_id: member.account_id,
            name: member.name.as_deref(),
            node_id: member.node_id,
            node_name: member.node_name.as_deref(),
            permission_status: member.permission_status.as_deref(),
        }
    }
}

/// Parses a flag `KEY=VALUE`.
pub(crate) fn parse_tag(text: &str) -> Result<Tag, &'static str> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    Ok(Tag { key: key.to_owned(), value: value.to_owned() })
}

//! `check --policy`: prints the smallest policy that a key needs.

use std::{collections::BTreeSet, time::Duration};

use imageshare_core::{
    actions::{
        Action, DescribeImageSharePermission, DescribeImages, DescribeOrganizationMembers, ModifyImageSharePermission,
    },
    ids::{AccountId, ImageId},
};
use imageshare_worker::{
    credentials::{IfMissing, Owner, Source},
    environment::Environment,
    http::Client,
    lane::{LaneConfig, Regions},
    lanes,
    settings::Settings,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    cli::CheckArguments,
    exit::{CommandResult, Exit, Problem},
    output, runtime, terminal,
};

/// The action that changes shares.
pub(super) const WRITE: &str = ModifyImageSharePermission::NAME;

/// Returns the name of an action in policies.
pub(super) fn action(name: &str) -> String {
    format!("{}:{name}", ModifyImageSharePermission::SERVICE)
}

/// Prints the policy. For an assumed role, also prints the permission that the assuming key needs.
pub(super) fn print(settings: &Settings, client: &Client, arguments: &CheckArguments) -> CommandResult {
    let owners = runtime::run(async {
        let mut owners = Vec::new();
        for lane in &settings.lanes {
            let owner = if arguments.connect { owner(lane, client).await } else { None };
            owners.push(lane.account.or(owner));
        }
        Ok::<_, Problem>(owners)
    })?;
    let (mut written, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for (lane, owner) in settings.lanes.iter().zip(owners) {
        for region in regions(lane, settings) {
            written.extend(images(&region, owner, &arguments.image));
            // The API requires the listing permission for all images.
            listed.extend(images(&region, owner, &[]));
        }
    }
    if written.is_empty() {
        let region = settings.region.map_or_else(String::new, |region| region.to_string());
        return Err(Problem::new(
            Exit::Usage,
            format!("region {region}: not served by any lane (expected a region of a lane)"),
        ));
    }
    // These actions have no resources.
    let all = BTreeSet::from(["*".to_owned()]);
    let mut statements = vec![
        statement::<ModifyImageSharePermission>(&written),
        statement::<DescribeImageSharePermission>(&listed),
        statement::<DescribeImages>(&all),
    ];
    if arguments.organization {
        statements.push(statement::<DescribeOrganizationMembers>(&all));
    }
    let policy = json!({"version": "2.0", "statement": statements});
    for lane in &settings.lanes {
        if let Source::AssumeRole { role, credential, .. } = &lane.source {
            let arn = role.arn.as_deref().unwrap_or_default();
            let message =
                format!("credential {credential} needs sts:AssumeRole on {arn}; the policy above is the role's");
            terminal::write_error_stream(&message);
        }
    }
    Ok(Exit::Done.after(output::print(&format!("{policy:#}\n"))))
}

fn statement<A: Action>(resources: &BTreeSet<String>) -> Value {
    json!({"effect": "allow", "action": [format!("{}:{}", A::SERVICE, A::NAME)], "resource": resources})
}

/// Returns the regions of a lane for resources: that of the flag, else those of the lane; an empty text stands for all.
fn regions(lane: &LaneConfig, settings: &Settings) -> Vec<String> {
    match (&settings.region, &lane.regions) {
        (Some(region), regions) if regions.contains(*region) => vec![region.to_string()],
        (None, Regions::These(regions)) => regions.iter().map(ToString::to_string).collect(),
        (None, Regions::All) => vec![String::new()],
        (Some(_), _) => Vec::new(),
    }
}

/// Returns the resources of images: `qcs::cvm:REGION:uin/UIN:image/ID`. Without a UIN, a resource belongs to the account
/// that has the policy.
fn images(region: &str, owner: Option<AccountId>, images: &[ImageId]) -> Vec<String> {
    let owner = owner.map_or_else(String::new, |owner| format!("uin/{owner}"));
    let resource = |image: &str| format!("qcs::{}:{region}:{owner}:image/{image}", ModifyImageSharePermission::SERVICE);
    if images.is_empty() { vec![resource("*")] } else { images.iter().map(|image| resource(image.as_str())).collect() }
}

/// Returns the account of a lane's key, if STS returns it in time.
async fn owner(lane: &LaneConfig, client: &Client) -> Option<AccountId> {
    let time_limit: Duration = client.time_outs().call;
    let lanes = std::slice::from_ref(lane);
    let opened = lanes::open_lanes(lanes, &Environment::of_process(), client, IfMissing::Fail).await.ok()?;
    let mut identity = opened.first()?.credentials.identity();
    let known = timeout(time_limit, identity.wait_for(|identity| identity.owner != Owner::Asked)).await;
    match known.ok()?.ok()?.owner {
        Owner::Known(account) => Some(account),
        Owner::Asked | Owner::Unknown(_) | Owner::Unreached(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_names_region_account_and_image() {
        let (owner, image) = ("100009999999".parse().ok(), "img-6pb6lrmy".parse().unwrap());
        let named = "qcs::cvm:ap-singapore:uin/100009999999:image/img-6pb6lrmy";
        assert_eq!(images("ap-singapore", owner, &[image]), [named]);
        assert_eq!(images("", None, &[]), ["qcs::cvm:::image/*"]);
    }
}

//! The smallest policy that a key needs.

use std::{collections::BTreeSet, time::Duration};

use imageshare_core::{
    actions::{Action as _, DescribeImageSharePermission, DescribeImages, ModifyImageSharePermission},
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
    exit::{Ended, Exit, Problem},
    output, runtime, terminal,
};

/// The action that writes.
pub(super) const WRITE: &str = ModifyImageSharePermission::NAME;

/// An action as policies name it.
pub(super) fn action(name: &str) -> String {
    format!("{}:{name}", ModifyImageSharePermission::SERVICE)
}

/// Prints the policy, and notes what a key needs beside it to assume a role.
pub(super) fn print(settings: &Settings, client: &Client, arguments: &CheckArguments) -> Ended {
    let owners = runtime::run(async {
        let mut owners = Vec::new();
        for lane in &settings.lanes {
            let asked = if arguments.connect { owner(lane, client).await } else { None };
            owners.push(lane.account.or(asked));
        }
        Ok::<_, Problem>(owners)
    })?;
    let (mut written, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for (lane, owner) in settings.lanes.iter().zip(owners) {
        for region in regions(lane, settings) {
            written.extend(images(&region, owner, &arguments.image));
            // The API checks a listing against all images.
            listed.extend(images(&region, owner, &[]));
        }
    }
    if written.is_empty() {
        let region = settings.region.map_or_else(String::new, |region| region.to_string());
        return Err(Problem::new(Exit::Usage, format!("region {region}: no lane serves it")));
    }
    let policy = json!({
        "version": "2.0",
        "statement": [
            statement(WRITE, &written),
            statement(DescribeImageSharePermission::NAME, &listed),
            // This action has no resources.
            statement(DescribeImages::NAME, &BTreeSet::from(["*".to_owned()])),
        ],
    });
    for lane in &settings.lanes {
        if let Source::AssumeRole { role, credential, .. } = &lane.source {
            let arn = role.arn.as_deref().unwrap_or_default();
            let words =
                format!("credential {credential} needs sts:AssumeRole on {arn}; the policy above is the role's");
            terminal::write_error_stream(&words);
        }
    }
    Ok(Exit::Done.after(output::print(&format!("{policy:#}\n"))))
}

fn statement(name: &str, resources: &BTreeSet<String>) -> Value {
    json!({"effect": "allow", "action": [action(name)], "resource": resources})
}

/// Returns the regions of a lane as resources name them: that of the flag, those of the lane, or empty for all.
fn regions(lane: &LaneConfig, settings: &Settings) -> Vec<String> {
    match (&settings.region, &lane.regions) {
        (Some(region), regions) if regions.contains(*region) => vec![region.to_string()],
        (None, Regions::These(regions)) => regions.iter().map(ToString::to_string).collect(),
        (None, Regions::All) => vec![String::new()],
        (Some(_), _) => Vec::new(),
    }
}

/// Returns images as resources: `qcs::cvm:REGION:uin/UIN:image/ID`. Without an account a resource is one of the account
/// that has the policy.
fn images(region: &str, owner: Option<AccountId>, images: &[ImageId]) -> Vec<String> {
    let owner = owner.map_or_else(String::new, |owner| format!("uin/{owner}"));
    let resource = |image: &str| format!("qcs::{}:{region}:{owner}:image/{image}", ModifyImageSharePermission::SERVICE);
    if images.is_empty() { vec![resource("*")] } else { images.iter().map(|image| resource(image.as_str())).collect() }
}

/// Returns the account of a lane's key, if STS gives it in time.
async fn owner(lane: &LaneConfig, client: &Client) -> Option<AccountId> {
    let patience: Duration = client.time_outs().call;
    let alone = std::slice::from_ref(lane);
    let opened = lanes::open_lanes(alone, &Environment::of_process(), client, IfMissing::Fail).await.ok()?;
    let mut identity = opened.first()?.credentials.identity();
    let known = timeout(patience, identity.wait_for(|identity| identity.owner != Owner::Asked)).await;
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

//! `check --connect`: checks that STS, the API and the broker are reachable and grant the needed permissions. Changes
//! nothing.

use imageshare_core::{
    Class,
    ids::{ImageId, Region},
};
use imageshare_worker::{
    broker::{BrokerVersion, Connection, Url, management, topology},
    credentials::{IfMissing, Owner},
    environment::Environment,
    http::Client,
    lane::Regions,
    lanes::{self, OpenLane},
    listing::{ImageReader, ReadFailure},
    settings::Settings,
};

use super::{Findings, policy};
use crate::{broker, exit::Exit, output::counted, site, work, worker};

/// An image that does not exist. The API checks the policy before the image, so a probe needs no image of the user.
const MISSING_IMAGE: &str = "img-00000000";

/// The region of the probe for a lane that serves all regions. Every account has it.
const DEFAULT_REGION: &str = "ap-guangzhou";

/// Runs all checks, and adds a verdict.
pub(super) async fn run(settings: &Settings, client: &Client, findings: &mut Findings) {
    for lane in &settings.lanes {
        // Reported by the caller.
        if findings.unusable.contains(&lane.credential) {
            continue;
        }
        let lane_alone = std::slice::from_ref(lane);
        let opened = lanes::open_lanes(lane_alone, &Environment::of_process(), client, IfMissing::Fail).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                findings.problem(work::credential_exit(&error.error), &format!("lane {}: {error}", lane.name));
                continue;
            }
        };
        for lane in &opened {
            check_identity(lane, findings).await;
            check_api(lane, region(lane, settings), client, findings).await;
        }
    }
    if settings.broker.url.is_some() {
        check_broker(settings, client, findings).await;
    }
    let verdict = match findings.problems {
        0 => "ready: no problem found; writes were not tried".to_owned(),
        problems => format!("not ready: {}", counted(problems, "problem")),
    };
    findings.add("connect.verdict".to_owned(), verdict, &"");
}

/// Asks STS for the account of the key.
async fn check_identity(lane: &OpenLane, findings: &mut Findings) {
    let mut identity = lane.credentials.identity();
    let known = identity.wait_for(|identity| identity.owner != Owner::Asked).await;
    let known = known.map(|identity| identity.owner.clone());
    let key = format!("connect.{}.GetCallerIdentity", lane.name);
    match known {
        Ok(Owner::Known(account)) => {
            if let Some(expected) = lane.account.filter(|expected| *expected != account) {
                let name = &lane.name;
                let problem =
                    format!("lane {name}: the key belongs to account {account} (expected account {expected})");
                findings.problem(Exit::Refused, &problem);
            }
            findings.add(key, format!("account {account}"), &lane.endpoint);
        }
        Ok(Owner::Unreached(reason) | Owner::Unknown(reason)) => {
            // Not a problem: a worker continues without the account.
            findings.add(key, "account unknown; the API will refuse jobs that name the key's own account", &reason);
        }
        Ok(Owner::Asked) | Err(_) => {}
    }
}

/// Sends the reading calls to the API, to check the endpoint, the key and its permissions.
async fn check_api(lane: &OpenLane, region: Region, client: &Client, findings: &mut Findings) {
    let image: ImageId = MISSING_IMAGE.parse().expect("a valid image id");
    for (action, result) in ImageReader::new(client, lane).probe(region, image).await {
        let key = format!("connect.{}.{action}", lane.name);
        let class = result.as_ref().err().map(ReadFailure::class);
        match (result, class) {
            (Err(error), Some(Some(Class::Permission))) => {
                findings.add(key, "not allowed", &lane.endpoint);
                let missing = policy::action(action);
                findings
                    .problem(Exit::Refused, &format!("lane {}: the key's policy lacks {missing} ({error})", lane.name));
            }
            (Err(error), Some(class @ (None | Some(Class::Credential | Class::Clock | Class::Deployment)))) => {
                findings.add(key, "failed", &lane.endpoint);
                let exit = if class.is_none() { Exit::Unreachable } else { Exit::Refused };
                let hint = site::hint(class, &lane.endpoint).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
                findings.problem(exit, &format!("lane {}: {action}: {error}{hint}", lane.name));
            }
            (Err(error), Some(Some(Class::Throttle | Class::ThrottleAll | Class::Transient | Class::Unknown))) => {
                findings.add(key, "not known", &lane.endpoint);
                findings.problem(Exit::Unreachable, &format!("lane {}: {action}: {error}", lane.name));
            }
            // Any other error, such as that of the missing image, comes after the permission check.
            (Ok(()) | Err(_), _) => findings.add(key, "allowed", &lane.endpoint),
        }
    }
    let key = format!("connect.{}.{}", lane.name, policy::WRITE);
    findings.add(
        key,
        format!("not tried, since it changes shares; the policy must allow {}", policy::action(policy::WRITE)),
        &"",
    );
}

/// Connects to the broker, and compares its exchanges and queues with those that the lanes need.
async fn check_broker(settings: &Settings, client: &Client, findings: &mut Findings) {
    let key = "connect.broker".to_owned();
    // An address that cannot be read has been reported by the caller.
    let Ok(url) = settings.broker.url() else { return };
    let lanes = settings.lanes.iter().map(|lane| lane.name.as_str());
    let compare = async {
        let connection = Connection::open(&url, "imageshare check", broker::time_outs(settings)).await?;
        let differences = topology::check(&connection, lanes).await;
        let version = connection.broker();
        drop(connection.close().await);
        differences.map(|differences| (version, differences))
    };
    let add_version = |version: &BrokerVersion, findings: &mut Findings| {
        let rule = if version.acts_on_priority() {
            "delivers by priority; a job whose priority is set and is not 4 is rejected"
        } else {
            "ignores priorities; RabbitMQ 4 does not, so leave the priority of jobs unset"
        };
        findings.add("connect.broker.version".to_owned(), format!("RabbitMQ {version}: {rule}"), &url);
    };
    let waiting = client.waits().begin(&url.to_string());
    let compared = compare.await;
    drop(waiting);
    match compared {
        Ok((version, differences)) if differences.is_empty() => {
            findings.add(key, "connected; exchanges and queues are as needed", &url);
            add_version(&version, findings);
        }
        Ok((version, differences)) => {
            findings.add(key, "connected; an exchange or queue is missing or differs", &url);
            add_version(&version, findings);
            for difference in differences {
                findings.problem(Exit::Failed, &difference.to_string());
            }
        }
        Err(error) => {
            findings.add(key, "failed", &url);
            findings.problem(broker::exit(&error), &format!("{url}: {error}"));
            return;
        }
    }
    check_policies(settings, &url, findings).await;
}

/// Asks the broker's management interface for policies that limit the queues.
async fn check_policies(settings: &Settings, url: &Url, findings: &mut Findings) {
    let key = "connect.broker.policies".to_owned();
    // An address that cannot be read has been reported by the caller.
    let Ok(management) = settings.broker.management_url() else { return };
    let Some(management) = management else {
        let value = "not inspected, so policies that drop jobs go unnoticed; set broker.management_url to \
                     http://user:password@host:15672 (plugin rabbitmq_management, user with the tag management)";
        findings.add(key, value, &"");
        return;
    };
    let client = match worker::management_client(settings) {
        Ok(client) => client,
        Err(problem) => return findings.fail(problem),
    };
    let lanes = settings.lanes.iter().map(|lane| lane.name.as_str());
    let (limits, unknown) = management::inspect(&client, &management, url.vhost(), lanes).await;
    let value = match (limits.is_empty(), unknown.is_empty()) {
        (true, true) => "no policy limits the queues",
        (false, _) => "a policy limits the queues",
        (true, false) => "not inspected",
    };
    findings.add(key, value, &management);
    for limit in limits {
        findings.problem(Exit::Failed, &limit.to_string());
    }
    for problem in unknown {
        findings.problem(Exit::Failed, &format!("{management}: {problem}"));
    }
}

/// Returns a region that the lane serves.
fn region(lane: &OpenLane, settings: &Settings) -> Region {
    let of_settings = settings.region.filter(|region| lane.regions.contains(*region));
    let of_lane = || match &lane.regions {
        Regions::All => None,
        Regions::These(regions) => regions.first().copied(),
    };
    of_settings.or_else(of_lane).unwrap_or_else(|| DEFAULT_REGION.parse().expect("a valid region"))
}

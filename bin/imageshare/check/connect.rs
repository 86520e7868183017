//! `check --connect`: whether the API, STS and the broker of the settings are reachable and permit what is needed. Only
//! reads; changes nothing.

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
use crate::{broker, exit::Exit, output::counted, site, worker};

/// An image that there is not: what may be asked about it may be asked about others, as far as the policy goes.
const NO_IMAGE: &str = "img-00000000";

/// A region that every account has.
const REGION: &str = "ap-guangzhou";

/// Asks all of them.
pub(super) async fn run(settings: &Settings, client: &Client, findings: &mut Findings) {
    for lane in &settings.lanes {
        // Why there is no credential was said.
        let alone = std::slice::from_ref(lane);
        let Ok(opened) = lanes::open_lanes(alone, &Environment::of_process(), client, IfMissing::Fail).await else {
            continue;
        };
        for lane in &opened {
            ask_whose(lane, findings).await;
            ask_api(lane, region(lane, settings), client, findings).await;
        }
    }
    if settings.broker.url.is_some() {
        ask_broker(settings, client, findings).await;
    }
    let verdict = match findings.problems {
        0 => "ready: no problem found; writes were not tried".to_owned(),
        problems => format!("not ready: {}", counted(problems, "problem")),
    };
    findings.add("connect.verdict".to_owned(), verdict, &"");
}

/// STS: whose the key is.
async fn ask_whose(lane: &OpenLane, findings: &mut Findings) {
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
            findings.add(key, format!("the key of account {account}"), &lane.endpoint);
        }
        Ok(Owner::Unreached(reason) | Owner::Unknown(reason)) => {
            // A worker continues without the account.
            findings.add(key, "not known: jobs that name the key's own account are refused by the API", &reason);
        }
        Ok(Owner::Asked) | Err(_) => {}
    }
}

/// The API: whether it can be reached, takes the key, and lets it read.
async fn ask_api(lane: &OpenLane, region: Region, client: &Client, findings: &mut Findings) {
    let image: ImageId = NO_IMAGE.parse().expect("it has the form of one");
    for (action, asked) in ImageReader::new(client, lane).probe(region, image).await {
        let key = format!("connect.{}.{action}", lane.name);
        let class = asked.as_ref().err().map(ReadFailure::class);
        match (asked, class) {
            (Err(error), Some(Some(Class::Permission))) => {
                findings.add(key, "not allowed", &lane.endpoint);
                let missing = policy::action(action);
                findings
                    .problem(Exit::Refused, &format!("lane {}: the key's policy lacks {missing} ({error})", lane.name));
            }
            (Err(error), Some(class @ (None | Some(Class::Credential | Class::Clock | Class::Deployment)))) => {
                findings.add(key, "failed", &lane.endpoint);
                let exit = if class.is_none() { Exit::OutOfReach } else { Exit::Refused };
                let hint = site::hint(class, &lane.endpoint).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
                findings.problem(exit, &format!("lane {}: {action}: {error}{hint}", lane.name));
            }
            // The image does not exist, so its own result is irrelevant.
            (Ok(()) | Err(_), _) => findings.add(key, "allowed", &lane.endpoint),
        }
    }
    let key = format!("connect.{}.{}", lane.name, policy::WRITE);
    findings.add(key, format!("not tried, since it writes: the policy needs {}", policy::action(policy::WRITE)), &"");
}

/// The broker: whether it can be reached, takes us, and has what is needed.
async fn ask_broker(settings: &Settings, client: &Client, findings: &mut Findings) {
    let key = "connect.broker".to_owned();
    // Why there is no address was said.
    let Ok(url) = settings.broker.url() else { return };
    let lanes = settings.lanes.iter().map(|lane| lane.name.as_str());
    let looked = async {
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
    let looked = looked.await;
    drop(waiting);
    match looked {
        Ok((version, differences)) if differences.is_empty() => {
            findings.add(key, "there, with all that is needed", &url);
            add_version(&version, findings);
        }
        Ok((version, differences)) => {
            findings.add(key, "there, and something is not as it has to be", &url);
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
    ask_management(settings, &url, findings).await;
}

/// The broker's management interface: which limits its policies set.
async fn ask_management(settings: &Settings, url: &Url, findings: &mut Findings) {
    let key = "connect.broker.policies".to_owned();
    // Why the address cannot be read was said.
    let Ok(management) = settings.broker.management_url() else { return };
    let Some(management) = management else {
        let words = "not inspected: policies that drop jobs are not seen; set broker.management_url to \
                     http://user:password@host:15672 (plugin rabbitmq_management, user with the tag management)";
        findings.add(key, words, &"");
        return;
    };
    let client = match worker::management_client(settings) {
        Ok(client) => client,
        Err(problem) => return findings.fail(problem),
    };
    let lanes = settings.lanes.iter().map(|lane| lane.name.as_str());
    let (limits, unknown) = management::inspect(&client, &management, url.vhost(), lanes).await;
    let value = match (limits.is_empty(), unknown.is_empty()) {
        (true, true) => "none limits the queues",
        (false, _) => "limit the queues",
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

/// A region that the lane has.
fn region(lane: &OpenLane, settings: &Settings) -> Region {
    let of_settings = settings.region.filter(|region| lane.regions.contains(*region));
    let of_lane = || match &lane.regions {
        Regions::All => None,
        Regions::These(regions) => regions.first().copied(),
    };
    of_settings.or_else(of_lane).unwrap_or_else(|| REGION.parse().expect("it is a region"))
}

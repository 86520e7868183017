//! Opening lanes, and routing jobs to them.

use std::fs;

use imageshare_core::Credential;
use imageshare_engine::io::LaneId;

use super::*;
use crate::{
    http::TimeOuts,
    lane::Regions,
    settings::{Flags, Settings},
};

fn lane(name: &str, regions: &[&str]) -> OpenLane {
    let credential =
        Credential { secret_id: "AKIDEXAMPLE".parse().unwrap(), secret_key: "key".parse().unwrap(), token: None };
    let regions = match regions {
        [] => Regions::All,
        some => Regions::These(some.iter().map(|region| region.parse().unwrap()).collect()),
    };
    OpenLane {
        config: LaneConfig { regions, ..LaneConfig::example(name, "cvm.intl.tencentcloudapi.com") },
        credentials: CredentialCache::fixed(credential, "100009999999".parse().unwrap()),
    }
}

#[track_caller]
fn check(lanes: &[OpenLane], named: Option<&str>, region: &str, expected: Result<u32, &str>) {
    let routed =
        route(lanes, named, region.split(' ').map(|region| region.parse().unwrap())).map_err(|error| error.to_string());
    assert_eq!(routed, expected.map(LaneId).map_err(str::to_owned));
}

#[test]
fn lane_with_all_regions_serves_every_job() {
    let lanes = [lane("default", &[])];
    check(&lanes, None, "ap-singapore", Ok(0));
    check(&lanes, Some("default"), "ap-singapore", Ok(0));
    let other = "lane: unknown lane \"other\\u{1b}\" (expected default)";
    check(&lanes, Some("other\u{1b}"), "ap-singapore", Err(other));
}

#[test]
fn job_goes_to_lane_of_its_region() {
    let lanes = [lane("asia", &["ap-singapore", "ap-jakarta"]), lane("europe", &["eu-frankfurt"])];
    check(&lanes, None, "eu-frankfurt", Ok(1));
    check(&lanes, Some("asia"), "ap-jakarta", Ok(0));
    let wrong = "region: eu-frankfurt is not served by lane asia (expected ap-jakarta, ap-singapore)";
    check(&lanes, Some("asia"), "eu-frankfurt", Err(wrong));
    let none = "region: no lane serves na-siliconvalley \
                (expected ap-jakarta, ap-singapore, eu-frankfurt)";
    check(&lanes, None, "na-siliconvalley", Err(none));
    check(&lanes, None, "ap-singapore na-siliconvalley", Err(none));
    check(&lanes, None, "ap-singapore ap-jakarta", Ok(0));
    check(&lanes, Some("asia"), "ap-jakarta eu-frankfurt", Err(wrong));
    let apart = "images: no lane serves ap-jakarta, eu-frankfurt together (expected images of one lane; use a job for \
                 each lane)";
    check(&lanes, None, "eu-frankfurt ap-jakarta", Err(apart));
}

#[test]
fn region_of_several_lanes_needs_name() {
    let lanes = [lane("red", &["ap-singapore"]), lane("blue", &[])];
    let ambiguous = "lane: missing, and region ap-singapore is served by the lanes red, blue \
                     (expected one of them)";
    check(&lanes, None, "ap-singapore", Err(ambiguous));
    check(&lanes, Some("blue"), "ap-singapore", Ok(1));
    check(&lanes, None, "eu-frankfurt", Ok(1));
    check(&lanes, None, "ap-singapore eu-frankfurt", Ok(1));
}

#[tokio::test]
async fn missing_settings_are_an_error_even_if_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    fs::write(&path, "[credentials.default]\nsource = \"environment\"\n").unwrap();
    let settings = Settings::load(&Flags { config: Some(path), ..Flags::default() }, &Environment::of([])).unwrap();
    let client = Client::new(TimeOuts::default()).unwrap();
    for variables in [[("A", "")], [("TENCENTCLOUD_SECRET_ID", "AKIDx")], [("TENCENTCLOUD_SECRET_ID", "'x'")]] {
        let environment = Environment::of(variables);
        assert!(open_lanes(&settings.lanes, &environment, &client, IfMissing::Wait).await.is_err());
    }
}

#[test]
fn debug_hides_key_of_lane() {
    let shown = format!("{:?}", lane("default", &[]));
    assert!(shown.contains("AKIDEXAMPLE") && shown.contains("secret_key: [secret]"), "{shown}");
}

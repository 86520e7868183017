//! The images of a command: from flags, a Packer artifact id, or a Packer manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use imageshare_core::{
    ids::{ImageId, ImageIdError, Region, RegionError},
    text::excerpt,
};
use imageshare_engine::io::LaneId;
use imageshare_worker::{
    lanes::{OpenLane, route},
    settings::Settings,
    wire::{Images, ImagesError, JobImage},
};
use serde::Deserialize;

use crate::{
    cli::ImageChoice,
    exit::{Exit, OrExit as _, Problem},
    files,
};

/// The most bytes of a manifest. Packer adds every build to it.
const MANIFEST_LEN_MAX: u64 = 16 * 1024 * 1024;

/// The prefix of the builders that make images of this cloud.
const BUILDER: &str = "tencentcloud";

/// The value of `--image`: `ID` or `REGION:ID`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedImage {
    region: Option<Region>,
    image_id: ImageId,
}

/// The value of `--artifact`, in the form of a Packer artifact id: `REGION:ID,REGION:ID`.
#[derive(Clone, Debug)]
pub(crate) struct Artifact(Vec<JobImage>);

/// The parts of a Packer manifest that are used.
#[derive(Deserialize)]
struct Manifest {
    builds: Vec<Build>,
    last_run_uuid: Option<String>,
}

#[derive(Deserialize)]
struct Build {
    builder_type: Option<String>,
    artifact_id: Option<String>,
    packer_run_uuid: Option<String>,
}

/// Returns the images that the flags name. An image that is named twice is an error.
pub(crate) fn read(choice: &ImageChoice, settings: &Settings) -> Result<Images, Problem> {
    let mut images = Vec::new();
    for &NamedImage { region, image_id } in &choice.image {
        let region = region.or(settings.region).ok_or_else(|| {
            let expected = "expected the region of the image, such as ap-singapore, here, in TENCENTCLOUD_REGION, or as --image REGION:ID";
            Problem::new(Exit::Usage, format!("--region: missing ({expected})"))
        })?;
        images.push(JobImage { region, image_id });
    }
    images.extend(choice.artifact.iter().flat_map(|Artifact(images)| images));
    if let Some(path) = &choice.packer_manifest {
        images.extend(of_manifest(path)?);
    }
    Images::new(images).map_err(|error| {
        let message = match error {
            ImagesError::Repeated { image, .. } => format!("{image} is named twice (expected each image once)"),
            ImagesError::Empty | ImagesError::TooMany(_) => error.to_string(),
        };
        Problem::new(Exit::Usage, format!("--image: {message}"))
    })
}

/// Groups images by their lanes.
pub(crate) fn by_lane(
    images: &Images,
    lanes: &[OpenLane],
    lane: Option<&str>,
) -> Result<BTreeMap<LaneId, Vec<JobImage>>, Problem> {
    let mut by_lane = BTreeMap::<_, Vec<_>>::new();
    for image in images.iter() {
        let lane = route(lanes, lane, [image.region]).or_exit(Exit::Usage)?;
        by_lane.entry(lane).or_default().push(*image);
    }
    Ok(by_lane)
}

/// Returns the images that the last run of Packer built.
fn of_manifest(path: &Path) -> Result<Vec<JobImage>, Problem> {
    const FLAG: &str = "--packer-manifest";
    let text = files::read(FLAG, path, MANIFEST_LEN_MAX)?;
    let problem = |message: String| Problem::new(Exit::Usage, format!("{FLAG} {}: {message}", files::name(path)));
    images_of_last_run(&text).map_err(problem)
}

fn images_of_last_run(text: &[u8]) -> Result<Vec<JobImage>, String> {
    const EXPECTED: &str = "expected the file of Packer's post-processor manifest";
    let Manifest { builds, last_run_uuid } = serde_json::from_slice(text).map_err(|error| {
        let problem = if error.is_data() { "not a manifest" } else { "malformed JSON" };
        format!("{problem}: {error} ({EXPECTED})")
    })?;
    let last = last_run_uuid.ok_or_else(|| format!("not a manifest: last_run_uuid is missing ({EXPECTED})"))?;
    let of_last: Vec<_> = builds.iter().filter(|build| build.packer_run_uuid.as_ref() == Some(&last)).collect();
    if of_last.is_empty() {
        let run = excerpt(&last);
        return Err(format!("no build of the last run, {run} (expected those that a successful packer build adds)"));
    }
    let builder = |build: &Build| build.builder_type.clone().unwrap_or_default();
    let mut images = Vec::new();
    for build in of_last.iter().filter(|build| builder(build).starts_with(BUILDER)) {
        let id = build.artifact_id.as_deref().unwrap_or_default();
        let Artifact(built) =
            id.parse::<Artifact>().map_err(|error| format!("artifact_id: invalid value {} ({error})", excerpt(id)))?;
        images.extend(built);
    }
    if images.is_empty() {
        let others: BTreeSet<_> = of_last.iter().map(|build| builder(build)).collect();
        let others = excerpt(&others.into_iter().collect::<Vec<_>>().join(", "));
        return Err(format!(
            "the last run has no image of this cloud, but builds of {others} (expected {BUILDER}-cvm)"
        ));
    }
    Ok(images)
}

impl FromStr for NamedImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (region, image_id) = text.split_once(':').map_or((None, text), |(region, id)| (Some(region), id));
        let region = region.map(str::parse).transpose().map_err(|error: RegionError| error.to_string())?;
        let image_id = image_id.parse().map_err(|error: ImageIdError| error.to_string())?;
        Ok(Self { region, image_id })
    }
}

impl FromStr for Artifact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|image| image.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(run: &str, builder: &str, artifact: &str) -> String {
        format!(r#"{{"name":"x","builder_type":"{builder}","artifact_id":"{artifact}","packer_run_uuid":"{run}"}}"#)
    }

    #[track_caller]
    fn check(builds: &[String], expected: Result<&[&str], &str>) {
        let text = format!(r#"{{"builds":[{}],"last_run_uuid":"b"}}"#, builds.join(","));
        let images = images_of_last_run(text.as_bytes());
        let images = images.map(|images| images.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(images, expected.map(|all| all.iter().map(ToString::to_string).collect()).map_err(str::to_owned));
    }

    #[test]
    fn manifest_gives_the_images_of_the_last_run() {
        let old = build("a", "tencentcloud-cvm", "ap-seoul:img-00000000");
        let new = build("b", "tencentcloud-cvm", "ap-singapore:img-6pb6lrmy,ap-tokyo:img-gvbnzy6f");
        let other = build("b", "amazon-ebs", "us-east-1:ami-123456");
        let expected = ["ap-singapore:img-6pb6lrmy", "ap-tokyo:img-gvbnzy6f"];
        check(&[old.clone(), new, other.clone()], Ok(&expected));
        let others =
            r#"the last run has no image of this cloud, but builds of "amazon-ebs" (expected tencentcloud-cvm)"#;
        check(&[old.clone(), other], Err(others));
        let none = r#"no build of the last run, "b" (expected those that a successful packer build adds)"#;
        check(&[old], Err(none));
        check(&[], Err(none));
        let wrong =
            r#"artifact_id: invalid value "img-6pb6lrmy" (expected REGION:ID, such as ap-singapore:img-6pb6lrmy)"#;
        check(&[build("b", "tencentcloud-cvm", "img-6pb6lrmy")], Err(wrong));
    }

    #[test]
    fn files_that_are_no_manifest_are_refused() {
        for (text, problem) in [
            ("", "malformed JSON: EOF while parsing a value at line 1 column 0"),
            ("id,region", "malformed JSON: expected value at line 1 column 1"),
            ("{}", "not a manifest: missing field `builds` at line 1 column 2"),
            (r#"{"builds": []}"#, "not a manifest: last_run_uuid is missing"),
        ] {
            let expected = format!("{problem} (expected the file of Packer's post-processor manifest)");
            assert_eq!(images_of_last_run(text.as_bytes()).unwrap_err(), expected);
        }
    }
}

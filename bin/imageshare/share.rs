//! `imageshare share`, `cancel` and `sync`: a job from the command line.

use std::collections::BTreeMap;

use imageshare_core::ids::AccountId;
use imageshare_worker::wire::{Identity, Images, Job, JobImage, JobLine, Permission, Place, job::ACCOUNTS_MAX};

use crate::{
    account_source::AccountSource,
    cli::{Common, ImageArguments, SyncOptions},
    exit::{Ended, Exit, Problem},
    images, runtime,
    work::{
        self,
        carry_out::{Target, carry_out},
        drift::Drift,
        inputs::Inputs,
        plan,
    },
};

pub(crate) fn run(
    common: &Common,
    arguments: &ImageArguments,
    permission: Permission,
    SyncOptions { force, drift }: &SyncOptions,
) -> Ended {
    let settings = work::settings(common, &arguments.work.api, &arguments.image.region)?;
    let images = images::read(&arguments.image, &settings)?;
    let accounts = AccountSource::read(&arguments.accounts, &settings)?;
    let mut inputs = Inputs::new(common, &arguments.work.api, &settings);
    inputs.add("--accounts-file", arguments.accounts.accounts_file.as_deref());
    inputs.add("--packer-manifest", arguments.image.packer_manifest.as_deref());
    let drift = Drift::new(drift, &inputs)?;
    runtime::run(async {
        let work = work::prepare(settings, &arguments.work.api).await?;
        let by_lane = images::by_lane(&images, &work.lanes, work.settings.lane.as_deref())?;
        let account_ids: Box<[AccountId]> = accounts.list(&work).await?.into();
        if account_ids.len() * images.len() > ACCOUNTS_MAX {
            let (accounts, images) = (account_ids.len(), images.len());
            let words =
                format!("{accounts} accounts for each of {images} images (expected at most {ACCOUNTS_MAX} in all)");
            return Err(Problem::new(Exit::Usage, format!("--image: {words}")));
        }
        // One job, unless the images are of several lanes.
        let job = |images: Vec<JobImage>| Job {
            account_ids: vec![account_ids.clone(); images.len()].into(),
            identity: Identity {
                job_id: permission.as_str().to_ascii_lowercase(),
                lane: work.settings.lane.clone(),
                images: Images::new(images).expect("these are images of a valid list"),
                permission,
                labels: BTreeMap::new(),
            },
            expires_at: None,
            force: *force,
        };
        let place = Place { file: "command line".into(), line: 1 };
        let line = |images| Ok(JobLine { place: place.clone(), job: job(images) });
        let jobs = by_lane.into_values().map(line).collect::<Vec<_>>().into_iter();
        if arguments.work.dry_run {
            plan::show(work, jobs, drift).await
        } else {
            carry_out(work, jobs, Target { report: arguments.report.as_deref(), metrics: None, inputs: &inputs }).await
        }
    })
}

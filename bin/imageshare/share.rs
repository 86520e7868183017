//! `imageshare share`, `cancel` and `sync`: run one job from the command line.

use std::collections::BTreeMap;

use imageshare_core::ids::AccountId;
use imageshare_worker::wire::{Identity, Images, Job, JobImage, JobLine, Permission, Place, job::ACCOUNTS_MAX};

use crate::{
    account_source::AccountSource,
    cli::{Common, ImageArguments, SyncOptions},
    exit::{CommandResult, Exit, Problem},
    images, runtime,
    work::{
        self,
        drift::Drift,
        input_files::InputFiles,
        plan,
        run_jobs::{Target, run_jobs},
    },
};

pub(crate) fn run(
    common: &Common,
    arguments: &ImageArguments,
    permission: Permission,
    SyncOptions { force, drift }: &SyncOptions,
) -> CommandResult {
    let settings = work::settings(common, &arguments.change.api, &arguments.image.region)?;
    let images = images::read(&arguments.image, &settings)?;
    let accounts = AccountSource::read(&arguments.accounts, &settings)?;
    let mut inputs = InputFiles::new(common, &arguments.change.api, &settings);
    inputs.add("--accounts-file", arguments.accounts.accounts_file.as_deref());
    inputs.add("--packer-manifest", arguments.image.packer_manifest.as_deref());
    let drift = Drift::new(drift, &inputs)?;
    runtime::run(async {
        let session = work::prepare(settings, &arguments.change.api).await?;
        let by_lane = images::by_lane(&images, &session.lanes, session.settings.lane.as_deref())?;
        let account_ids: Box<[AccountId]> = accounts.list(&session).await?.into();
        if account_ids.len() * images.len() > ACCOUNTS_MAX {
            let (accounts, images) = (account_ids.len(), images.len());
            let message =
                format!("{accounts} accounts for each of {images} images (expected at most {ACCOUNTS_MAX} in all)");
            return Err(Problem::new(Exit::Usage, format!("--image: {message}")));
        }
        // One job for each lane: a job runs on a single lane.
        let job = |images: Vec<JobImage>| Job {
            account_ids: vec![account_ids.clone(); images.len()].into(),
            identity: Identity {
                job_id: permission.as_str().to_ascii_lowercase(),
                lane: session.settings.lane.clone(),
                images: Images::new(images).expect("each image was in a valid list"),
                permission,
                labels: BTreeMap::new(),
            },
            expires_at: None,
            force: *force,
        };
        let place = Place { file: "command line".into(), line: 1 };
        let line = |images| Ok(JobLine { place: place.clone(), job: job(images) });
        let jobs = by_lane.into_values().map(line).collect::<Vec<_>>().into_iter();
        if arguments.change.dry_run {
            plan::show(session, jobs, drift).await
        } else {
            run_jobs(session, jobs, Target { report: arguments.report.as_deref(), metrics: None, inputs: &inputs })
                .await
        }
    })
}

//! `imageshare share`, `cancel` and `sync`: one job from the command line.

use std::{collections::BTreeMap, iter};

use imageshare_core::ids::Region;
use imageshare_worker::{
    lanes::route,
    settings::Settings,
    wire::{Identity, Job, JobImage, JobLine, Permission, Place},
};

use crate::{
    account_source::AccountSource,
    cli::{Common, ImageArguments, SyncOptions},
    exit::{Ended, Exit, OrExit as _, Problem},
    runtime,
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
    let region = region(&settings)?;
    let accounts = AccountSource::read(&arguments.accounts, &settings)?;
    let identity = Identity {
        job_id: permission.as_str().to_ascii_lowercase(),
        lane: settings.lane.clone(),
        images: JobImage { region, image_id: arguments.image.image }.into(),
        permission,
        labels: BTreeMap::new(),
    };
    let mut inputs = Inputs::new(common, &arguments.work.api, &settings);
    inputs.add("--accounts-file", arguments.accounts.accounts_file.as_deref());
    let drift = Drift::new(drift, &inputs)?;
    runtime::run(async {
        let work = work::prepare(settings, &arguments.work.api).await?;
        route(&work.lanes, work.settings.lane.as_deref(), [region]).or_exit(Exit::Usage)?;
        let account_ids = [accounts.list(&work).await?.into()].into();
        let place = Place { file: "command line".into(), line: 1 };
        let jobs =
            iter::once(Ok(JobLine { place, job: Job { identity, account_ids, expires_at: None, force: *force } }));
        if arguments.work.dry_run {
            plan::show(work, jobs, drift).await
        } else {
            carry_out(work, jobs, Target { report: arguments.report.as_deref(), metrics: None, inputs: &inputs }).await
        }
    })
}

/// The region that a command for one image needs.
pub(crate) fn region(settings: &Settings) -> Result<Region, Problem> {
    let missing =
        "--region: missing (expected the region of the image, such as ap-singapore, by flag or by TENCENTCLOUD_REGION)";
    settings.region.ok_or_else(|| Problem::new(Exit::Usage, missing))
}

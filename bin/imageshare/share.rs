//! `imageshare share`, `cancel` and `sync`: one job from the command line.

use std::{collections::BTreeMap, iter, path::Path};

use anyhow::Context as _;
use imageshare_core::ids::{AccountId, Region};
use imageshare_worker::{
    lanes::route,
    settings::Settings,
    wire::{AccountsFile, Identity, Job, JobLine, Permission, Place, job::ACCOUNTS_MAX, read_accounts},
};

use crate::{
    cli::{Accounts, Common, ImageArguments, SyncOptions},
    exit::{Ended, Exit, OrExit as _, Problem},
    run, runtime,
    terminal::Terminal,
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
    let account_ids = accounts(&arguments.accounts, settings.output.quiet)?.into();
    let identity = Identity {
        job_id: permission.as_str().to_ascii_lowercase(),
        lane: settings.lane.clone(),
        image_id: arguments.image.image,
        region,
        permission,
        labels: BTreeMap::new(),
    };
    let place = Place { file: "command line".into(), line: 1 };
    let line = JobLine { place, job: Job { identity, account_ids, expires_at: None, force: *force } };
    let mut inputs = Inputs::new(common, &arguments.work.api, &settings);
    inputs.add("--accounts-file", arguments.accounts.accounts_file.as_deref());
    let drift = Drift::new(drift, &inputs)?;
    runtime::run(async {
        let work = work::prepare(settings, &arguments.work.api).await?;
        route(&work.lanes, work.settings.lane.as_deref(), &region).or_exit(Exit::Usage)?;
        let jobs = iter::once(Ok(line));
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

fn accounts(accounts: &Accounts, is_quiet: bool) -> Result<Vec<AccountId>, Problem> {
    match &accounts.accounts_file {
        Some(path) => {
            let AccountsFile { account_ids, notice } = of_file(path)?;
            if let Some(notice) = notice {
                Terminal::new(is_quiet).note(&notice);
            }
            Ok(account_ids)
        }
        None if accounts.account.len() > ACCOUNTS_MAX => {
            let words = format!("--account: given {} times (expected 1 to {ACCOUNTS_MAX})", accounts.account.len());
            Err(Problem::new(Exit::Usage, words))
        }
        None => Ok(accounts.account.clone()),
    }
}

fn of_file(path: &Path) -> Result<AccountsFile, Problem> {
    let (input, name) = run::open(path)?;
    read_accounts(input, &name).context("--accounts-file").or_exit(Exit::Usage)
}

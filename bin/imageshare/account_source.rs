//! Where the accounts of a command come from: flags, a file, a list of the settings, or the shares of another image.

use std::path::Path;

use anyhow::Context as _;
use imageshare_core::{
    disclosure::{NOT_SHOWN, disclosed_argument},
    ids::AccountId,
    text::excerpt,
};
use imageshare_engine::limits::may_be_truncated;
use imageshare_worker::{
    lanes::route,
    listing::ImageReader,
    settings::Settings,
    wire::{AccountsFile, JobImage, job::ACCOUNTS_MAX, read_accounts},
};

use crate::{
    cli::Accounts,
    exit::{Exit, OrExit as _, Problem},
    run,
    terminal::Terminal,
    work::{Work, plan},
};

/// The accounts of a command.
pub(crate) enum AccountSource {
    /// 1 to [`ACCOUNTS_MAX`] accounts.
    Known(Vec<AccountId>),
    /// The accounts that an image is shared with. Listing them takes a request.
    Like(JobImage),
}

impl AccountSource {
    /// Reads what the flags name, as far as that takes no request.
    pub(crate) fn read(flags: &Accounts, settings: &Settings) -> Result<Self, Problem> {
        let Accounts { account, accounts_file, accounts: list, like } = flags;
        let account_ids = match (accounts_file, list, like) {
            (Some(path), ..) => of_file("--accounts-file", path, settings)?,
            (None, Some(list), _) => of_file("--accounts", file_of_list(list, settings)?, settings)?,
            (None, None, Some(image)) => return Ok(Self::Like(*image)),
            (None, None, None) if account.len() > ACCOUNTS_MAX => {
                let words = format!("--account: given {} times (expected 1 to {ACCOUNTS_MAX})", account.len());
                return Err(Problem::new(Exit::Usage, words));
            }
            (None, None, None) => account.clone(),
        };
        Ok(Self::Known(account_ids))
    }

    /// Returns the accounts, 1 to [`ACCOUNTS_MAX`].
    pub(crate) async fn list(self, work: &Work) -> Result<Vec<AccountId>, Problem> {
        let image = match self {
            Self::Known(account_ids) => return Ok(account_ids),
            Self::Like(image) => image,
        };
        let JobImage { region, image_id } = image;
        let flag = || format!("--like {image}");
        let lane = route(&work.lanes, work.settings.lane.as_deref(), [region]).with_context(flag);
        let lane = work.lane(lane.or_exit(Exit::Usage)?);
        let terminal = Terminal::new(work.settings.output.quiet);
        let _announcing = terminal.announce(work.client.waits());
        let mut reader = ImageReader::new(&work.client, lane);
        let shares = reader.shares(region, image_id, work.settings.give_up_after).await;
        let shares = shares.map_err(|error| plan::unreadable(image_id, &error, &lane.endpoint))?;
        if !(1..=ACCOUNTS_MAX).contains(&shares.len()) {
            let problem = format!("shared with {} accounts (expected 1 to {ACCOUNTS_MAX})", shares.len());
            return Err(Problem::new(Exit::Failed, format!("{}: {problem}", flag())));
        }
        terminal.note(&format!("{}: {} accounts", flag(), shares.len()));
        if may_be_truncated(shares.len(), work.limits.cap) {
            let words = "the listing has the length of a page or of a full image, and may lack accounts";
            terminal.warn(&format!("{}: {words}", flag()));
        }
        Ok(shares.into_iter().map(|share| share.account_id).collect())
    }
}

/// Returns the file of a list of the settings.
fn file_of_list<'a>(list: &str, settings: &'a Settings) -> Result<&'a Path, Problem> {
    let lists = &settings.account_lists;
    let unknown = || {
        let expected = match lists.keys().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => "a list in the section [accounts] of the settings, which have none".to_owned(),
            names => format!("a list of the settings: {}", names.join(", ")),
        };
        let shown = match disclosed_argument(list) {
            hidden if hidden == NOT_SHOWN => hidden,
            _ => excerpt(list),
        };
        Problem::new(Exit::Usage, format!("--accounts: unknown list {shown} (expected {expected})"))
    };
    lists.get(list).map(AsRef::as_ref).ok_or_else(unknown)
}

fn of_file(flag: &'static str, path: &Path, settings: &Settings) -> Result<Vec<AccountId>, Problem> {
    let (input, name) = run::open(path)?;
    let AccountsFile { account_ids, notice } = read_accounts(input, &name).context(flag).or_exit(Exit::Usage)?;
    if let Some(notice) = notice {
        Terminal::new(settings.output.quiet).note(&notice);
    }
    Ok(account_ids)
}

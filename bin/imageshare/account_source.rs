//! The accounts of a command: from flags, a file, a list in the settings, or the shares of another image.

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
    output::counted,
    run,
    terminal::Terminal,
    work::{Session, plan},
};

/// The accounts of a command.
pub(crate) enum AccountSource {
    /// 1 to [`ACCOUNTS_MAX`] accounts.
    Known(Vec<AccountId>),
    /// The accounts that this image is shared with; listing them takes a request.
    Like(JobImage),
}

impl AccountSource {
    /// Reads the accounts that the flags name. Sends no request.
    pub(crate) fn read(flags: &Accounts, settings: &Settings) -> Result<Self, Problem> {
        let Accounts { account, accounts_file, accounts: list, like } = flags;
        let account_ids = match (accounts_file, list, like) {
            (Some(path), ..) => read_file(path, settings)?,
            (None, Some(list), _) => read_file(file_of_list(list, settings)?, settings)?,
            (None, None, Some(image)) => return Ok(Self::Like(*image)),
            (None, None, None) if account.len() > ACCOUNTS_MAX => {
                let message = format!("--account: given {} times (expected 1 to {ACCOUNTS_MAX})", account.len());
                return Err(Problem::new(Exit::Usage, message));
            }
            (None, None, None) => account.clone(),
        };
        Ok(Self::Known(account_ids))
    }

    /// Returns the accounts, 1 to [`ACCOUNTS_MAX`].
    pub(crate) async fn list(self, session: &Session) -> Result<Vec<AccountId>, Problem> {
        let image = match self {
            Self::Known(account_ids) => return Ok(account_ids),
            Self::Like(image) => image,
        };
        let JobImage { region, image_id } = image;
        let flag = || format!("--like {image}");
        let lane = route(&session.lanes, session.settings.lane.as_deref(), [region]).with_context(flag);
        let lane = session.lane(lane.or_exit(Exit::Usage)?);
        let terminal = Terminal::new(session.settings.output.quiet);
        let _announcer = terminal.announce(session.client.waits());
        let mut reader = ImageReader::new(&session.client, lane);
        let shares = reader.shares(region, image_id, session.settings.give_up_after).await;
        let shares = shares.map_err(|error| plan::unreadable(image_id, &error, &lane.endpoint))?;
        if !(1..=ACCOUNTS_MAX).contains(&shares.len()) {
            let problem = format!("shared with {} (expected 1 to {ACCOUNTS_MAX})", counted(shares.len(), "account"));
            return Err(Problem::new(Exit::Failed, format!("{}: {problem}", flag())));
        }
        terminal.note(&format!("{}: {}", flag(), counted(shares.len(), "account")));
        if may_be_truncated(shares.len(), session.limits.cap) {
            let message = "the listing may lack accounts: it has the length of a page or of a full image";
            terminal.warn(&format!("{}: {message}", flag()));
        }
        Ok(shares.into_iter().map(|share| share.account_id).collect())
    }
}

/// Returns the file that the settings name for a list.
fn file_of_list<'a>(list: &str, settings: &'a Settings) -> Result<&'a Path, Problem> {
    let lists = &settings.account_lists;
    let unknown = || {
        let expected = match lists.keys().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => "a list from the section [accounts] of the settings, which is empty".to_owned(),
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

fn read_file(path: &Path, settings: &Settings) -> Result<Vec<AccountId>, Problem> {
    let (input, name) = run::open(path)?;
    let AccountsFile { account_ids, notice } = read_accounts(input, &name).or_exit(Exit::Usage)?;
    if let Some(notice) = notice {
        Terminal::new(settings.output.quiet).note(&notice);
    }
    Ok(account_ids)
}

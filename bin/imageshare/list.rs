//! `imageshare list`: which accounts have an image.

use imageshare_core::{
    actions::SharedAccount,
    ids::{AccountId, ImageId, Region},
};
use imageshare_worker::{lanes::route, listing::ImageReader, settings::Flags};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{Common, ListArguments},
    exit::{Ended, Exit, OrExit as _},
    output::{self, Table},
    runtime, share,
    terminal::Terminal,
    work::{self, Work, plan},
};

/// One account that has the image.
#[derive(Serialize)]
struct Shared {
    image_id: ImageId,
    region: Region,
    account_id: AccountId,
    /// `null` if the API does not say.
    shared_at: Option<Timestamp>,
}

pub(crate) fn run(common: &Common, arguments: &ListArguments) -> Ended {
    let (region, give_up_after) = (arguments.image.region.clone(), arguments.give_up_after.clone());
    let settings = work::load(&Flags { region, give_up_after, ..work::flags(common) })?;
    let region = share::region(&settings)?;
    let mut work = Work::new(settings)?;
    let lane = route(&work.settings.lanes, work.settings.lane.as_deref(), &region).or_exit(Exit::Usage)?;
    let image_id = arguments.image.image;
    let shares = runtime::run(async {
        let _announcing = Terminal::new(work.settings.output.quiet, false).announce(work.client.waits());
        work.use_credentials().await?;
        let mut reader = ImageReader::new(&work.client, work.lane(lane));
        let give_up_after = work.settings.give_up_after;
        reader.shares(region, image_id, give_up_after).await.map_err(|error| plan::unreadable(image_id, &error))
    })?;
    let shared = |share: &SharedAccount| Shared {
        image_id,
        region,
        account_id: share.account_id,
        shared_at: share.created_time.and_then(|time| Timestamp::from_second(i64::try_from(time.get()).ok()?).ok()),
    };
    let shared = shares.iter().map(shared);
    if output::is_for_people(work.settings.output.json) {
        let mut table = Table::new(["ACCOUNT", "SHARED AT"]);
        for Shared { account_id, shared_at, .. } in shared {
            table.row([
                account_id.to_string(),
                shared_at.map_or_else(|| "not known".to_owned(), |time| time.to_string()),
            ]);
        }
        output::print(&table.to_text(""))?;
    } else {
        output::print(&shared.map(|shared| output::json_line(&shared)).collect::<String>())?;
    }
    Ok(Exit::Done)
}

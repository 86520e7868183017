//! `imageshare list`: lists the accounts that an image is shared with.

use std::collections::BTreeMap;

use imageshare_core::{
    actions::SharedAccount,
    ids::{AccountId, ImageId, Region},
};
use imageshare_engine::limits::may_be_truncated;
use imageshare_worker::{lanes::route, listing::ImageReader, wire::JobImage};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{Common, ListArguments, OutputFormat},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    images,
    output::{self, Table, counted},
    runtime,
    terminal::Terminal,
    work::{self, plan},
};

/// A share in the output.
#[derive(Serialize)]
struct Shared {
    image_id: ImageId,
    region: Region,
    account_id: AccountId,
    /// `null` if the API does not return it.
    shared_at: Option<Timestamp>,
    /// Whether there may be more shares. Absent if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    may_be_truncated: bool,
}

pub(crate) fn run(common: &Common, arguments: &ListArguments) -> CommandResult {
    let settings = work::settings(common, &arguments.api, &arguments.image.region)?;
    let images = images::read(&arguments.image, &settings)?;
    let terminal = Terminal::new(settings.output.quiet);
    let (json, cap) = (settings.output.json, settings.limits.cap);
    let only_ids = arguments.ids || common.output == Some(OutputFormat::Ids);
    runtime::run(async {
        let session = work::prepare(settings, &arguments.api).await?;
        images::by_lane(&images, &session.lanes, session.settings.lane.as_deref())?;
        let announcer = terminal.announce(session.client.waits());
        let has_title = images.len() > 1;
        let listing = Listing { terminal: &terminal, has_title, only_ids, json, cap };
        let mut readers = BTreeMap::new();
        let mut exit = Exit::Done;
        for image in images.iter() {
            let lane = route(&session.lanes, session.settings.lane.as_deref(), [image.region]).or_exit(Exit::Usage)?;
            let reader = readers.entry(lane).or_insert_with(|| ImageReader::new(&session.client, session.lane(lane)));
            let shares = reader.shares(image.region, image.image_id, session.settings.give_up_after).await;
            let shares = shares.map_err(|error| plan::unreadable(image.image_id, &error, &session.lane(lane).endpoint));
            let shown = shares.and_then(|shares| listing.show(*image, &shares));
            exit = exit.after(shown);
        }
        drop(announcer);
        if let Some(sandbox) = session.sandbox {
            sandbox.stop().await;
        }
        Ok(exit)
    })
}

/// How to print the shares of an image.
struct Listing<'a> {
    terminal: &'a Terminal,
    /// Whether to print the image above its shares on a terminal.
    has_title: bool,
    only_ids: bool,
    json: bool,
    /// How many accounts an image can be shared with.
    cap: u32,
}

impl Listing<'_> {
    fn show(&self, image: JobImage, shares: &[SharedAccount]) -> Result<(), Problem> {
        let JobImage { region, image_id } = image;
        let may_be_truncated = may_be_truncated(shares.len(), self.cap);
        let shared = |share: &SharedAccount| Shared {
            image_id,
            region,
            account_id: share.account_id,
            shared_at: share.created_time.and_then(|time| Timestamp::from_second(i64::try_from(time.get()).ok()?).ok()),
            may_be_truncated,
        };
        let count = counted(shares.len(), "account");
        let shares: Vec<_> = shares.iter().map(shared).collect();
        if self.has_title && !self.only_ids && output::is_for_people(self.json) {
            output::print(&format!("{image}\n"))?;
        }
        print(&shares, self.only_ids, self.json)?;
        self.terminal.note(&format!("{image_id} in {region} is shared with {count}"));
        if may_be_truncated {
            self.terminal.warn(&format!(
                "{image_id}: the listing may lack accounts: it has the length of a page (20, 50 or 100) or of a full image ({})",
                self.cap
            ));
        }
        Ok(())
    }
}

fn print(shares: &[Shared], only_ids: bool, json: bool) -> Result<(), Problem> {
    if only_ids {
        return output::print(&shares.iter().map(|shared| format!("{}\n", shared.account_id)).collect::<String>());
    }
    if !output::is_for_people(json) {
        return output::print(&shares.iter().map(output::json_line).collect::<String>());
    }
    let mut table = Table::new(["ACCOUNT", "SHARED AT"]);
    for Shared { account_id, shared_at, .. } in shares {
        let shared_at = shared_at.map_or_else(|| "unknown".to_owned(), |time| time.to_string());
        table.row([account_id.to_string(), shared_at]);
    }
    table.print()
}

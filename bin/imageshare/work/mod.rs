//! What all commands that work on images share: lanes, client, limits, and where the work goes.

pub(crate) mod carry_out;
pub(crate) mod drift;
pub(crate) mod inputs;
pub(crate) mod plan;

mod backlog;
mod notices;
pub(crate) mod reports;
pub(crate) mod summary;

use imageshare_core::Credential;
use imageshare_engine::{
    io::LaneId,
    limits::{LimitValues, Limits},
    time::Millis,
};
use imageshare_sandbox::{
    Config, Sandbox, World,
    world::{ACCOUNT, SECRET_ID, SECRET_KEY},
};
use imageshare_worker::{
    credentials::{CredentialCache, IfMissing},
    environment::Environment,
    http::{Client, TimeOuts},
    lane::LaneConfig,
    lanes::{self, OpenLane},
    settings::{Flags, Settings},
};

use crate::{
    cli::{ApiArguments, Common, OutputFormat},
    exit::{Exit, OrExit as _, Problem},
    sandbox,
    terminal::{self, Terminal},
};

/// Everything that work needs.
pub(crate) struct Work {
    pub(crate) settings: Settings,
    pub(crate) lanes: Vec<OpenLane>,
    pub(crate) client: Client,
    pub(crate) limits: Limits,
    /// Where the work goes, if that is a sandbox of this process.
    pub(crate) sandbox: Option<Sandbox>,
}

/// Where the sandbox of a command is as far as the settings know. It takes a free port when it starts.
const SANDBOX: &str = "http://127.0.0.1:9700";

/// The warning about an empty input.
pub(crate) const NO_JOBS: &str = "the input has no jobs (expected one JSON object per line, or CSV with a header)";

/// Loads the settings.
pub(crate) fn load(flags: &Flags) -> Result<Settings, Problem> {
    Settings::load(flags, &Environment::of_process()).or_exit(Exit::Usage)
}

/// Returns the settings that the flags of every command give.
pub(crate) fn flags(common: &Common) -> Flags {
    Flags {
        config: common.config.clone(),
        endpoint: common.endpoint.clone(),
        rate: common.rate.clone(),
        batch: common.batch.clone(),
        lane: common.lane.clone(),
        json: common.json || common.output == Some(OutputFormat::Json),
        quiet: common.quiet,
        ..Flags::default()
    }
}

/// Loads the settings of a command that works on images. A sandbox is an endpoint, as with `--endpoint`.
pub(crate) fn settings(
    common: &Common,
    arguments: &ApiArguments,
    region: &Option<String>,
) -> Result<Settings, Problem> {
    let flags = flags(common);
    let endpoint = if arguments.sandbox { Some(SANDBOX.to_owned()) } else { flags.endpoint.clone() };
    let give_up_after = arguments.give_up_after.clone();
    let settings = load(&Flags { endpoint, give_up_after, region: region.clone(), ..flags })?;
    if let Some(problem) = settings.unknown_region() {
        terminal::warn(&problem);
    }
    Ok(settings)
}

/// Makes everything ready, and starts the sandbox if one is wanted. Must be called on the runtime.
pub(crate) async fn prepare(settings: Settings, arguments: &ApiArguments) -> Result<Work, Problem> {
    let mut work = Work::new(settings)?;
    if arguments.sandbox {
        let world = match &arguments.world {
            Some(path) => sandbox::read_world(path)?,
            None => World::example(),
        };
        let sandbox = Sandbox::start(Config { world, ..Config::default() }).await.or_exit(Exit::Failed)?;
        Terminal::new(work.settings.output.quiet).note(&format!(
            "working on a sandbox at {}, a local fake of the API with its own key; no cloud is touched",
            sandbox.url()
        ));
        work.use_sandbox(sandbox);
    }
    if work.lanes.is_empty() {
        let _announcing = Terminal::new(work.settings.output.quiet).announce(work.client.waits());
        work.use_credentials().await?;
    }
    Ok(work)
}

impl Work {
    /// The work of these settings, still without lanes.
    pub(crate) fn new(settings: Settings) -> Result<Self, Problem> {
        let give_up_after = settings.give_up_after;
        // A call that takes longer than the whole patience is of no use.
        let time_outs =
            TimeOuts { connect: settings.http.connect.min(give_up_after), call: settings.http.call.min(give_up_after) };
        let client = Client::with(settings.outside.clone(), time_outs).or_exit(Exit::Usage)?;
        let limits = Limits::new(LimitValues {
            closed_for: Millis(u64::try_from(give_up_after.as_millis()).unwrap_or(u64::MAX)),
            ..settings.limits.clone()
        })
        .or_exit(Exit::Usage)?;
        Ok(Self { settings, lanes: Vec::new(), client, limits, sandbox: None })
    }

    /// Every lane with the credential of its source. Must be called on the runtime.
    pub(crate) async fn use_credentials(&mut self) -> Result<(), Problem> {
        self.lanes = open_lanes(&self.settings, &self.client, IfMissing::Fail).await?;
        Ok(())
    }

    /// The lane of the settings at the sandbox, with the key that it knows.
    fn use_sandbox(&mut self, sandbox: Sandbox) {
        let endpoint = sandbox.url().parse().expect("a sandbox without TLS listens on a loopback address");
        let credential = Credential {
            secret_id: SECRET_ID.parse().expect("the sandbox's own key is one"),
            secret_key: SECRET_KEY.parse().expect("the sandbox's own key is one"),
            token: None,
        };
        for lane in &self.settings.lanes {
            let config = LaneConfig { endpoint: Clone::clone(&endpoint), ..lane.clone() };
            let account = ACCOUNT.parse().expect("it is an account");
            self.lanes.push(OpenLane { config, credentials: CredentialCache::fixed(credential.clone(), account) });
        }
        self.sandbox = Some(sandbox);
    }

    /// A lane by its number.
    pub(crate) fn lane(&self, lane: LaneId) -> &OpenLane {
        self.lanes.get(lane.place()).expect("lanes are numbered in their order")
    }

    /// The names of the lanes in their order.
    pub(crate) fn lane_names(&self) -> Vec<String> {
        self.lanes.iter().map(|lane| lane.name.clone()).collect()
    }
}

/// The lanes of the settings with their credentials, no two with one key that share what such lanes must not.
pub(crate) async fn open_lanes(
    settings: &Settings,
    client: &Client,
    if_missing: IfMissing,
) -> Result<Vec<OpenLane>, Problem> {
    let opened = lanes::open_lanes(&settings.lanes, &Environment::of_process(), client, if_missing).await;
    let lanes = opened.map_err(|error| {
        let exit = if error.error.is_out_of_reach() { Exit::OutOfReach } else { Exit::Refused };
        Problem::new(exit, error.to_string())
    })?;
    let ids: Vec<_> = lanes.iter().map(|lane| Some(lane.credentials.credential()?.secret_id)).collect();
    settings.check_keys(ids.iter().map(Option::as_ref)).or_exit(Exit::Usage)?;
    Ok(lanes)
}

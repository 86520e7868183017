//! The parts that all commands for images share: settings, lanes, client, limits, sandbox.

pub(crate) mod drift;
pub(crate) mod input_files;
pub(crate) mod plan;
pub(crate) mod run_jobs;

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
    credentials::{CredentialCache, CredentialsError, IfMissing},
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

/// What a command for images works with.
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) lanes: Vec<OpenLane>,
    pub(crate) client: Client,
    pub(crate) limits: Limits,
    /// The sandbox inside this process, if there is one.
    pub(crate) sandbox: Option<Sandbox>,
}

/// The endpoint for the settings with `--sandbox`. The sandbox replaces it by its own, on a free port.
const SANDBOX: &str = "http://127.0.0.1:9700";

/// The warning about an empty input.
pub(crate) const NO_JOBS: &str = "the input has no jobs (expected one JSON object per line, or CSV with a header)";

/// Loads the settings.
pub(crate) fn load(flags: &Flags) -> Result<Settings, Problem> {
    Settings::load(flags, &Environment::of_process()).or_exit(Exit::Usage)
}

/// Returns the settings that the common flags set.
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

/// Loads the settings of a command for images. `--sandbox` sets the endpoint, as `--endpoint` does.
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

/// Starts the sandbox if it is requested, or loads the credentials. Must be called on the runtime.
pub(crate) async fn prepare(settings: Settings, arguments: &ApiArguments) -> Result<Session, Problem> {
    let mut session = Session::new(settings)?;
    if arguments.sandbox {
        let world = match &arguments.world {
            Some(path) => sandbox::read_world(path)?,
            None => World::example(),
        };
        let sandbox = Sandbox::start(Config { world, ..Config::default() }).await.or_exit(Exit::Failed)?;
        Terminal::new(session.settings.output.quiet).note(&format!(
            "using a sandbox at {}, a local fake of the API with its own key; no cloud is touched",
            sandbox.url()
        ));
        session.use_sandbox(sandbox);
    }
    if session.lanes.is_empty() {
        let _announcer = Terminal::new(session.settings.output.quiet).announce(session.client.waits());
        session.open_lanes().await?;
    }
    Ok(session)
}

impl Session {
    /// Returns a session without lanes.
    pub(crate) fn new(settings: Settings) -> Result<Self, Problem> {
        let give_up_after = settings.give_up_after;
        // A call must not outlast the time after which the command gives up.
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

    /// Loads the credentials and opens the lanes. Must be called on the runtime.
    async fn open_lanes(&mut self) -> Result<(), Problem> {
        self.lanes = open_lanes(&self.settings, &self.client, IfMissing::Fail).await?;
        Ok(())
    }

    /// Opens the lanes at the sandbox, with its key.
    fn use_sandbox(&mut self, sandbox: Sandbox) {
        let endpoint = sandbox.url().parse().expect("a sandbox without TLS listens on a loopback address");
        let credential = Credential {
            secret_id: SECRET_ID.parse().expect("a valid key"),
            secret_key: SECRET_KEY.parse().expect("a valid key"),
            token: None,
        };
        for lane in &self.settings.lanes {
            let config = LaneConfig { endpoint: Clone::clone(&endpoint), ..lane.clone() };
            let account = ACCOUNT.parse().expect("a valid account id");
            self.lanes.push(OpenLane { config, credentials: CredentialCache::fixed(credential.clone(), account) });
        }
        self.sandbox = Some(sandbox);
    }

    /// Returns a lane by its id.
    pub(crate) fn lane(&self, lane: LaneId) -> &OpenLane {
        self.lanes.get(lane.place()).expect("lanes are numbered in their order")
    }

    /// Returns the names of the lanes, in their order.
    pub(crate) fn lane_names(&self) -> Vec<String> {
        self.lanes.iter().map(|lane| lane.name.clone()).collect()
    }
}

/// Returns the exit code for a credential that cannot be loaded.
pub(crate) fn credential_exit(error: &CredentialsError) -> Exit {
    if error.is_out_of_reach() { Exit::Unreachable } else { Exit::Refused }
}

/// Opens the lanes of the settings with their credentials. Two lanes with the same key may share neither host nor region.
pub(crate) async fn open_lanes(
    settings: &Settings,
    client: &Client,
    if_missing: IfMissing,
) -> Result<Vec<OpenLane>, Problem> {
    let opened = lanes::open_lanes(&settings.lanes, &Environment::of_process(), client, if_missing).await;
    let lanes = opened.map_err(|error| Problem::new(credential_exit(&error.error), error.to_string()))?;
    let ids: Vec<_> = lanes.iter().map(|lane| Some(lane.credentials.credential()?.secret_id)).collect();
    settings.check_keys(ids.iter().map(Option::as_ref)).or_exit(Exit::Usage)?;
    Ok(lanes)
}

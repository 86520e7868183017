//! `imageshare sandbox`: runs a local fake of the API until an interrupt.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use imageshare_core::text::excerpt;
use imageshare_sandbox::{
    Config, Sandbox, Scheme, World,
    faults::{self, Faults},
    saved_state::{self, SavedState},
    server, world,
};
use imageshare_worker::settings::{DurationError, duration_of_flag};

use crate::{
    cli::SandboxArguments,
    exit::{CommandResult, Exit, OrExit as _, Problem},
    files, output, runtime,
};

pub(crate) fn run(arguments: &SandboxArguments) -> CommandResult {
    let mut world = match &arguments.world {
        Some(path) => read_world(path)?,
        None => World::open(),
    };
    if let Some(cap) = arguments.cap {
        world.set_cap(cap);
    }
    if let Some(limit) = arguments.batch_limit {
        world.set_batch_limit(limit);
    }
    let faults = match &arguments.faults {
        Some(path) => {
            let text = files::read("--faults", path, faults::FILE_LEN_MAX)?;
            Faults::parse(&text).map_err(|error| Problem::new(Exit::Usage, error.in_file(&files::name(path))))?
        }
        None => Faults::default(),
    };
    let state = arguments.state.as_deref().map(read_state).transpose()?.flatten();
    let config = Config {
        listen: arguments.listen,
        world,
        state,
        faults,
        latency: arguments.latency,
        rps: arguments.rps,
        scheme: scheme(arguments)?,
    };
    runtime::run(serve(config, arguments.tls_ca.as_deref(), arguments.state.as_deref()))
}

/// Reads the delay of each response.
pub(crate) fn parse_latency(text: &str) -> Result<Duration, DurationError> {
    duration_of_flag(text, Duration::ZERO..=Duration::from_mins(10))
}

/// Reads a world file.
pub(crate) fn read_world(path: &Path) -> Result<World, Problem> {
    let text = files::read_text("--world", path, world::FILE_LEN_MAX)?;
    World::parse(&text).map_err(|error| Problem::new(Exit::Usage, error.in_file(&files::name(path))))
}

/// Reads a state file, if it exists.
fn read_state(path: &Path) -> Result<Option<SavedState>, Problem> {
    // A folder or device is refused below, when the file is first written.
    if !path.is_file() {
        return Ok(None);
    }
    let text = files::read("--state", path, saved_state::FILE_LEN_MAX)?;
    let state =
        SavedState::parse(&text).map_err(|error| Problem::new(Exit::Usage, error.in_file(&files::name(path))))?;
    Ok(Some(state))
}

async fn serve(config: Config, ca_file: Option<&Path>, state_file: Option<&Path>) -> CommandResult {
    let interrupts = runtime::interrupts(|| {})?;
    let sandbox = Sandbox::start(config).await.or_exit(Exit::Usage)?;
    if let Some(path) = ca_file {
        fs::write(path, sandbox.ca_pem())
            .with_context(|| format!("--tls-ca {}", files::name(path)))
            .or_exit(Exit::Usage)?;
    }
    if let Some(path) = state_file {
        // Also at the start, so that a file that cannot be written is an error before there is a state to lose.
        files::replace("--state", path, &sandbox.state().text())?;
    }
    output::print(&format!("listening on {}\n", sandbox.addr()))?;
    // The sandbox has no work to finish, so the first interrupt ends it.
    interrupts.any().await;
    let state = sandbox.stop().await;
    if let Some(path) = state_file {
        files::replace("--state", path, &state.text())?;
    }
    Ok(Exit::Done)
}

/// Returns the protocol; for HTTPS with the names for the certificate.
fn scheme(arguments: &SandboxArguments) -> Result<Scheme, Problem> {
    if !arguments.tls {
        return Ok(Scheme::Http);
    }
    for name in &arguments.tls_name {
        if !server::is_certificate_name(name) {
            let problem = format!("--tls-name: invalid name {} (expected a DNS name or an IP address)", excerpt(name));
            return Err(Problem::new(Exit::Usage, problem));
        }
    }
    Ok(Scheme::Https(arguments.tls_name.clone()))
}

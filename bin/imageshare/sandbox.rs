//! `imageshare sandbox`: a stand-in for the API, until it is interrupted.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use imageshare_sandbox::{
    Config, Sandbox, World,
    faults::{self, Faults},
    world,
};
use imageshare_worker::settings;

use crate::{
    cli::SandboxArguments,
    exit::{Ended, Exit, OrExit as _, Problem},
    files, output, runtime,
};

pub(crate) fn run(arguments: &SandboxArguments) -> Ended {
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
            Faults::parse(&text).with_context(|| format!("--faults {}", files::name(path))).or_exit(Exit::Usage)?
        }
        None => Faults::default(),
    };
    let config = Config {
        listen: arguments.listen,
        world,
        faults,
        latency: settings::duration_of_flag(&arguments.latency, Duration::ZERO..=Duration::from_mins(10))
            .context("--latency")
            .or_exit(Exit::Usage)?,
        rps: arguments.rps,
        tls: arguments.tls,
    };
    runtime::run(serve(config))
}

/// Reads a world file.
pub(crate) fn read_world(path: &Path) -> Result<World, Problem> {
    let text = files::read_text("--world", path, world::FILE_LEN_MAX)?;
    World::parse(&text).with_context(|| format!("--world {}", files::name(path))).or_exit(Exit::Usage)
}

async fn serve(config: Config) -> Ended {
    let interrupts = runtime::interrupts(|| {})?;
    let sandbox = Sandbox::start(config).await.or_exit(Exit::Usage)?;
    let authority = sandbox.certificate_pem().map(Authority::write).transpose()?;
    if let Some(Authority(path)) = &authority {
        drop(writeln!(io::stderr(), "clients are to trust {}", path.display()));
    }
    output::print(&format!("listening on {}\n", sandbox.addr()))?;
    // No more than one is needed: this has nothing to finish.
    interrupts.any().await;
    sandbox.stop().await;
    Ok(Exit::Done)
}

/// The file with the authority's certificate, for as long as the sandbox runs.
struct Authority(PathBuf);

impl Authority {
    fn write(pem: &str) -> Result<Self, Problem> {
        let path = std::env::temp_dir().join(format!("imageshare-sandbox-{}.pem", std::process::id()));
        // Never through a link that somebody else has put there.
        let write = || File::create_new(&path)?.write_all(pem.as_bytes());
        write().with_context(|| format!("the file {} cannot be made", path.display())).or_exit(Exit::Failed)?;
        Ok(Self(path))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // It holds no secret: where it cannot be removed, it stays.
        drop(fs::remove_file(&self.0));
    }
}

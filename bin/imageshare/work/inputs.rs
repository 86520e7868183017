//! The files that a command reads, told by what they are and not by their names: none may be written to.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

use imageshare_worker::{environment::Environment, settings::Settings};

use crate::cli::{ApiArguments, Common};

/// Files that a command reads.
#[derive(Default)]
pub(crate) struct Inputs(Vec<(String, FileId)>);

/// What tells a regular file from all others, under whatever name it is opened: its device and its number there.
type FileId = (u64, u64);

impl Inputs {
    /// The files that the flags of every work name, and those of the settings.
    pub(crate) fn new(common: &Common, arguments: &ApiArguments, settings: &Settings) -> Self {
        let (mut inputs, environment) = (Self::default(), Environment::of_process());
        let of_variable = std::env::var_os("IMAGESHARE_CONFIG").map(PathBuf::from);
        inputs.add("the settings file", common.config.as_deref().or(of_variable.as_deref()));
        inputs.add("--world", arguments.world.as_deref());
        for (what, path) in settings.files(&environment) {
            inputs.add(&what, Some(&path));
        }
        inputs
    }

    /// Adds a file, where there is one; `-` is standard input. It is not opened: a pipe would wait for a writer.
    pub(crate) fn add(&mut self, what: &str, path: Option<&Path>) {
        let id = match path {
            Some(path) if path.as_os_str() == "-" => of_stdin(),
            Some(path) => fs::metadata(path).ok().as_ref().and_then(id),
            None => None,
        };
        self.0.extend(id.map(|id| (what.to_owned(), id)));
    }

    /// What this file is, if it is one of them.
    pub(super) fn name_of(&self, file: &File) -> Option<&str> {
        self.name_with(&file.metadata().ok()?)
    }

    /// What the file at this path is, if it is one of them.
    pub(super) fn name_at(&self, path: &Path) -> Option<&str> {
        self.name_with(&fs::metadata(path).ok()?)
    }

    fn name_with(&self, metadata: &Metadata) -> Option<&str> {
        let found = id(metadata)?;
        self.0.iter().find(|(_, id)| *id == found).map(|(name, _)| name.as_str())
    }
}

/// What standard output is called, if this file is what it goes to.
pub(super) fn of_stdout(file: &File) -> Option<&'static str> {
    (id(&file.metadata().ok()?)? == duplicate(&io::stdout())?).then_some("standard output")
}

fn of_stdin() -> Option<FileId> {
    duplicate(&io::stdin())
}

#[cfg(unix)]
fn duplicate(stream: &impl std::os::fd::AsFd) -> Option<FileId> {
    id(&File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()?)
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;

    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// On systems without file numbers no two inputs count as the same file.
#[cfg(not(unix))]
fn duplicate<T>(_: &T) -> Option<FileId> {
    None
}

#[cfg(not(unix))]
fn id(_: &Metadata) -> Option<FileId> {
    None
}

//! The files that a command reads, told by what they are and not by their names: none may be written to.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::cli::{Common, WorkArguments};

/// Files that a command reads.
#[derive(Default)]
pub(crate) struct Inputs(Vec<(String, FileId)>);

/// What tells a regular file from all others, under whatever name it is opened.
type FileId = (u64, u64);

impl Inputs {
    /// The files that the flags of every work name.
    pub(crate) fn new(common: &Common, arguments: &WorkArguments) -> Self {
        let mut inputs = Self(Vec::new());
        let settings = common.config.clone().or_else(|| std::env::var_os("IMAGESHARE_CONFIG").map(PathBuf::from));
        inputs.add("the settings file", settings.as_deref());
        inputs.add("--world", arguments.world.as_deref());
        inputs
    }

    /// Adds a file, where there is one; `-` is standard input.
    pub(crate) fn add(&mut self, what: &str, path: Option<&Path>) {
        let id = match path {
            Some(path) if path.as_os_str() == "-" => of_stdin(),
            Some(path) => File::open(path).ok().as_ref().and_then(id),
            None => None,
        };
        self.0.extend(id.map(|id| (what.to_owned(), id)));
    }

    /// What this file is, if it is one of them.
    pub(super) fn name_of(&self, file: &File) -> Option<&str> {
        let found = id(file)?;
        self.0.iter().find(|(_, id)| *id == found).map(|(name, _)| name.as_str())
    }
}

/// What standard output is called, if this file is what it goes to.
pub(super) fn of_stdout(file: &File) -> Option<&'static str> {
    (id(file)? == duplicate(&io::stdout())?).then_some("standard output")
}

fn of_stdin() -> Option<FileId> {
    duplicate(&io::stdin())
}

#[cfg(unix)]
fn duplicate(stream: &impl std::os::fd::AsFd) -> Option<FileId> {
    id(&File::from(stream.as_fd().try_clone_to_owned().ok()?))
}

#[cfg(unix)]
fn id(file: &File) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((metadata.dev(), metadata.ino()))
}

/// Where files have no numbers that this can read, none is told from another.
#[cfg(not(unix))]
fn duplicate<T>(_: &T) -> Option<FileId> {
    None
}

#[cfg(not(unix))]
fn id(_: &File) -> Option<FileId> {
    None
}

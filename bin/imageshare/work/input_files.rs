//! The files that a command reads, identified by device and inode. The command must not write to them.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

use imageshare_worker::{environment::Environment, settings::Settings};

use crate::cli::{ApiArguments, Common};

/// Files that a command reads.
#[derive(Default)]
pub(crate) struct InputFiles(Vec<(String, FileId)>);

/// Device and inode of a regular file: the same under every name of the file.
type FileId = (u64, u64);

impl InputFiles {
    /// Returns the files that the common flags and the settings name.
    pub(crate) fn new(common: &Common, arguments: &ApiArguments, settings: &Settings) -> Self {
        let (mut inputs, environment) = (Self::default(), Environment::of_process());
        let config_variable = std::env::var_os("IMAGESHARE_CONFIG").map(PathBuf::from);
        inputs.add("the settings file", common.config.as_deref().or(config_variable.as_deref()));
        inputs.add("--world", arguments.world.as_deref());
        for (name, path) in settings.files(&environment) {
            inputs.add(&name, Some(&path));
        }
        inputs
    }

    /// Adds a file if it exists; `-` is standard input. Does not open it: opening a pipe waits for a writer.
    pub(crate) fn add(&mut self, name: &str, path: Option<&Path>) {
        let id = match path {
            Some(path) if path.as_os_str() == "-" => of_stdin(),
            Some(path) => fs::metadata(path).ok().as_ref().and_then(id),
            None => None,
        };
        self.0.extend(id.map(|id| (name.to_owned(), id)));
    }

    /// Returns the name of the input that this file is, if any.
    pub(super) fn name_of(&self, file: &File) -> Option<&str> {
        self.name_with(&file.metadata().ok()?)
    }

    /// Returns the name of the input at this path, if any.
    pub(super) fn name_at(&self, path: &Path) -> Option<&str> {
        self.name_with(&fs::metadata(path).ok()?)
    }

    fn name_with(&self, metadata: &Metadata) -> Option<&str> {
        let id = id(metadata)?;
        self.0.iter().find(|(_, input)| *input == id).map(|(name, _)| name.as_str())
    }
}

/// Returns the name of standard output if it goes to this file.
pub(super) fn of_stdout(file: &File) -> Option<&'static str> {
    (id(&file.metadata().ok()?)? == stream_id(&io::stdout())?).then_some("standard output")
}

fn of_stdin() -> Option<FileId> {
    stream_id(&io::stdin())
}

#[cfg(unix)]
fn stream_id(stream: &impl std::os::fd::AsFd) -> Option<FileId> {
    id(&File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()?)
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;

    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// Other systems have no inodes: no two files count as the same.
#[cfg(not(unix))]
fn stream_id<T>(_: &T) -> Option<FileId> {
    None
}

#[cfg(not(unix))]
fn id(_: &Metadata) -> Option<FileId> {
    None
}

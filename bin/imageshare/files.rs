//! Files that flags name: their names in messages, reading them within a limit, and replacing them.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
    process,
};

use anyhow::Context as _;
use imageshare_core::disclosure::disclosed_argument;

use crate::exit::{Exit, OrExit as _, Problem};

/// Returns the name of a file for messages: its path in one printable line, or a fixed text if the path looks like an
/// address or a key.
pub(crate) fn name(path: &Path) -> String {
    disclosed_argument(&path.to_string_lossy())
}

/// Reads the file that a flag names, of at most `len_max` bytes.
pub(crate) fn read(flag: &str, path: &Path, len_max: u64) -> Result<Vec<u8>, Problem> {
    let place = || format!("{flag} {}", name(path));
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(len_max + 1).read_to_end(&mut text));
    read.with_context(place).or_exit(Exit::Usage)?;
    if text.len() as u64 > len_max {
        let message = format!("{}: file is too long (expected at most {len_max} bytes)", place());
        return Err(Problem::new(Exit::Usage, message));
    }
    Ok(text)
}

/// Replaces the file that a flag names atomically: a reader sees the old text or the new one, even after a crash.
pub(crate) fn replace(flag: &str, path: &Path, text: &str) -> Result<(), Problem> {
    let replace = || {
        // Renaming would replace a link, or a device such as /dev/null, itself.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if target.exists() && !target.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file (expected a file that can be replaced)",
            ));
        }
        let mut new = target.file_name().map_or_else(OsString::new, OsString::from);
        // The textfile collector reads files whose names end in .prom, and only those.
        new.push(format!(".{}.new", process::id()));
        let new = target.with_file_name(new);
        let written = File::create_new(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &target)
        });
        if written.is_err() {
            fs::remove_file(&new).ok();
        }
        written
    };
    replace().with_context(|| format!("{flag} {}", name(path))).or_exit(Exit::Failed)
}

/// Reads the text file that a flag names, of at most `len_max` bytes.
pub(crate) fn read_text(flag: &str, path: &Path, len_max: u64) -> Result<String, Problem> {
    let text = String::from_utf8(read(flag, path, len_max)?);
    let not_utf8 = |_| io::Error::new(io::ErrorKind::InvalidData, "file is not UTF-8");
    text.map_err(not_utf8).with_context(|| format!("{flag} {}", name(path))).or_exit(Exit::Usage)
}

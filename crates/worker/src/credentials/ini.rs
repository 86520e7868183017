//! The part of INI that a profile file needs: sections, `key = value`, comments. No error shows a value.

use std::fmt;

/// The pairs of one section.
#[derive(Default)]
pub(super) struct IniSection<'a> {
    pairs: Vec<(&'a str, &'a str, usize)>,
}

/// An invalid line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IniError {
    /// Counted from 1.
    pub(super) line: usize,
    /// What is wrong, and what is expected.
    pub(super) problem: &'static str,
}

impl fmt::Debug for IniSection<'_> {
    /// Shows keys only: values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pairs.iter().map(|(key, ..)| key)).finish()
    }
}

impl<'a> IniSection<'a> {
    /// Returns the value of a key and its line.
    pub(super) fn get(&self, key: &str) -> Option<(&'a str, usize)> {
        self.pairs.iter().find(|(name, ..)| *name == key).map(|&(_, value, line)| (value, line))
    }
}

/// Returns a section, or the names of all sections if it is missing. White space around keys and values is ignored. A section
/// may occur in several places.
pub(super) fn section<'a>(text: &'a str, name: &str) -> Result<Result<IniSection<'a>, Vec<&'a str>>, IniError> {
    let mut wanted: Option<IniSection<'a>> = None;
    let mut names = Vec::new();
    let mut inside = false;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    for (line, content) in (1..).zip(lines.map(str::trim)) {
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            names.push(header.trim());
            inside = header.trim() == name;
            if inside {
                wanted.get_or_insert_default();
            }
            continue;
        }
        let Some((key, value)) = content.split_once('=') else {
            let problem = "line is neither a section nor a key with a value \
                           (expected [section], key = value, a blank line or a comment that begins with # or ;)";
            return Err(IniError { line, problem });
        };
        let (key, value) = (key.trim(), value.trim());
        let Some(section) = wanted.as_mut().filter(|_| inside) else { continue };
        if section.get(key).is_some() {
            return Err(IniError { line, problem: "duplicate key (expected each key once in its section)" });
        }
        section.pairs.push((key, value, line));
    }
    Ok(wanted.ok_or(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_is_read_with_its_lines() {
        let text = "\u{feff}# mine\r\n[default]\r\nsecret_id = AKIDx\r\n; more\r\n\r\nsecret_key=a=b \r\n[other]\nsecret_id=no\n";
        let section = section(text, "default").unwrap().unwrap();
        assert_eq!(section.get("secret_id"), Some(("AKIDx", 3)));
        assert_eq!(section.get("secret_key"), Some(("a=b", 6)));
        assert_eq!(section.get("token"), None);
    }

    #[test]
    fn missing_section_lists_the_others() {
        assert_eq!(section("[a]\nx=1\n[ b ]\n", "default").unwrap().unwrap_err(), ["a", "b"]);
    }

    #[test]
    fn invalid_line_is_refused_by_its_number() {
        assert_eq!(section("[default]\nAKIDx topsecret\n", "default").unwrap_err().line, 2);
        assert_eq!(section("[default]\na=1\n[b]\na=1\n[default]\na=2", "default").unwrap_err().line, 6);
    }
}

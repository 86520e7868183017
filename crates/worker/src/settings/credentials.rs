//! Which credentials there are and where each is looked for.

use std::{collections::BTreeMap, path::PathBuf};

use imageshare_core::text::printable;

use super::{DEFAULT_NAME, file::Section, origin::Origin, values::path_problem};
use crate::credentials::{DEFAULT_SECTION, Source};

/// Characters of a credential's name.
const NAME_CHARS_MAX: usize = 63;

/// The sources of the credentials by name, and where each is set.
pub(super) type Sources = BTreeMap<String, (Source, Origin)>;

/// The sources of the credentials. There is always one of the name `default`.
pub(super) fn read(mut sections: Section, problems: &mut Vec<String>) -> Sources {
    let mut sources = BTreeMap::from([(DEFAULT_NAME.to_owned(), (Source::Chain, Origin::Default))]);
    for name in sections.names() {
        // Names are shown wherever a credential is spoken of.
        if name.is_empty() || printable(&name, NAME_CHARS_MAX) != name {
            let origin = sections.origin(&name);
            problems.push(format!(
                "{origin}: found it as the name of a credential, allowed are 1 to {NAME_CHARS_MAX} printable characters"
            ));
        }
        let mut section = sections.section(&name, problems);
        let source = section.take("source", problems);
        let path = section.take("path", problems);
        let profile = section.take("section", problems);
        let origin = section.origin("source");
        section.finish("source, path, section", problems);
        let allowed = "allowed is environment or profile";
        match source.as_ref().map(|given| given.text.as_str()) {
            Some("environment") => {
                for given in [path, profile].into_iter().flatten() {
                    problems.push(format!(
                        "{}: found it beside source environment, allowed is it with profile",
                        given.origin
                    ));
                }
                sources.insert(name, (Source::Environment, origin));
            }
            Some("profile") => {
                let path = path.map(|given| (PathBuf::from(given.text), given.origin));
                if let Some((path, origin)) = &path
                    && let Some(problem) = path_problem(path)
                {
                    problems.push(format!("{origin}: {problem}, allowed is the path of a profile file"));
                }
                let path = path.map(|(path, _)| path);
                let section = profile.map_or_else(|| DEFAULT_SECTION.to_owned(), |given| given.text);
                sources.insert(name, (Source::Profile { path, section }, origin));
            }
            // The text is not shown: it may be a key in the wrong place.
            Some(_) => problems.push(format!("{origin}: found another text, {allowed}")),
            None => problems.push(format!("{origin}: found nothing, {allowed}")),
        }
    }
    sources
}

//! Which credentials there are and where each is looked for.

use std::{collections::BTreeMap, path::PathBuf};

use super::{DEFAULT_NAME, file::Section, origin::Origin};
use crate::credentials::{DEFAULT_SECTION, Source};

/// The sources of the credentials by name. There is always one of the name `default`.
pub(super) fn read(mut sections: Section, problems: &mut Vec<String>) -> BTreeMap<String, (Source, Origin)> {
    let mut sources = BTreeMap::from([(DEFAULT_NAME.to_owned(), (Source::Chain, Origin::Default))]);
    for name in sections.names() {
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
                let path = path.map(|given| PathBuf::from(given.text));
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

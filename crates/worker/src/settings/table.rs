//! The table of all settings in the manual.

use super::{resolver::Definition, setting::Shown};

/// A setting as the manual lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    path: Vec<String>,
    pub(super) variables: &'static [&'static str],
    flag: Option<&'static str>,
    default: Option<String>,
    expected: String,
    about: &'static str,
}

impl<T: Shown> From<&Definition<T>> for Row {
    fn from(definition: &Definition<T>) -> Self {
        Self {
            path: definition.path.clone(),
            variables: definition.variables,
            flag: definition.flag,
            default: definition.default.shown(),
            expected: definition.parser.expected.clone(),
            about: definition.about,
        }
    }
}

/// Returns the rows as a table of Markdown, lanes first. Lanes, credentials and lists of accounts have names.
pub(super) fn markdown(rows: &[Row]) -> String {
    let code = |text: &str| format!("`{text}`");
    let mut table = String::from(
        "| in the file | variable | flag | default | expected | what it is |\n|---|---|---|---|---|---|\n",
    );
    let (lanes, others): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.path.first().is_some_and(|first| first == "lanes"));
    for Row { path, variables, flag, default, expected, about } in lanes.into_iter().chain(others) {
        let mut path = path.clone();
        if let [_, name, _] = path.as_mut_slice() {
            "NAME".clone_into(name);
        } else if let [section, name] = path.as_mut_slice()
            && section == "accounts"
        {
            "NAME".clone_into(name);
        }
        // A setting without a section is not read from a file.
        let key = if path.len() > 1 { code(&path.join(".")) } else { String::new() };
        let variables = variables.iter().map(|name| code(name)).collect::<Vec<_>>().join(", ");
        let flag = flag.map(code).unwrap_or_default();
        let default = default.as_deref().unwrap_or_default();
        let row = [&key, &variables, &flag, default, expected, about];
        let cells = row.map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") });
        table.push_str(&format!("|{}|\n", cells.join("|")));
    }
    table
}

//! Named lists of accounts: the file of each.

use std::{collections::BTreeMap, path::PathBuf};

use toml::Value;

use super::{
    lanes::LANE_NAME_EXPECTED,
    resolver::{Definition, SettingsResolver},
    setting::Setting,
    values::file_path,
};
use crate::wire::job::is_lane_name;

/// The lists of a settings file, by their names.
pub(super) type RawAccounts = BTreeMap<String, Value>;

/// The files of the lists, by their names. Each is set.
pub(super) type AccountFiles = BTreeMap<String, Setting<Option<PathBuf>>>;

/// Resolves the lists of the file.
pub(super) fn resolve(raw: RawAccounts, resolver: &mut SettingsResolver<'_>) -> AccountFiles {
    let mut lists = AccountFiles::new();
    for (name, value) in raw {
        let path = vec!["accounts".to_owned(), name.clone()];
        if !is_lane_name(&name) {
            resolver.refuse(&path, "invalid name of a list", LANE_NAME_EXPECTED);
            continue;
        }
        let definition = Definition {
            path,
            variables: &[],
            flag: None,
            default: None,
            parser: file_path("a file of account ids").optional(),
            about: "The file of the list that `--accounts NAME` names; see [account files](#files)",
        };
        lists.insert(name, resolver.resolve(definition, Some(value)));
    }
    lists
}

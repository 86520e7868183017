//! The error page of the manual and the table of codes say the same.

use std::collections::BTreeMap;

use imageshare_core::code;

const PAGE: &str = include_str!("../../../docs/errors.md");

/// The beginning of codes of our own, which are not the API's and have no class.
const OUR_OWN: &str = "Local.";

/// The cells of a row of the page whose first cell is a code, without the code's back ticks.
fn cells(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
    let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((code, cells.collect()))
}

fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    PAGE.lines().filter_map(cells).collect()
}

#[test]
fn page_and_table_have_same_rows() {
    let of_api: Vec<_> = rows().into_iter().filter(|(code, _)| !code.starts_with(OUR_OWN)).collect();
    let classes: Vec<(&str, &str)> = of_api.iter().map(|(code, cells)| (*code, cells[0])).collect();
    let page: BTreeMap<&str, &str> = classes.iter().copied().collect();
    let table: BTreeMap<&str, &str> = code::table().iter().map(|(code, class)| (*code, class.as_str())).collect();
    assert_eq!(page, table);
    assert_eq!(classes.len(), page.len(), "a code stands on the page twice");
}

#[test]
fn every_row_has_meaning_and_action() {
    let rows = rows();
    assert!(rows.len() > code::table().len(), "our own codes are on the page as well");
    for (code, cells) in rows {
        let expected = if code.starts_with(OUR_OWN) { 2 } else { 3 };
        assert_eq!(cells.len(), expected, "{code}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{code}");
    }
}

#[test]
fn every_row_is_under_its_class() {
    let mut heading = "";
    for line in PAGE.lines() {
        if line.starts_with('#') {
            heading = line;
        }
        if let Some((code, cells)) = cells(line)
            && !code.starts_with(OUR_OWN)
        {
            assert_eq!(heading, format!("### Class `{}`", cells[0]), "{code}");
        }
    }
}

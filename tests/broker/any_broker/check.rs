//! `imageshare check --connect` against a broker.

use kit::{Node, shell::Shell};

use crate::transcripts::follow;

#[test]
fn check_names_what_is_missing_and_changes_nothing() {
    follow(Shell::new(), Node::any(), "check");
}

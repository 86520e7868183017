//! The smallest policy that a key needs.

use imageshare_core::actions::{Action as _, DescribeImageSharePermission, DescribeImages, ModifyImageSharePermission};
use imageshare_worker::{credentials::Source, settings::Settings};
use serde_json::json;

use crate::{
    exit::{Ended, Exit},
    output, terminal,
};

/// The action that writes.
pub(super) const WRITE: &str = ModifyImageSharePermission::NAME;

/// The actions that read.
const READ: [&str; 2] = [DescribeImageSharePermission::NAME, DescribeImages::NAME];

/// An action as policies name it.
pub(super) fn action(name: &str) -> String {
    format!("{}:{name}", ModifyImageSharePermission::SERVICE)
}

/// Prints it, and what a key needs beside it that another one is got with.
pub(super) fn print(settings: &Settings) -> Ended {
    let actions: Vec<String> = [WRITE].into_iter().chain(READ).map(action).collect();
    let policy = json!({
        "version": "2.0",
        "statement": [{"effect": "allow", "action": actions, "resource": ["*"]}],
    });
    for lane in &settings.lanes {
        if let Source::AssumeRole { role, credential, .. } = &lane.source {
            let arn = role.arn.as_deref().unwrap_or_default();
            let words =
                format!("credential {credential} needs sts:AssumeRole on {arn}; the policy above is the role's");
            terminal::write_error_stream(&words);
        }
    }
    Ok(Exit::Done.after(output::print(&format!("{policy:#}\n"))))
}

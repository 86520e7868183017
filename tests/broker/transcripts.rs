//! Runs the pages in `transcripts/`: commands that need a broker, and their output. Each page has its own virtual host.

use kit::{BrokerNode, free_port, markdown::MarkdownPage, repository_files, shell::Shell};

const FOLDER: &str = "tests/broker/transcripts/";

pub(crate) fn follow(shell: Shell, node: &BrokerNode, page: &str) {
    shell.with_vhost(&node.vhost()).follow(&MarkdownPage::read(&format!("{FOLDER}{page}.md")));
}

#[test]
fn dead_letters() {
    follow(Shell::new(), BrokerNode::shared(), "dead_letters");
}

#[test]
fn pause() {
    follow(Shell::new(), BrokerNode::shared(), "pause");
}

#[test]
fn policies() {
    let port = free_port();
    let node = BrokerNode::start_with(&format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"));
    follow(Shell::new().env("MANAGEMENT_PORT", port.to_string()), &node, "policies");
}

#[test]
fn publish() {
    follow(Shell::new(), BrokerNode::shared(), "publish");
}

#[test]
fn topology() {
    follow(Shell::new(), BrokerNode::shared(), "topology");
}

#[test]
fn every_transcript_is_run() {
    let pages = ["check", "dead_letters", "pause", "policies", "publish", "topology"];
    assert_eq!(repository_files(FOLDER, ""), pages.map(|page| format!("{FOLDER}{page}.md")));
}

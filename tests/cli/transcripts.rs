//! Runs the pages in `transcripts/`: commands and their output. Each page is a test and runs in its own folder.

use std::panic::catch_unwind;

use kit::{markdown::MarkdownPage, repository_files, shell::Shell};

macro_rules! transcripts {
    ($($page:ident)*) => {
        $(
            #[test]
            fn $page() {
                Shell::new().follow(&MarkdownPage::read(concat!("tests/cli/transcripts/", stringify!($page), ".md")));
            }
        )*

        #[test]
        fn every_transcript_is_run() {
            let pages = [$(concat!("tests/cli/transcripts/", stringify!($page), ".md")),*];
            assert_eq!(repository_files("tests/cli/transcripts/", ""), pages);
        }
    };
}

transcripts! {
    accounts
    api_faults_that_last
    api_faults_that_pass
    bad_lines
    credentials
    dry_run
    endings
    examples
    files_of_others
    metrics
    one_image
    report_files
    sandbox
    settings
    signatures
    usage_errors
}

#[test]
fn transcript_fails_unless_all_of_it_is_true() {
    let run = |page: &str| catch_unwind(|| Shell::new().follow(&MarkdownPage::parse("a page", page)));
    let commands = "```sh exit=3\necho one two three; echo four; echo five >&2; exit 3\n```\n";
    let shown = |block: &str| run(&format!("{commands}```{block}\n```\n"));
    for block in ["stdout\none[..]three\nfour", "stdout\n...\nf[..]", "stdout\n[..]two[..]\n...", "stderr\nfive"] {
        shown(block).unwrap();
    }
    for block in [
        "stdout\none[..]\nfive",
        "stdout\none[..]",
        "stdout\none[..]\nfour\nfive",
        "stdout\n...\nfour\none[..]",
        "stderr",
    ] {
        shown(block).unwrap_err();
    }
    run("```sh exit=1\nexit 3\n```\n").unwrap_err();
    run("```sh\nfalse | true\n```\n").unwrap_err();
    run("```sh\necho topsecret\n```\n").unwrap_err();
    run("```stdin\n```\n").unwrap_err();
}

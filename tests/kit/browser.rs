//! A headless Chromium, and what it makes of a page.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use crate::{Folder, keeper::Keeper, until};

/// Milliseconds of the page's own time until it is looked at; waiting for the server does not count.
const LOOK_AFTER_MS: u32 = 5000;

/// Whether a page is shown to people who like it light or dark, as the browser counts these.
#[derive(Clone, Copy, Debug)]
pub enum Scheme {
    Dark = 0,
    Light = 1,
}

/// Opens a page, writes a picture of it, and gives its elements as they are once its script has run.
#[track_caller]
pub fn look_at(url: &str, scheme: Scheme, picture: &Path) -> String {
    let folder = Folder::new();
    let (elements, words) = (folder.path("elements"), folder.path("words"));
    let mut browser = Command::new("chromium");
    // Its own sandbox needs rights that neither root nor a container has. The page is ours.
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking", "--window-size=1200,800"])
        .arg(format!("--user-data-dir={}", folder.path("profile").display()))
        .arg(format!("--virtual-time-budget={LOOK_AFTER_MS}"))
        .arg(format!("--blink-settings=preferredColorScheme={}", scheme as u8))
        .arg(format!("--screenshot={}", picture.display()))
        .args(["--dump-dom", url])
        .stdin(Stdio::null())
        .stdout(File::create(&elements).unwrap())
        .stderr(File::create(&words).unwrap());
    Keeper::of_all_tests().keep(&mut browser);
    let mut browser = browser.spawn().expect("chromium is not here; tests/deploy installs the package");
    let status = until("the browser has looked", || browser.try_wait().unwrap());
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&fs::read(words).unwrap()));
    assert!(fs::read(picture).unwrap().starts_with(b"\x89PNG"), "{}", picture.display());
    fs::read_to_string(elements).unwrap()
}

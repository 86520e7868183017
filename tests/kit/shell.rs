//! Commands of the manual in a shell, and a comparison of what they print with what the manual shows.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use crate::{
    Ended, Folder, Program, of_repository,
    pages::{Block, Page},
    program,
};

/// The key that the sandbox knows.
pub const KEY: [(&str, &str); 2] =
    [("TENCENTCLOUD_SECRET_ID", "AKIDSANDBOXEXAMPLE"), ("TENCENTCLOUD_SECRET_KEY", "sandbox-secret-key-example")];

/// GET, where a machine has no curl.
const CURL: &str = r#"#!/bin/bash
url=${1#http://} host=${1#http://} host=${host%%/*}
exec 3<>"/dev/tcp/${host/://}"
printf 'GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n' "${url#*/}" "$host" >&3
sed '1,/^\r$/d' <&3
"#;

/// A folder like a checkout, with the program on the path.
pub struct Shell {
    pub folder: Folder,
    variables: Vec<(&'static str, String)>,
}

impl Shell {
    pub fn new() -> Self {
        let folder = Folder::new();
        symlink(of_repository("examples"), folder.path("examples")).unwrap();
        fs::create_dir(folder.path("bin")).unwrap();
        symlink(program::path(), folder.path("bin/imageshare")).unwrap();
        // tests/run has cargo itself run the program; here it is not built again in another way.
        let cargo = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 99\nshift 3\nexec imageshare \"$@\"\n";
        let shell = Self { folder, variables: Vec::new() };
        shell.program("cargo", cargo);
        shell.program("curl", CURL);
        shell
    }

    /// Puts a program on its path.
    pub fn program(&self, name: &str, script: &str) {
        let file = self.folder.file(&format!("bin/{name}"), script);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn env(mut self, name: &'static str, value: String) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Runs commands as a person would who types them.
    pub fn run(&self, commands: &str) -> Ended {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path("bin").display());
        let script = format!("cd {:?}\n{commands}", self.folder.path(""));
        let program = Program::of("bash", ["-e", "-o", "pipefail", "-c", &script]).env("PATH", path);
        self.variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    }
}

/// A block of commands and the one behind it, which is what they print where they print something that is shown.
#[track_caller]
pub fn shown(page: &str, beginning: &str) -> (String, Option<Block>) {
    let mut page = Page::of(page);
    let place = page.find(beginning);
    let is_output = page.blocks.get(place + 1).is_some_and(|next| next.language == "text");
    let output = is_output.then(|| page.blocks.remove(place + 1));
    (page.blocks.remove(place).text, output)
}

/// The lines of a text, without what is another one each time: addresses, the seconds that it took.
pub fn lines(text: &str) -> Vec<String> {
    let without = |line: &str| {
        let line = line.trim_end();
        if line.starts_with("seconds ") {
            return "seconds".to_owned();
        }
        // An image that is not ready is looked at once more each second.
        if line.starts_with("requests ") && line.contains(" DescribeImages,") {
            let kinds = line.split(", ").filter(|kind| !kind.ends_with(" DescribeImages"));
            return kinds.filter_map(|kind| kind.rsplit("  ").next()).map(str::trim).collect::<Vec<_>>().join(", ");
        }
        match line.split_once("127.0.0.1:") {
            Some((before, after)) => {
                format!("{before}ADDRESS{}", after.trim_start_matches(|sign: char| sign.is_ascii_digit()))
            }
            None => line.to_owned(),
        }
    };
    text.lines().map(without).filter(|line| !line.is_empty()).collect()
}

/// What was printed has the lines that the page shows, one after the other.
#[track_caller]
pub fn check_printed(printed: &str, page: &str) {
    let (printed_lines, page) = (lines(printed), lines(page));
    let found = printed_lines.windows(page.len()).any(|window| window == page);
    assert!(found, "the page shows\n{}\n\nand what is printed is\n{printed}", page.join("\n"));
}

/// Runs a block that needs nothing, and compares what it says to people.
#[track_caller]
pub fn check_shown(page: &str, beginning: &str, code: i32) {
    let (commands, output) = shown(page, beginning);
    let ended = Shell::new().run(&commands).check(code);
    check_printed(&ended.stderr, &output.unwrap().text);
}

/// What a script left running ends with it.
pub const AT_END: &str = "trap 'kill $(jobs -p); wait' EXIT\n";

/// A script with another port in the place of one that may be taken.
pub fn with_port(script: &str, port: &str, free: u16) -> String {
    assert!(script.contains(port), "{script}");
    script.replace(&format!(":{port}"), &format!(":{free}"))
}

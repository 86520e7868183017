//! A file of account ids, one a line.

use std::{fmt, io::BufRead, str};

use imageshare_core::{ids::AccountId, text::printable};

use super::{
    job::{self, ACCOUNTS_MAX},
    lines::{Line, Lines},
};

/// Bytes of a line, comment included.
const LINE_LEN_MAX: usize = 4096;

/// Problems that are listed; more are counted.
const PROBLEMS_MAX: usize = 20;

/// Characters of the file's name that messages show.
const FILE_CHARS_MAX: usize = 200;

/// Everything that is wrong with a file of account ids, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsError {
    problems: Vec<String>,
    /// How many there are beyond those.
    more: usize,
}

/// Reads account ids, one a line; blank lines and what stands behind a `#` do not count. Messages call the reader
/// `file`. Repeated ids are kept.
///
/// # Errors
/// If a line is no account id, or there are none or more than a job may have: all problems at once.
pub fn read_accounts(reader: impl BufRead, file: &str) -> Result<Vec<AccountId>, AccountsError> {
    let file = printable(file, FILE_CHARS_MAX);
    let mut lines = Lines::new(reader, LINE_LEN_MAX);
    let mut account_ids = Vec::new();
    let mut error = AccountsError { problems: Vec::new(), more: 0 };
    let mut count = 0_usize;
    loop {
        let read = match lines.next_line() {
            Ok(None) => break,
            Ok(Some((_, Line::Foreign(format)))) => {
                error.add(format!("{file}: {format}"));
                break;
            }
            Ok(Some((_, line))) => account_id(line),
            Err(problem) => {
                error.add(format!("{file}:{}: cannot read the file: {problem}", lines.number()));
                break;
            }
        };
        match read {
            Ok(None) => continue,
            // Not read on: the reader may never end.
            _ if count == ACCOUNTS_MAX => {
                error.add(format!("{file}: more than {ACCOUNTS_MAX} account ids (expected 1 to {ACCOUNTS_MAX})"));
                break;
            }
            Ok(Some(account_id)) => account_ids.push(account_id),
            Err(problem) => error.add(format!("{file}:{}: {problem}", lines.number())),
        }
        count += 1;
    }
    if count == 0 && error.problems.is_empty() {
        error.add(format!("{file}: no account ids (expected 1 to {ACCOUNTS_MAX}, one per line)"));
    }
    if error.problems.is_empty() { Ok(account_ids) } else { Err(error) }
}

fn account_id(line: Line<'_>) -> Result<Option<AccountId>, String> {
    let Line::Bytes(bytes) = line else {
        return Err(format!("line is too long (expected at most {LINE_LEN_MAX} bytes)"));
    };
    let text = str::from_utf8(bytes).map_err(|error| job::not_utf8(bytes, error))?;
    let text = text.split('#').next().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: imageshare_core::ids::AccountIdError| error.to_string())
}

impl AccountsError {
    fn add(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }
}

impl std::error::Error for AccountsError {}

impl fmt::Display for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))?;
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[track_caller]
    fn check(text: &str, message: &str) {
        assert_eq!(read_accounts(text.as_bytes(), "accounts.txt").unwrap_err().to_string(), message);
    }

    #[test]
    fn ids_are_read_around_comments_and_blank_lines() {
        let text = "# customers\r\n1038493875\r\n\n 100022975249 # the second\n1038493875";
        let ids = read_accounts(text.as_bytes(), "accounts.txt").unwrap();
        assert_eq!(ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [1_038_493_875, 100_022_975_249, 1_038_493_875]);
    }

    #[test]
    fn all_problems_are_reported_together() {
        let expected = "(expected a root account id of 5 to 19 digits without a leading zero)";
        check(
            "1038493875\n01038493875\nabc\n",
            &format!(
                "accounts.txt:2: invalid value \"01038493875\" {expected}\naccounts.txt:3: invalid value \"abc\" {expected}"
            ),
        );
        let many = "x\n".repeat(30);
        let error = read_accounts(many.as_bytes(), "-").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 21);
        assert!(error.ends_with("\nand 10 more"), "{error}");
    }

    #[test]
    fn none_and_too_many_are_refused() {
        check("# nobody\n\n", "accounts.txt: no account ids (expected 1 to 10000, one per line)");
        check(&"1038493875\n".repeat(10_001), "accounts.txt: more than 10000 account ids (expected 1 to 10000)");
        assert_eq!(read_accounts("1038493875\n".repeat(10_000).as_bytes(), "f").unwrap().len(), 10_000);
    }

    #[test]
    fn a_reader_that_never_ends_is_given_up() {
        struct Endless(&'static [u8]);
        impl io::Read for Endless {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("lines are read from the buffer"))
            }
        }
        impl BufRead for Endless {
            fn fill_buf(&mut self) -> io::Result<&[u8]> {
                Ok(self.0)
            }
            fn consume(&mut self, _: usize) {}
        }
        let error = read_accounts(Endless(b"1038493875\n"), "-").unwrap_err().to_string();
        assert_eq!(error, "-: more than 10000 account ids (expected 1 to 10000)");
        let error = read_accounts(Endless(b"y\n"), "-").unwrap_err().to_string();
        assert!(error.ends_with("\nand 9981 more"), "{error}");
    }
}

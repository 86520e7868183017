//! A file of account ids: a list, a sheet with a column of them, or JSON.

use std::{fmt, io::BufRead, ops::ControlFlow, str};

use imageshare_core::{
    ids::AccountId,
    text::{excerpt, printable},
};

use super::{
    documents::{Documents, Foreign, LinePart},
    job::{self, ACCOUNTS_MAX, JOB_BYTES_MAX},
    lines::{Line, Lines},
    rows::ACCOUNT_NAMES,
    sheet::{self, Names, Sheet},
    value::Value,
};

/// Bytes of a line. A list of JSON that holds as many accounts as allowed fits on one.
const LINE_LEN_MAX: usize = JOB_BYTES_MAX;

/// Problems that are listed; more are counted.
const PROBLEMS_MAX: usize = 20;

/// Characters of the file's name that messages show.
const FILE_CHARS_MAX: usize = 200;

/// The columns of a sheet that are read.
const COLUMNS: [Names; 1] = [&ACCOUNT_NAMES];

/// The members of an object that are read.
const MEMBERS: [&str; 4] = ["account_id", "AccountId", "account_ids", "AccountIds"];

/// The accounts of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsFile {
    /// 1 to [`ACCOUNTS_MAX`] accounts in the order of the file, repeated ones included.
    pub account_ids: Vec<AccountId>,
    /// What was ignored, such as further columns; one line, safe to print.
    pub notice: Option<String>,
}

/// Everything that is wrong with a file of account ids, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsError {
    problems: Vec<String>,
    /// How many there are beyond those.
    more: usize,
}

/// Reads account ids. Messages call the reader `file`. The first line that is not blank shows the form of the file:
///
/// - Lines of ids, separated by white space, commas or semicolons. Text after a `#` is ignored.
/// - A sheet whose header names the column `account_id`, `uin` or `account`. Other columns are ignored, with a notice.
/// - JSON: ids, objects with `account_id` or `account_ids`, or lists of them, such as the output of `imageshare list`.
///   Other members are ignored.
///
/// # Errors
/// If a part of the file is not an account id, or if there are none or more than a job may have: all problems at once.
pub fn read_accounts(reader: impl BufRead, file: &str) -> Result<AccountsFile, AccountsError> {
    let mut lines = Lines::new(reader, LINE_LEN_MAX);
    let mut reading = Reading {
        file: printable(file, FILE_CHARS_MAX),
        account_ids: Vec::new(),
        count: 0,
        error: AccountsError { problems: Vec::new(), more: 0 },
        notice: None,
    };
    let mut form = None;
    loop {
        let flow = match lines.next_line() {
            Ok(None) => break,
            Ok(Some((number, line))) => reading.take(&mut form, number, line),
            Err(problem) => {
                reading.refuse(lines.number(), &format!("cannot read the file: {problem}"));
                ControlFlow::Break(())
            }
        };
        // Not read on: the reader may never end.
        if flow.is_break() {
            break;
        }
    }
    if let Some(Form::Json(documents)) = &form
        && let Some((line, problem)) = documents.finish()
    {
        reading.refuse(line, &problem);
    }
    reading.finish()
}

/// How accounts are written in a file.
enum Form {
    List,
    Sheet(Box<Sheet<{ COLUMNS.len() }>>),
    Json(Documents),
}

/// What was read of a file.
struct Reading {
    file: String,
    account_ids: Vec<AccountId>,
    /// Account ids, valid or not.
    count: usize,
    error: AccountsError,
    notice: Option<String>,
}

impl Reading {
    /// Takes the next line. Breaks if the rest of the file cannot be read.
    fn take(&mut self, form: &mut Option<Form>, number: u64, line: Line<'_>) -> ControlFlow<()> {
        let bytes = match line {
            Line::Bytes(bytes) => bytes,
            Line::TooLong => {
                self.refuse(number, &format!("line is too long (expected at most {LINE_LEN_MAX} bytes)"));
                return ControlFlow::Break(());
            }
            Line::Foreign(format) => {
                self.error.add(format!("{}: {format}", self.file));
                return ControlFlow::Break(());
            }
        };
        if bytes.trim_ascii().is_empty() || (!matches!(form, Some(Form::Json(_))) && sheet::is_comment(bytes)) {
            return ControlFlow::Continue(());
        }
        match form {
            Some(Form::List) => self.take_list(number, bytes),
            Some(Form::Sheet(sheet)) => {
                let row = sheet.row(bytes).map(|row| row.map(|[account_id]| account_id));
                match row.transpose() {
                    None => ControlFlow::Continue(()),
                    Some(account_id) => self.add(number, account_id.and_then(|text| job::parse_account_id(&text))),
                }
            }
            Some(Form::Json(documents)) => self.take_json(documents, number, bytes),
            None => match bytes.trim_ascii() {
                [b'{' | b'[', ..] => {
                    let mut documents = Documents::new(LINE_LEN_MAX);
                    let flow = self.take_json(&mut documents, number, bytes);
                    *form = Some(Form::Json(documents));
                    flow
                }
                _ if sheet::is_header(bytes, &COLUMNS) => match Sheet::new(bytes, COLUMNS) {
                    Ok((sheet, notice)) => {
                        self.notice = notice.map(|notice| format!("{}:{number}: {notice}", self.file));
                        *form = Some(Form::Sheet(Box::new(sheet)));
                        ControlFlow::Continue(())
                    }
                    Err(problem) => {
                        self.refuse(number, &problem);
                        ControlFlow::Break(())
                    }
                },
                _ => {
                    *form = Some(Form::List);
                    self.take_list(number, bytes)
                }
            },
        }
    }

    /// Takes a line of ids.
    fn take_list(&mut self, number: u64, bytes: &[u8]) -> ControlFlow<()> {
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return self.add(number, Err(job::not_utf8(bytes, error))),
        };
        // Some editors end lines with a carriage return alone.
        for line in text.split('\r') {
            let line = line.split('#').next().unwrap_or_default().trim();
            let is_separator = |c: char| c.is_whitespace() || [',', ';'].contains(&c);
            let words = line.split(is_separator).map(unquoted).filter(|word| !word.is_empty());
            // Spaces and commas may also be those of one number.
            if words.clone().any(|word| word.parse::<AccountId>().is_err()) && sheet::damage(line).is_some() {
                self.add(number, job::parse_account_id(line))?;
                continue;
            }
            for word in words {
                if self.count == 0 && word.contains(char::is_alphabetic) && sheet::damage(word).is_none() {
                    let expected = "expected account ids, or a header that names the column account_id";
                    self.refuse(number, &format!("invalid value {} ({expected})", excerpt(word)));
                    // Neither a list nor a sheet, so the rest has no meaning.
                    return ControlFlow::Break(());
                }
                self.add(number, job::parse_account_id(word))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes a line of JSON.
    fn take_json(&mut self, documents: &mut Documents, number: u64, bytes: &[u8]) -> ControlFlow<()> {
        let mut at = 0;
        loop {
            match documents.take(number, bytes, at) {
                LinePart::Value { line, value, next } => {
                    self.take_value(line, value)?;
                    at = next;
                }
                LinePart::LineEnd => return ControlFlow::Continue(()),
                LinePart::Malformed(problem) => {
                    self.refuse(number, &problem);
                    return ControlFlow::Break(());
                }
            }
        }
    }

    /// Takes an account id of JSON, or an object that holds some.
    fn take_value(&mut self, line: u64, value: Result<&[u8], String>) -> ControlFlow<()> {
        let bytes = match value {
            Ok(bytes) => bytes,
            Err(problem) => return self.add(line, Err(problem)),
        };
        let members = match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => members,
            Ok(value) => return self.add(line, job::account_id(&value)),
            Err(error) => {
                let error = error.to_string();
                let problem = error.split(" at line ").next().unwrap_or_default();
                return self.add(line, Err(format!("malformed JSON: {problem}")));
            }
        };
        match members.into_iter().find(|(name, _)| MEMBERS.contains(&name.as_ref())) {
            Some((_, Value::Array(elements))) => {
                elements.iter().try_for_each(|element| self.add(line, job::account_id(element)))
            }
            Some((_, value)) => self.add(line, job::account_id(&value)),
            None => {
                let problem = match Foreign::of(bytes) {
                    Some(Foreign::PackerManifest) => {
                        "a manifest of Packer, which names images and no accounts (expected account ids)"
                    }
                    Some(Foreign::TerraformOutput) => {
                        "all outputs of Terraform (expected account ids; print the one that lists them with terraform \
                         output -json NAME)"
                    }
                    None => {
                        "object without account_id (expected account ids, or objects with account_id or account_ids)"
                    }
                };
                self.add(line, Err(problem.to_owned()))
            }
        }
    }

    /// Adds an account id, or what is wrong with it. Breaks if there are more than a job may have.
    fn add(&mut self, line: u64, account_id: Result<AccountId, String>) -> ControlFlow<()> {
        if self.count == ACCOUNTS_MAX {
            let expected = format!("more than {ACCOUNTS_MAX} account ids (expected 1 to {ACCOUNTS_MAX})");
            self.error.add(format!("{}: {expected}", self.file));
            return ControlFlow::Break(());
        }
        self.count += 1;
        match account_id {
            Ok(account_id) => self.account_ids.push(account_id),
            Err(problem) => self.refuse(line, &problem),
        }
        ControlFlow::Continue(())
    }

    fn refuse(&mut self, line: u64, problem: &str) {
        self.error.add(format!("{}:{line}: {problem}", self.file));
    }

    fn finish(mut self) -> Result<AccountsFile, AccountsError> {
        if self.count == 0 && self.error.problems.is_empty() {
            self.error.add(format!("{}: no account ids (expected 1 to {ACCOUNTS_MAX}, one per line)", self.file));
        }
        let Self { account_ids, error, notice, .. } = self;
        if error.problems.is_empty() { Ok(AccountsFile { account_ids, notice }) } else { Err(error) }
    }
}

/// Returns a word without the quotes around it, such as those of a pasted list.
fn unquoted(word: &str) -> &str {
    let within = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(word)
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

    #[track_caller]
    fn check_ids(text: &str, expected: &[u64]) {
        let read = read_accounts(text.as_bytes(), "f").unwrap();
        assert_eq!(read.account_ids.iter().map(|id| id.get()).collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(read.notice, None, "{text}");
    }

    #[test]
    fn ids_are_read_around_comments_and_blank_lines() {
        let text = "# customers\r\n1038493875\r\n\n 100022975249 # the second\n1038493875";
        check_ids(text, &[1_038_493_875, 100_022_975_249, 1_038_493_875]);
    }

    #[test]
    fn every_form_of_list_is_read() {
        for text in [
            "10001,10002\n",
            "10001; 10002;\n",
            "10001\r10002\r",
            "\"10001\",\n'10002',\n",
            "\n[\"10001\", 10002]",
            "[\n  \"10001\",\n  \"10002\"\n]\n",
            "{\"image_id\":\"img-6pb6lrmy\",\"account_id\":\"10001\"}\n{\"account_id\":10002}\n",
            "{\n  \"AccountIds\": [\"10001\", \"10002\"]\n}\n",
            "Account ID\n10001\n10002\n",
            "# from the portal\nsep=;\nUIN;;\n10001\n;;\n#10003\n10002;\n",
        ] {
            check_ids(text, &[10_001, 10_002]);
        }
        let read = read_accounts(&b"Customer,Account ID\nAcme,10001\n"[..], "a.csv").unwrap();
        assert_eq!(read.account_ids, [AccountId::new(10_001).unwrap()]);
        assert_eq!(read.notice.unwrap(), "a.csv:1: columns ignored: \"Customer\"");
    }

    #[test]
    fn spreadsheet_damage_of_ids_is_explained() {
        for (text, problem) in [
            ("1.00023E+11", "in scientific notation"),
            ("100022975249.00", "with a decimal point"),
            ("100,022,975,249", "with thousands separators"),
            ("100 022\u{a0}975 249", "with thousands separators"),
            ("'100022975249", "with an apostrophe"),
            ("=\"100022975249\"", "a formula"),
        ] {
            for (text, line) in [(text.to_owned(), 1), (format!("account_id\n\"{}\"\n", text.replace('"', "\"\"")), 2)]
            {
                let error = read_accounts(text.as_bytes(), "a.csv").unwrap_err().to_string();
                assert!(error.starts_with(&format!("a.csv:{line}: invalid value ")), "{error}");
                assert!(error.contains(&format!(", {problem}")) && error.lines().count() == 1, "{error}");
            }
        }
    }

    #[test]
    fn other_files_are_explained() {
        check(
            "Table 1\nCustomer,Account ID\nAcme,10001\n",
            "accounts.txt:1: invalid value \"Table\" (expected account ids, or a header that names the column account_id)",
        );
        check(
            "Customer,10001",
            "accounts.txt:1: invalid value \"Customer\" (expected account ids, or a header that names the column account_id)",
        );
        check(
            "{\"builds\":[],\"last_run_uuid\":\"x\"}",
            "accounts.txt:1: a manifest of Packer, which names images and no accounts (expected account ids)",
        );
        check(
            "{\"a\":1}",
            "accounts.txt:1: object without account_id (expected account ids, or objects with account_id or account_ids)",
        );
        check("[10001, {\"account_id\":}]", "accounts.txt:1: malformed JSON: expected value");
        check(
            "[10001] 10002 [true]",
            "accounts.txt:1: invalid value true (expected a root account id of 5 to 19 digits without a leading zero)",
        );
        for (text, problem) in [("[10001", "the file ends before"), ("[10001 10002]", "unexpected \"1\"")] {
            let error = read_accounts(text.as_bytes(), "a.json").unwrap_err().to_string();
            assert!(error.starts_with(&format!("a.json:1: malformed JSON: {problem}")), "{error}");
        }
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
        let many = "1\n".repeat(30);
        let error = read_accounts(many.as_bytes(), "-").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 21);
        assert!(error.ends_with("\nand 10 more"), "{error}");
    }

    #[test]
    fn none_and_too_many_are_refused() {
        check("# no accounts\n\n", "accounts.txt: no account ids (expected 1 to 10000, one per line)");
        check(&"1038493875\n".repeat(10_001), "accounts.txt: more than 10000 account ids (expected 1 to 10000)");
        assert_eq!(read_accounts("1038493875\n".repeat(10_000).as_bytes(), "f").unwrap().account_ids.len(), 10_000);
    }

    #[test]
    fn reader_that_never_ends_is_given_up() {
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
        let error = read_accounts(Endless(b"1\n"), "-").unwrap_err().to_string();
        assert!(error.ends_with("\nand 9981 more"), "{error}");
    }
}

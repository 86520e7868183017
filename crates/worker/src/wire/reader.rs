//! Jobs of a file of any size: NDJSON or CSV, one after the other, with only one of them held.

use std::{collections::VecDeque, io::BufRead, sync::Arc};

use imageshare_core::{ids::Region, text::printable};

use super::{
    job::{self, Defaults, JOB_BYTES_MAX, Job},
    lines::{Line, Lines},
    rejection::{Place, Rejection},
    rows::{self, Rows},
};

/// Characters of a file's name that messages show.
const FILE_CHARS_MAX: usize = 200;

/// How jobs stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// A header, then one account a line.
    Csv,
}

/// A job and the line on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLine {
    /// Where it stands.
    pub place: Place,
    /// The job.
    pub job: Job,
}

/// The jobs of a file in their order. What is no job comes as a rejection and costs none of the others; a file that
/// cannot be read on ends with a rejection that says so.
///
/// ```
/// use imageshare_worker::wire::JobReader;
///
/// let text = r#"{"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"SHARE","account_ids":["1038493875"]}
/// {"image_id":"img-6pb6lrmy"}"#;
/// let read: Vec<_> = JobReader::new(text.as_bytes(), "jobs.ndjson", None, None).collect();
/// assert_eq!(read[0].as_ref().unwrap().job.identity.job_id, "line-1");
/// assert!(read[1].as_ref().unwrap_err().to_string().starts_with("jobs.ndjson:2: region: missing"));
/// ```
pub struct JobReader<R> {
    lines: Lines<R>,
    file: Arc<str>,
    /// `None` until the first line shows it.
    format: Option<Format>,
    region: Option<Region>,
    rows: Rows,
    /// Read and not given out yet; two at most.
    ready: VecDeque<Result<JobLine, Rejection>>,
    is_ended: bool,
}

impl Format {
    /// The format that a file's name says, if it says one.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// The format of a text whose first line this is. What names no column of CSV is an object, or a line that should
    /// be one and after which objects may follow.
    fn of_first_line(line: &[u8]) -> Self {
        if rows::names_a_column(line) { Self::Csv } else { Self::Ndjson }
    }
}

impl<R: BufRead> JobReader<R> {
    /// Jobs of `reader`, which messages call `file`. Without a format the first line that is not blank shows it.
    /// `region` is that of jobs without one of their own.
    #[must_use]
    pub fn new(reader: R, file: &str, format: Option<Format>, region: Option<Region>) -> Self {
        let file: Arc<str> = printable(file, FILE_CHARS_MAX).into();
        Self {
            lines: Lines::new(reader, JOB_BYTES_MAX),
            rows: Rows::new(file.clone(), region),
            file,
            format,
            region,
            ready: VecDeque::new(),
            is_ended: false,
        }
    }

    /// Reads one line, which may make jobs or rejections ready.
    fn step(&mut self) {
        let (number, line) = match self.lines.next_line() {
            Ok(Some((_, Line::Bytes(bytes)))) if bytes.trim_ascii().is_empty() => return,
            Ok(Some((number, Line::Foreign(format)))) => {
                self.is_ended = true;
                self.rows.reject(number, format!("{format}; nothing of the file was read"), &mut self.ready);
                return;
            }
            Ok(Some(line)) => line,
            Ok(None) => {
                self.is_ended = true;
                self.ready.extend(self.rows.finish());
                return;
            }
            Err(error) => {
                let problem = format!("cannot read the file: {error}; later lines were not read");
                self.is_ended = true;
                self.rows.reject(self.lines.number(), problem, &mut self.ready);
                self.ready.extend(self.rows.finish());
                return;
            }
        };
        if let (None, Line::Bytes(bytes)) = (self.format, line) {
            self.format = Some(Format::of_first_line(bytes));
        }
        if self.format == Some(Format::Ndjson) && number == 1 && is_opening(line) {
            let problem = "JSON object over several lines (expected one object per line; convert objects with jq -c ., a list with \
                           jq -c '.[]'); nothing of the file was read";
            self.is_ended = true;
            self.rows.reject(1, problem.to_owned(), &mut self.ready);
            return;
        }
        if self.format == Some(Format::Csv) {
            self.is_ended = self.rows.take(number, line, &mut self.ready).is_break();
            return;
        }
        let place = Place { file: self.file.clone(), line: number };
        let defaults = Defaults { job_id: format!("line-{number}"), region: self.region };
        let read = match line {
            Line::Bytes(bytes) => job::parse(bytes, &defaults),
            Line::TooLong | Line::Foreign(_) => Err(job::unreadable(&defaults, job::too_long())),
        };
        self.ready.push_back(match read {
            Ok(job) => Ok(JobLine { place, job }),
            Err(rejection) => Err(rejection.at(place)),
        });
    }
}

/// Returns whether a line only begins an object or a list. None of the lines behind it would be a job.
fn is_opening(line: Line<'_>) -> bool {
    matches!(line, Line::Bytes(bytes) if matches!(bytes.trim_ascii(), b"{" | b"[" | b"[{"))
}

impl<R: BufRead> Iterator for JobReader<R> {
    type Item = Result<JobLine, Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.is_ended {
            self.step();
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

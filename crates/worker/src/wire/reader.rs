//! Jobs of a file of any size: JSON or CSV, one after the other, with only one of them held.

use std::{collections::VecDeque, io::BufRead, sync::Arc};

use imageshare_core::{ids::Region, text::printable};

use super::{
    documents::{Documents, Foreign, is_spread},
    job::{self, Defaults, JOB_BYTES_MAX, Job},
    lines::{Line, Lines},
    rejection::{Place, Rejection},
    rows::{COLUMNS, Rows},
    sheet::{is_comment, is_header},
};

/// Characters of a file's name that messages show.
const FILE_CHARS_MAX: usize = 200;

/// How jobs stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line; or objects over several lines, or lists of them.
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
    /// Splits JSON that is not one job per line; `None` if it is.
    documents: Option<Documents>,
    /// The line of the last job of JSON, and how many jobs begin on it.
    last: (u64, u64),
    /// Read and not given out yet: the jobs of one line.
    ready: VecDeque<Result<JobLine, Rejection>>,
    notice: Option<Box<dyn FnMut(&str) + Send>>,
    is_ended: bool,
}

impl Format {
    /// The format that a file's name says, if it says one.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// The format of a text whose first line this is. What names no column of CSV is an object, or a line that should
    /// be one and after which objects may follow.
    fn of_first_line(line: &[u8]) -> Self {
        if is_header(line, &COLUMNS) { Self::Csv } else { Self::Ndjson }
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
            documents: None,
            last: (0, 0),
            ready: VecDeque::new(),
            notice: None,
            is_ended: false,
        }
    }

    /// Has what the reader ignores in a file, such as columns that no job needs, passed to `notice`: one line at a time.
    #[must_use]
    pub fn with_notices(self, notice: impl FnMut(&str) + Send + 'static) -> Self {
        Self { notice: Some(Box::new(notice)), ..self }
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
                if let Some((line, problem)) = self.documents.as_ref().and_then(Documents::finish) {
                    self.rows.reject(line, problem, &mut self.ready);
                }
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
        if self.format != Some(Format::Ndjson) && matches!(line, Line::Bytes(bytes) if is_comment(bytes)) {
            return;
        }
        let format = *self.format.get_or_insert_with(|| match line {
            Line::Bytes(bytes) => Format::of_first_line(bytes),
            Line::TooLong | Line::Foreign(_) => Format::Ndjson,
        });
        self.is_ended = match format {
            Format::Csv => {
                let ended = self.rows.take(number, line, &mut self.ready).is_break();
                if let (Some(notice), Some(say)) = (self.rows.take_notice(), &mut self.notice) {
                    say(&format!("{}:{number}: {notice}", self.file));
                }
                ended
            }
            Format::Ndjson => {
                let jobs = &mut JsonJobs {
                    file: &self.file,
                    region: self.region,
                    last: &mut self.last,
                    ready: &mut self.ready,
                };
                let is_first = jobs.last.0 == 0 && self.documents.is_none();
                match line {
                    Line::Bytes(bytes) => {
                        if is_first && is_spread(bytes) {
                            self.documents = Some(Documents::new(JOB_BYTES_MAX));
                        }
                        match &mut self.documents {
                            Some(documents) => {
                                documents.take(number, bytes, |(line, value)| jobs.add(line, value)).is_break()
                            }
                            None => {
                                jobs.add(number, Ok(bytes));
                                false
                            }
                        }
                    }
                    Line::TooLong | Line::Foreign(_) => {
                        jobs.add(number, Err(job::too_long()));
                        self.documents.is_some()
                    }
                }
            }
        };
    }
}

/// Makes jobs of JSON ready.
struct JsonJobs<'a> {
    file: &'a Arc<str>,
    region: Option<Region>,
    /// As in [`JobReader`].
    last: &'a mut (u64, u64),
    ready: &'a mut VecDeque<Result<JobLine, Rejection>>,
}

impl JsonJobs<'_> {
    /// Adds the job that begins on this line, or the rejection of what is not a job.
    fn add(&mut self, line: u64, value: Result<&[u8], String>) {
        let nth = if self.last.0 == line { self.last.1 + 1 } else { 1 };
        *self.last = (line, nth);
        let job_id = if nth == 1 { format!("line-{line}") } else { format!("line-{line}-{nth}") };
        let defaults = Defaults { job_id, region: self.region };
        let read = value.map_err(|problem| job::unreadable(&defaults, problem)).and_then(|value| {
            let explained = |rejection| match Foreign::of(value) {
                Some(foreign) => job::unreadable(&defaults, foreign_jobs(foreign).to_owned()),
                None => rejection,
            };
            job::parse(value, &defaults).map_err(explained)
        });
        let place = Place { file: Arc::clone(self.file), line };
        self.ready.push_back(match read {
            Ok(job) => Ok(JobLine { place, job }),
            Err(rejection) => Err(rejection.at(place)),
        });
    }
}

/// Returns why a file of another program has no jobs.
const fn foreign_jobs(foreign: Foreign) -> &'static str {
    match foreign {
        Foreign::PackerManifest => "a manifest of Packer, which names images and no accounts (expected jobs)",
        Foreign::TerraformOutput => {
            "all outputs of Terraform (expected jobs; print one output with terraform output -json NAME; if it is a list of \
             accounts, it is for --accounts-file)"
        }
    }
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

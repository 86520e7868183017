//! Jobs of a file of any size: JSON or CSV, one after the other, with only one of them held. (CSV is held from its first SYNC
//! on, up to a limit.)

use std::{collections::VecDeque, io::BufRead, ops::ControlFlow, sync::Arc};

use imageshare_core::{ids::Region, text::printable};

use super::{
    documents::{Documents, Foreign, LinePart, is_spread},
    job::{self, Defaults, JOB_BYTES_MAX, Job},
    lines::{Line, Lines},
    rejection::{Place, Rejection},
    rows::{COLUMNS, ReadyJobs, Rows},
    sheet::{is_comment, is_header},
};

/// Characters of a file's name that messages show.
const FILE_CHARS_MAX: usize = 200;

/// The format of a file of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line; or objects over several lines, or lists of them.
    Ndjson,
    /// A header, then one account per line.
    Csv,
}

/// Takes a line about what the reader ignores.
type NoticeHandler = Box<dyn FnMut(&str) + Send>;

/// A job and the line on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLine {
    /// The line on which it begins.
    pub place: Place,
    /// The job.
    pub job: Job,
}

/// The jobs of a file in their order. A line that is not a job gives a rejection, and the other lines are read. A file whose
/// rest cannot be read ends with a rejection that gives the reason.
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
    rows: Rows,
    objects: Objects,
    /// Where in the last line the next object may begin; `None` if the line is used up.
    rest: Option<usize>,
    /// Jobs and rejections that are read and not returned yet: at most two, or what was held for a SYNC.
    ready: ReadyJobs,
    notice: Option<NoticeHandler>,
    is_ended: bool,
}

impl Format {
    /// Returns the format for the extension of a file's name, if it is known.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// Returns the format of a text with this first line. A line that names no column of CSV is an object, or an invalid
    /// line before objects.
    fn of_first_line(line: &[u8]) -> Self {
        if is_header(line, &COLUMNS) { Self::Csv } else { Self::Ndjson }
    }
}

impl<R: BufRead> JobReader<R> {
    /// Returns the jobs of a reader, which messages call `file`. Without a format the first line that is not blank decides.
    /// `region` is the region of jobs without one.
    #[must_use]
    pub fn new(reader: R, file: &str, format: Option<Format>, region: Option<Region>) -> Self {
        let file: Arc<str> = printable(file, FILE_CHARS_MAX).into();
        Self {
            lines: Lines::new(reader, JOB_BYTES_MAX),
            rows: Rows::new(file.clone(), region),
            objects: Objects { file: file.clone(), region, documents: None, last: (0, 0) },
            file,
            format,
            rest: None,
            ready: VecDeque::new(),
            notice: None,
            is_ended: false,
        }
    }

    /// Passes what the reader ignores in a file, such as columns that no job needs, to `notice`, line by line.
    #[must_use]
    pub fn with_notices(self, notice: impl FnMut(&str) + Send + 'static) -> Self {
        Self { notice: Some(Box::new(notice)), ..self }
    }

    /// Reads one line, or one object of it, which may make jobs or rejections ready.
    fn step(&mut self) {
        if let Some(at) = self.rest.take() {
            let (number, line) = self.lines.last_line();
            match self.objects.take(number, line, at, &mut self.ready) {
                ControlFlow::Continue(rest) => self.rest = rest,
                ControlFlow::Break(()) => self.is_ended = true,
            }
            return;
        }
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
                self.rows.finish(&mut self.ready);
                if let Some((line, problem)) = self.objects.finish() {
                    self.rows.reject(line, problem, &mut self.ready);
                }
                return;
            }
            Err(error) => {
                let problem = format!("cannot read the file: {error}; later lines were not read");
                self.is_ended = true;
                self.rows.reject(self.lines.number(), problem, &mut self.ready);
                self.rows.finish(&mut self.ready);
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
        if format == Format::Ndjson {
            self.rest = Some(0);
            return;
        }
        self.is_ended = self.rows.take(number, line, &mut self.ready).is_break();
        if let (Some(notice), Some(say)) = (self.rows.take_notice(), &mut self.notice) {
            say(&format!("{}:{number}: {notice}", self.file));
        }
    }
}

/// Reads jobs from lines of JSON, as [`Rows`] does from lines of CSV.
struct Objects {
    file: Arc<str>,
    region: Option<Region>,
    /// Splits a text that is not one job per line; `None` if it is.
    documents: Option<Documents>,
    /// The line on which the last job began, and how many jobs began on it.
    last: (u64, u64),
}

impl Objects {
    /// Takes a line from the byte `at` on until a job ends. Returns where to continue, `None` at the end of the line, or
    /// breaks if the rest of the file cannot be read.
    fn take(
        &mut self,
        number: u64,
        line: Line<'_>,
        at: usize,
        ready: &mut ReadyJobs,
    ) -> ControlFlow<(), Option<usize>> {
        let Line::Bytes(bytes) = line else {
            ready.push_back(self.job(number, Err(job::too_long())));
            return if self.documents.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(None) };
        };
        let is_first = self.last.0 == 0 && self.documents.is_none();
        let mut documents =
            self.documents.take().or_else(|| (is_first && is_spread(bytes)).then(|| Documents::new(JOB_BYTES_MAX)));
        let flow = match documents.as_mut().map(|documents| documents.take(number, bytes, at)) {
            None => {
                ready.push_back(self.job(number, Ok(bytes)));
                ControlFlow::Continue(None)
            }
            Some(LinePart::Value { line, value, next }) => {
                ready.push_back(self.job(line, value));
                ControlFlow::Continue(Some(next))
            }
            Some(LinePart::LineEnd) => ControlFlow::Continue(None),
            Some(LinePart::Malformed(problem)) => {
                ready.push_back(self.job(number, Err(problem)));
                ControlFlow::Break(())
            }
        };
        self.documents = documents;
        flow
    }

    /// Returns what is wrong if the file ends here.
    fn finish(&self) -> Option<(u64, String)> {
        self.documents.as_ref().and_then(Documents::finish)
    }

    /// Parses the job that begins on this line.
    fn job(&mut self, line: u64, value: Result<&[u8], String>) -> Result<JobLine, Rejection> {
        let nth = if self.last.0 == line { self.last.1 + 1 } else { 1 };
        self.last = (line, nth);
        let job_id = if nth == 1 { format!("line-{line}") } else { format!("line-{line}-{nth}") };
        let defaults = Defaults { job_id, region: self.region };
        let read = value.map_err(|problem| job::unreadable(&defaults, problem)).and_then(|value| {
            let explained = |rejection| match Foreign::of(value) {
                Some(foreign) => job::unreadable(&defaults, foreign_jobs(foreign).to_owned()),
                None => rejection,
            };
            job::parse(value, &defaults).map_err(explained)
        });
        let place = Place { file: Arc::clone(&self.file), line };
        match read {
            Ok(job) => Ok(JobLine { place, job }),
            Err(rejection) => Err(rejection.at(place)),
        }
    }
}

/// Returns why a file of another program has no jobs.
const fn foreign_jobs(foreign: Foreign) -> &'static str {
    match foreign {
        Foreign::PackerManifest => {
            "a manifest of Packer, which names images and no accounts (expected jobs; share its images with imageshare share \
             --packer-manifest FILE)"
        }
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

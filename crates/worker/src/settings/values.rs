//! Texts of settings, read and bounded: each error says what was found and what is allowed.

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use imageshare_core::{
    disclosure::{NOT_SHOWN, cannot_be_path, disclosed, disclosed_argument, disclosed_path},
    ids::Region,
    text::excerpt,
};

use super::environment::is_quoted;

/// Requests a second that a lane may be set to. The real limit is far below the upper end; it is there so that a
/// sandbox can be driven hard. None at all would never end.
const RATES: RangeInclusive<f64> = 0.01..=1000.0;

/// Accounts a request: at least one, at most as many as an image may have.
const BATCHES: RangeInclusive<u32> = 1..=500;

/// A rate in requests a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    decimal(text)
        .filter(|rate| RATES.contains(rate))
        .ok_or_else(|| format!("found {}, allowed are 0.01 to 1000 requests a second", disclosed(text)))
}

/// Accounts a request.
pub(super) fn batch(text: &str) -> Result<u32, String> {
    whole(text, BATCHES, "accounts a request")
}

/// A whole number within a range.
pub(super) fn whole(text: &str, range: RangeInclusive<u32>, unit: &str) -> Result<u32, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| is_plain && range.contains(number))
        .ok_or_else(|| format!("found {}, allowed are {} to {} {unit}", disclosed(text), range.start(), range.end()))
}

/// A duration within a range: a number and `ms`, `s`, `m`, `h` or `d`; seconds without one of these. Of a millisecond's
/// parts nothing is kept.
///
/// # Errors
/// If it is no such text or outside the range: what was found and what is allowed.
pub fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let number_len = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let factor = match unit {
        "ms" => Some(0.001),
        "" | "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3_600.0),
        "d" => Some(86_400.0),
        _ => None,
    };
    let seconds = factor.and_then(|factor| Some(decimal(number.trim_end())? * factor));
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // What is in effect is what is shown.
    let duration = duration.map(|duration| Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000));
    duration.filter(|duration| range.contains(duration)).ok_or_else(|| {
        format!(
            "found {}, allowed are {} to {}, written such as 500ms, 30s, 2h, or as a number of seconds",
            disclosed(text),
            shown(*range.start()),
            shown(*range.end())
        )
    })
}

/// A text that is read as `T`, whose error says what was found and what is allowed, and holds nothing of the text.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A region. Whoever typed a wrong one as a flag sees it, as with any argument. In the file or a variable it may be a
/// misplaced secret.
pub(super) fn region(text: &str, is_typed: bool) -> Result<Region, String> {
    let shown = || if is_typed { disclosed_argument(text) } else { disclosed(text) };
    text.parse().map_err(|_| {
        let value =
            if shown() == NOT_SHOWN { ", which is not shown".to_owned() } else { format!(" {}", excerpt(text)) };
        format!("invalid value{value} (expected a region id such as ap-singapore, at most 32 characters)")
    })
}

/// Why a text is no path, without the text: what is set to the contents of a file in place of its path holds a key.
pub(crate) fn path_problem(path: &Path) -> Option<&'static str> {
    if path.as_os_str().is_empty() {
        Some("found that it is set but empty")
    } else if path.to_string_lossy().contains(char::is_control) {
        Some("found a text with line ends or other control characters")
    } else if is_quoted(&path.to_string_lossy()) {
        Some("found a path in quotation marks")
    } else if cannot_be_path(&path.to_string_lossy()) {
        Some("found a text that is an address or a key, or the contents of a file")
    } else {
        None
    }
}

/// A path that a setting names, as it may be shown.
pub(crate) fn shown_path(path: &Path) -> String {
    disclosed_path(&path.to_string_lossy())
}

/// The path of a file that a setting names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) PathBuf);

/// A path, or why the text is none. Another text is not shown: it may be the contents of the file.
pub(super) fn file_path(text: &str, what: &str) -> Result<FilePath, String> {
    let path = PathBuf::from(text);
    let problem = path_problem(&path).map(|problem| format!("{problem}, allowed is the path of {what}"));
    problem.map_or(Ok(FilePath(path)), Err)
}

/// A duration as it may be written.
pub(super) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|&(unit, _)| millis >= unit && millis.is_multiple_of(unit));
    match whole {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A number of digits and at most one point, neither negative nor with an exponent.
fn decimal(text: &str) -> Option<f64> {
    let is_plain =
        text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(text: &str, millis: Option<u64>) {
        let read = duration(text, Duration::ZERO..=Duration::from_secs(86_400));
        assert_eq!(read.ok(), millis.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn durations_are_a_number_and_a_unit_or_seconds() {
        check_duration("30s", Some(30_000));
        check_duration("500ms", Some(500));
        check_duration("2h", Some(7_200_000));
        check_duration("1.5 m", Some(90_000));
        check_duration("1d", Some(86_400_000));
        check_duration("30", Some(30_000));
        check_duration("0", Some(0));
        check_duration("0.25", Some(250));
        check_duration("1.0005", Some(1_000));
        check_duration("0.9ms", Some(0));
        for text in ["", "s", "-1s", "1w", "1 s s", "1e3", "inf", "nan", "2d", "1..2s", "+1s", "999999999999999999999h"]
        {
            check_duration(text, None);
        }
        assert_eq!(
            duration("3d", Duration::from_millis(100)..=Duration::from_secs(60)).unwrap_err(),
            "found \"3d\", allowed are 100ms to 1m, written such as 500ms, 30s, 2h, or as a number of seconds"
        );
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for (millis, text) in [(0, "0s"), (500, "500ms"), (1_500, "1500ms"), (30_000, "30s"), (7_200_000, "2h")] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
            check_duration(text, Some(millis));
        }
    }

    #[test]
    fn rates_and_batches_are_bounded() {
        assert_eq!((rate("10"), rate("0.5"), rate("1000")), (Ok(10.0), Ok(0.5), Ok(1000.0)));
        for text in ["0", "-1", "1001", "inf", "NaN", "", "1e2", "ten"] {
            let found = disclosed(text);
            assert_eq!(rate(text).unwrap_err(), format!("found {found}, allowed are 0.01 to 1000 requests a second"));
        }
        assert_eq!((batch("1"), batch("500")), (Ok(1), Ok(500)));
        for text in ["0", "501", "-1", "+5", "1.0", "", "99999999999"] {
            let found = disclosed(text);
            assert_eq!(batch(text).unwrap_err(), format!("found {found}, allowed are 1 to 500 accounts a request"));
        }
    }

    #[test]
    fn a_value_in_the_wrong_place_is_not_shown() {
        let day = Duration::ZERO..=Duration::from_secs(86_400);
        for text in ["topsecret", "usr:12/topsecret@host", "Gu5t9xGARNpq86cd98joQYCN3topsecret"] {
            for problem in [rate(text).unwrap_err(), batch(text).unwrap_err(), duration(text, day.clone()).unwrap_err()]
            {
                assert!(problem.starts_with("found a value that is not shown, allowed are "), "{problem}");
            }
        }
    }

    #[test]
    fn wrong_region_is_shown_to_whoever_typed_it() {
        let expected = "(expected a region id such as ap-singapore, at most 32 characters)";
        let hidden = format!("invalid value, which is not shown {expected}");
        assert_eq!(region("Singapore", true).unwrap_err(), format!("invalid value \"Singapore\" {expected}"));
        assert_eq!(region("Singapore", false).unwrap_err(), hidden);
        for text in ["usr:topsecret@host", "Gu5t9xGARNpq86cd98joQYCN3topsecret"] {
            assert_eq!(region(text, true).unwrap_err(), hidden);
        }
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        for text in [
            "",
            "amqp://usr:12/topsecret@127.0.0.1",
            "usr:topsecret@127.0.0.1",
            "-----BEGIN PRIVATE KEY-----",
            "{\"secret_key\":\"topsecret\"}",
            "[default]",
            "Gu5t9xGARNpq86cd98joQYCN3topsecret",
            "topsecret\n",
        ] {
            let problem = path_problem(Path::new(text)).unwrap();
            assert!(!problem.contains("topsecret"), "{problem}");
        }
        assert_eq!(path_problem(Path::new("keys")), None);
        assert_eq!(shown_path(Path::new("keys")), "[path not shown]");
        assert_eq!(shown_path(Path::new("./keys")), "./keys");
    }
}

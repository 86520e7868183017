//! Choosing among what the file, the environment and the flags give.

use std::{net::SocketAddr, time::Duration};

use imageshare_core::{
    disclosure::{NAME_NOT_SHOWN, has_key},
    ids::{AccountId, Region},
};

use super::{
    Environment,
    origin::{Given, Origin, Setting},
    values::{self, FilePath, shown_path},
};
use crate::{endpoint::Endpoint, http::Proxy};

/// Chooses among what was given, and collects what is wrong with it.
pub(super) struct Choices<'a> {
    pub(super) environment: &'a Environment,
    pub(super) problems: Vec<String>,
}

impl Choices<'_> {
    /// What a variable and a flag give, in rising order.
    pub(super) fn outside(&mut self, variable: &'static str, flag: &'static str, of_flag: Option<&str>) -> Vec<Given> {
        let of_flag = of_flag.map(|text| Given { text: text.to_owned(), origin: Origin::Flag(flag) });
        self.variable(variable).into_iter().chain(of_flag).collect()
    }

    pub(super) fn variable(&mut self, variable: &'static str) -> Option<Given> {
        match self.environment.text(variable) {
            Ok(text) => text.map(|text| Given { text, origin: Origin::Variable(variable) }),
            Err(problem) => {
                self.problems.push(format!("{variable}: {problem}"));
                None
            }
        }
    }

    /// The last of what was given, else the default. Each has to be allowed, even if another goes before it.
    pub(super) fn choose<T: Shown>(
        &mut self,
        key: String,
        default: T,
        given: Vec<Given>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> (T, Setting) {
        self.choose_any(&key, given, parse).unwrap_or_else(|| {
            let setting = Setting { key, value: default.shown(), origin: Origin::Default };
            (default, setting)
        })
    }

    /// The last of what was given, if anything was.
    pub(super) fn choose_any<T: Shown>(
        &mut self,
        key: &str,
        given: Vec<Given>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(T, Setting)> {
        let mut chosen = None;
        for Given { text, origin } in given {
            match parse(&text) {
                Ok(value) => {
                    let setting = Setting { key: key.to_owned(), value: value.shown(), origin };
                    chosen = Some((value, setting));
                }
                Err(problem) => self.problems.push(format!("{origin}: {problem}")),
            }
        }
        chosen
    }
}

/// How a value stands in a table of settings.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for FilePath {
    fn shown(&self) -> String {
        shown_path(&self.0)
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        values::shown(*self)
    }
}

macro_rules! shown_as_displayed {
    ($($type:ty)*) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_as_displayed!(AccountId f64 u32 SocketAddr Region Endpoint Proxy);

impl Shown for String {
    /// A key passes for a name of any kind.
    fn shown(&self) -> String {
        if has_key(self) { NAME_NOT_SHOWN.to_owned() } else { self.clone() }
    }
}

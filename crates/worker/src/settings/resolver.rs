//! The one place that decides which value of a setting counts: flag, variable, file, default, in this order.

use imageshare_core::{
    disclosure::{NOT_SHOWN, disclosed, disclosed_argument},
    text::excerpt,
};
use toml::Value;

use super::{
    Flags,
    error::{SettingsFault, SettingsProblem},
    file::{FileLines, UnknownKeys, joined},
    setting::{Setting, SettingOrigin, Shown},
    table::Row,
    values::{Invalid, Parser, scalar},
};
use crate::{
    environment::{Environment, VariableError},
    spelling::{did_you_mean, nearest},
};

/// The prefix of our variables.
const PREFIX: &str = "IMAGESHARE_";

/// The variable that names the settings file.
pub(super) const CONFIG: &str = "IMAGESHARE_CONFIG";

/// Resolves settings and collects what is wrong with them.
pub(super) struct SettingsResolver<'a> {
    pub(super) flags: &'a Flags,
    pub(super) environment: &'a Environment,
    pub(super) file: FileLines,
    pub(super) problems: Vec<SettingsProblem>,
    /// All settings that were resolved, for the manual.
    pub(super) rows: Vec<Row>,
}

/// How a setting is given, and what it may be.
pub(super) struct Definition<T> {
    /// The section of the file and the key in it.
    pub(super) path: Vec<String>,
    /// The first one that is set counts.
    pub(super) variables: &'static [&'static str],
    pub(super) flag: Option<&'static str>,
    pub(super) default: T,
    pub(super) parser: Parser<T>,
    pub(super) about: &'static str,
}

impl<'a> SettingsResolver<'a> {
    pub(super) const fn new(flags: &'a Flags, environment: &'a Environment, file: FileLines) -> Self {
        Self { flags, environment, file, problems: Vec::new(), rows: Vec::new() }
    }

    /// Returns the value that takes precedence. The others are not read, so they may be invalid. An invalid value is
    /// recorded, and the default stands in for it.
    pub(super) fn resolve<T: Shown + 'static>(&mut self, definition: Definition<T>, raw: Option<Value>) -> Setting<T> {
        self.rows.push(Row::from(&definition));
        let Definition { path, variables, flag, default, parser, .. } = definition;
        let (given, origin) = if let Some((flag, text)) = flag.and_then(|flag| Some((flag, self.flags.get(flag)?))) {
            (Ok(Value::from(text)), SettingOrigin::Flag(flag))
        } else if let Some((name, text)) = variables.iter().find_map(|name| self.variable(name)) {
            (text.map(Value::String), SettingOrigin::Variable(name))
        } else if let Some(value) = raw {
            (Ok(value), self.file.origin(&path))
        } else {
            return Setting { value: default, origin: SettingOrigin::Default };
        };
        let value = match &given {
            Ok(value) => parser.parse(value),
            Err(unreadable) => Err(Invalid::Because(unreadable.to_string())),
        };
        match value {
            Ok(value) => Setting { value, origin },
            Err(invalid) => {
                let problem = self.problem(&path, origin.clone(), invalid, given.ok().as_ref(), &parser);
                self.report(problem);
                Setting { value: default, origin }
            }
        }
    }

    /// Records a problem; once, if it concerns several lanes.
    pub(super) fn report(&mut self, problem: SettingsProblem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Records a problem of a key of the file, or of a section.
    pub(super) fn refuse(&mut self, path: &[String], fault: impl Into<String>, expected: impl Into<String>) {
        let problem = SettingsProblem::of_key(self.file.origin(path), joined(path), fault.into(), expected);
        self.report(problem);
    }

    /// Records the keys of a section that do not exist. Their values are not shown: a key in the wrong place may have a
    /// secret for its value.
    pub(super) fn refuse_unknown(&mut self, section: &[String], unknown: &UnknownKeys, known: &[&str]) {
        for name in unknown.keys() {
            let path: Vec<String> = section.iter().chain([name]).cloned().collect();
            let problem = SettingsProblem {
                origin: self.file.origin(&path),
                key: Some(joined(&path)),
                fault: SettingsFault::UnknownKey,
                expected: Some(known.join(", ")),
                hint: did_you_mean(name, known.iter().copied()),
            };
            self.report(problem);
        }
    }

    /// Records the `IMAGESHARE_*` variables that belong to no setting, except those that Kubernetes sets in each pod
    /// for services named `imageshare` or `imageshare-SOMETHING`.
    pub(super) fn refuse_unknown_variables(&mut self) {
        let variables = self.rows.iter().flat_map(|row| row.variables).copied();
        let known: Vec<&str> = variables.filter(|name| name.starts_with(PREFIX)).chain([CONFIG]).collect();
        let unknown = self.environment.names(PREFIX).into_iter();
        for name in unknown.filter(|name| !known.contains(&name.as_str()) && !is_service_link(name)) {
            let word = name.trim_start_matches(PREFIX);
            let words = known.iter().map(|name| name.trim_start_matches(PREFIX));
            let problem = SettingsProblem {
                origin: SettingOrigin::Default,
                key: Some(imageshare_core::disclosure::disclosed_name(&name)),
                fault: SettingsFault::UnknownVariable,
                expected: None,
                hint: nearest(word, words).map(|word| format!("did you mean {PREFIX}{word}?")),
            };
            self.report(problem);
        }
    }

    /// Returns the value of a variable, if it is set.
    fn variable<'n>(&self, name: &'n str) -> Option<(&'n str, Result<String, VariableError>)> {
        self.environment.text(name).transpose().map(|text| (name, text))
    }

    fn problem<T>(
        &self,
        path: &[String],
        origin: SettingOrigin,
        invalid: Invalid,
        value: Option<&Value>,
        parser: &Parser<T>,
    ) -> SettingsProblem {
        let (index, invalid) = match invalid {
            Invalid::Element(index, invalid) => (Some(index), *invalid),
            invalid => (None, invalid),
        };
        let value = index.map_or(value, |index| value.and_then(|list| list.get(index)));
        let text = value.and_then(scalar).unwrap_or_default();
        let fault = match invalid {
            Invalid::Value => SettingsFault::InvalidValue(shown(&text, &origin)),
            Invalid::Hidden | Invalid::Element(..) => SettingsFault::InvalidValue(None),
            Invalid::Type(kind) => SettingsFault::InvalidType(kind),
            Invalid::Because(problem) => SettingsFault::Other(problem),
        };
        let mut path = path.to_vec();
        let mut key = joined(&path);
        if let Some(index) = index {
            path.push(index.to_string());
            key.push_str(&format!("[{index}]"));
        }
        let origin = if matches!(origin, SettingOrigin::File { .. }) { self.file.origin(&path) } else { origin };
        let hint = did_you_mean(&text, parser.words.iter().map(String::as_str));
        let hint = hint.or_else(|| parser.hint.map(str::to_owned));
        SettingsProblem { origin, key: Some(key), fault, expected: Some(parser.expected.clone()), hint }
    }
}

/// Returns the value if it may be shown. A plain word in a file or a variable may be a secret in the wrong place, so it
/// is hidden. In a flag it is shown: the user who typed it reads the error, and the process list shows it anyway.
fn shown(text: &str, origin: &SettingOrigin) -> Option<String> {
    let is_shown = match origin {
        SettingOrigin::Flag(_) => disclosed_argument(text) != NOT_SHOWN,
        _ => disclosed(text) != NOT_SHOWN,
    };
    is_shown.then(|| excerpt(text))
}

/// Returns whether Kubernetes or Docker sets a variable of this name for a service: `NAME_SERVICE_HOST`, `NAME_PORT`,
/// `NAME_PORT_80_TCP_ADDR` and the like.
fn is_service_link(name: &str) -> bool {
    let is_of_port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    let after = |part: &str| name.rfind(part).and_then(|at| name.get(at + part.len()..));
    after("_SERVICE_HOST").is_some_and(str::is_empty)
        || after("_SERVICE_PORT").is_some_and(is_of_port)
        || name.find("_PORT").and_then(|at| name.get(at + "_PORT".len()..)).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('_') && rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit())
        })
}

/// Defines the settings of one section: the raw struct that a file is read into, and the struct of resolved settings,
/// which has the same fields.
///
/// Each setting has a description for the manual, a name, a type, a default and a parser, and may have variables and a
/// flag. The names of the parameters after the section are for these expressions.
macro_rules! section {
    (@or $otherwise:expr) => { $otherwise };
    (@or $otherwise:expr, $given:expr) => { $given };
    (
        $(#[$about_section:meta])*
        $resolved:ident from $raw:ident ($($context:ident: $context_type:ty),*) {
            $(
                $(#[doc = $about:literal])+
                $key:ident: $type:ty = $default:expr, $parser:expr
                    $(, variables $variables:expr)? $(, flag $flag:literal)?;
            )*
        }
    ) => {
        #[doc = concat!("The section of [`", stringify!($resolved), "`] as a file has it.")]
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(default, expecting = "a table")]
        pub(super) struct $raw {
            $( pub(super) $key: Option<toml::Value>, )*
            #[serde(flatten)]
            pub(super) unknown: $crate::settings::file::UnknownKeys,
        }

        $(#[$about_section])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub(super) struct $resolved {
            $( pub(super) $key: $crate::settings::setting::Setting<$type>, )*
        }

        impl $resolved {
            const KEYS: &[&str] = &[$( stringify!($key) ),*];

            pub(super) fn resolve(
                raw: $raw,
                section: &[&str],
                resolver: &mut $crate::settings::resolver::SettingsResolver<'_>,
                $($context: $context_type),*
            ) -> Self {
                let section: Vec<String> = section.iter().map(|name| (*name).to_owned()).collect();
                resolver.refuse_unknown(&section, &raw.unknown, Self::KEYS);
                Self {
                    $( $key: resolver.resolve(
                        $crate::settings::resolver::Definition {
                            path: section.iter().cloned().chain([stringify!($key).to_owned()]).collect(),
                            variables: $crate::settings::resolver::section!(@or &[] $(, $variables)?),
                            flag: $crate::settings::resolver::section!(@or None $(, Some($flag))?),
                            default: $default,
                            parser: $parser,
                            about: concat!($($about),+).trim_ascii(),
                        },
                        raw.$key,
                    ), )*
                }
            }
        }
    };
}

pub(super) use section;

//! The parameters that listings share: filters and pages.

use serde_json::Value;

use super::{Parameters, parameters::invalid};
use crate::ledger::Refusal;

const FILTERS_MAX: usize = 10;
const VALUES_MAX: usize = 5;
const LIMIT_DEFAULT: u64 = 20;
const LIMIT_MAX: u64 = 100;

/// A filter: an entry passes if it has one of the values.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: String,
    values: Vec<String>,
}

impl Filter {
    /// Takes the filters of a request. A name that is not known is refused with the code.
    pub(super) fn read(
        from: &mut Parameters,
        is_known: impl Fn(&str) -> bool,
        code: &'static str,
    ) -> Result<Vec<Self>, Refusal> {
        let filters = from.objects("Filters")?;
        if filters.len() > FILTERS_MAX {
            let message =
                format!("The number of `Filters` is {}, which exceeds the limit {FILTERS_MAX}.", filters.len());
            return Err(Refusal::new("InvalidParameterValue.LimitExceeded", message));
        }
        let filter = |mut from: Parameters| {
            let name = from.required_text("Name")?;
            let values = from.texts("Values")?.unwrap_or_default();
            from.finish()?;
            if !is_known(&name) {
                return Err(invalid(code, "Filters.Name", &name, "it is not a filter of this action"));
            }
            if values.len() > VALUES_MAX {
                let message = format!(
                    "The number of `Values` of a filter is {}, which exceeds the limit {VALUES_MAX}.",
                    values.len()
                );
                return Err(Refusal::new("InvalidFilterValue.LimitExceeded", message));
            }
            Ok(Self { name, values })
        };
        filters.into_iter().map(filter).collect()
    }

    pub(super) fn accepts(&self, value: &str) -> bool {
        self.values.iter().any(|accepted| accepted == value)
    }
}

/// The page of a listing that a request selects.
#[derive(Debug)]
pub(super) struct Pagination {
    offset: usize,
    limit: usize,
}

impl Pagination {
    /// Takes `Offset` and `Limit`. A limit outside of 1 to 100 is refused with the code.
    pub(super) fn read(from: &mut Parameters, code: &'static str) -> Result<Self, Refusal> {
        let (offset, limit) = (from.number("Offset")?, from.number("Limit")?);
        Self::new(offset, limit, code)
    }

    /// Takes `Offset` and `Limit` of the VPC product, which are strings.
    pub(super) fn read_texts(from: &mut Parameters, code: &'static str) -> Result<Self, Refusal> {
        let mut number = |name| {
            let text = from.text(name)?;
            let is_invalid = |text: &str| invalid(code, name, text, "expected a whole number");
            text.map(|text| text.parse().map_err(|_| is_invalid(&text))).transpose()
        };
        let (offset, limit) = (number("Offset")?, number("Limit")?);
        Self::new(offset, limit, code)
    }

    fn new(offset: Option<u64>, limit: Option<u64>, code: &'static str) -> Result<Self, Refusal> {
        let (offset, limit) = (offset.unwrap_or_default(), limit.unwrap_or(LIMIT_DEFAULT));
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(invalid(code, "Limit", &limit.to_string(), "expected 1 to 100"));
        }
        Ok(Self {
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    pub(super) fn of(&self, entries: impl Iterator<Item = Value>) -> Vec<Value> {
        entries.skip(self.offset).take(self.limit).collect()
    }
}

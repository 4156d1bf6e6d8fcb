//! What a request's query may say to a scenario: the parameters that its row of the table names, and nothing else.
//!
//! Invariants: what is not in the table is refused, and so is what is given twice; a refusal names the parameter and what would be
//! right, in the words of the table. Text is compared as it was sent: nothing here needs percent-encoding.

use std::fmt;
use std::ops::RangeInclusive;

use super::Scenario;

/// One of a scenario's parameters.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name in the query.
    pub name: &'static str,
    /// What it may be: unit and range.
    pub values: &'static str,
    /// What it is where it is not given.
    pub default: &'static str,
    /// What it is for.
    pub what: &'static str,
}

impl fmt::Display for Parameter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, values, default, what } = self;
        write!(out, "?{name}=  {what}: {values} [{default}]")
    }
}

/// What a query says.
#[derive(Debug)]
pub struct Query<'q> {
    scenario: &'static Scenario,
    given: Vec<(&'static Parameter, &'q str)>,
}

impl<'q> Query<'q> {
    /// Reads what stands behind the `?` of a request for `scenario`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn read(scenario: &'static Scenario, query: Option<&'q str>) -> Result<Self, String> {
        let mut read = Self { scenario, given: Vec::new() };
        for part in query.unwrap_or("").split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let known = scenario.parameters.iter().find(|parameter| parameter.name == name);
            let parameter = known.ok_or_else(|| read.unknown())?;
            if read.get(parameter.name).is_some() {
                return Err(read.wrong(parameter, "is given twice"));
            }
            read.given.push((parameter, value));
        }
        Ok(read)
    }

    fn unknown(&self) -> String {
        let known: Vec<_> = self.scenario.parameters.iter().map(ToString::to_string).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join("; ") };
        format!("scenario {}: the query has a parameter that it does not know: {known}", self.scenario.name)
    }

    fn wrong(&self, parameter: &Parameter, what: &str) -> String {
        format!("scenario {}: {} {what}: {parameter}", self.scenario.name, parameter.name)
    }

    /// What a parameter was given as.
    pub fn get(&self, name: &str) -> Option<&'q str> {
        self.given.iter().find(|(parameter, _)| parameter.name == name).map(|(_, value)| *value)
    }

    /// Reads one with `parse`, if it is given.
    ///
    /// # Errors
    /// It is not what the table says, as `parse` finds.
    ///
    /// # Panics
    /// If the scenario has none of this name.
    pub fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&'q str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let known = self.scenario.parameters.iter().find(|parameter| parameter.name == name);
        let parameter = known.expect("a scenario asks for its own parameters");
        let Some(value) = self.get(name) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| self.wrong(parameter, "is not what it may be"))
    }

    /// Reads a whole number, if it is given.
    ///
    /// # Errors
    /// It is none, or out of `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, String> {
        self.parse(name, |value| number(value, &range))
    }
}

/// A whole number in `range`, in digits.
pub(super) fn number(value: &str, range: &RangeInclusive<u64>) -> Option<u64> {
    let is_digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| is_digits && range.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{SCENARIOS, push};

    fn read(query: &str) -> Result<(Option<u64>, Option<u64>), String> {
        let query = Query::read(&push::ABOUT, Some(query))?;
        Ok((query.number("rate", 1..=1000)?, query.number("bytes", 24..=100)?))
    }

    #[test]
    fn what_is_given_is_read_and_what_is_not_is_not_there() {
        assert_eq!(read(""), Ok((None, None)));
        assert_eq!(read("rate=1000"), Ok((Some(1000), None)));
        assert_eq!(read("&bytes=24&&rate=007&"), Ok((Some(7), Some(24))));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (query, name) in [
            ("rate=0", "rate is not"),
            ("rate=1001", "rate is not"),
            ("rate", "rate is not"),
            ("rate=+1", "rate is not"),
            ("rate=1e3", "rate is not"),
            ("rate=99999999999999999999", "rate is not"),
            ("rate=1&rate=1", "rate is given twice"),
            ("Rate=1", "does not know"),
            ("us=1", "does not know"),
            ("=", "does not know"),
        ] {
            let error = read(query).expect_err(query);
            assert!(error.starts_with("scenario push: ") && error.contains(name), "{query}: {error}");
            assert!(error.contains("?rate="), "{query}: the table is quoted: {error}");
            assert!(error.is_ascii() && !error.contains('\n'), "{error}");
        }
        for scenario in SCENARIOS {
            assert!(Query::read(scenario, Some("no-such=1")).is_err(), "{}", scenario.name);
        }
    }
}

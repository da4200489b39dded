//! Kinds of values: how a setting's text is parsed, written and described.
//!
//! Functions build a [`Kind`]: for numbers, byte sizes, durations, switches, words and lists here, and for single settings,
//! such as log filters and URLs, in `values`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Parsing, writing and describing values of type `T`.
pub struct Kind<T> {
    /// The part that does not depend on `T`.
    pub form: Form,
    /// Parses a text.
    pub parse: Parse<T>,
    /// Returns the value as the settings file has it, or `None` if the file leaves the setting out.
    pub write: Write<T>,
}

/// A parser of values.
pub type Parse<T> = Box<dyn Fn(&str) -> Result<T, Invalid> + Send + Sync>;
/// A writer of values.
pub type Write<T> = Box<dyn Fn(&T) -> Option<toml::Value> + Send + Sync>;

/// The part of a kind that `--help` and the sources use.
pub struct Form {
    /// The placeholder of the value in `--help`.
    pub value_name: String,
    pub arity: Arity,
    /// Whether errors and `--check` mask the value.
    pub is_secret: bool,
    /// The allowed values in a few words; empty where the setting's help is enough.
    pub allowed: String,
}

/// The number of values of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// None, which means `true`, or one.
    Switch,
    /// One.
    One,
    /// Any number, separated by commas or given by repeating the flag.
    Many,
}

/// Why a text is not a value: the rule without its subject, such as "must be 1 to 10 events".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// Wraps the error of a library's parser.
    pub fn because(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

impl From<&str> for Invalid {
    fn from(rule: &str) -> Self {
        Self(rule.to_owned())
    }
}

impl<T: 'static> Kind<T> {
    /// A kind with one value, written as a string.
    pub fn new(
        value_name: &str,
        allowed: impl Into<String>,
        parse: impl Fn(&str) -> Result<T, Invalid> + Send + Sync + 'static,
        write: impl Fn(&T) -> String + Send + Sync + 'static,
    ) -> Self {
        let allowed = allowed.into();
        Self {
            form: Form { value_name: value_name.to_owned(), arity: Arity::One, is_secret: false, allowed },
            parse: Box::new(parse),
            write: Box::new(move |value| Some(write(value).into())),
        }
    }

    /// A kind whose only rule is that a value is one of the allowed ones; errors repeat these, with `examples`.
    fn bounded(
        value_name: &str,
        allowed: String,
        examples: &str,
        parse: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
        write: impl Fn(&T) -> String + Send + Sync + 'static,
    ) -> Self {
        let rule = Invalid(format!("must be {allowed}{examples}"));
        Self::new(value_name, allowed, move |text| parse(text.trim()).ok_or_else(|| rule.clone()), write)
    }

    /// A kind whose values are masked in errors and in `--check`.
    pub fn secret(
        value_name: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, Invalid> + Send + Sync + 'static,
    ) -> Self {
        let mut kind = Self::new(value_name, allowed, parse, |_| "********".to_owned());
        kind.form.is_secret = true;
        kind
    }

    /// Replaces the function that writes values.
    pub fn written(self, write: impl Fn(&T) -> Option<toml::Value> + Send + Sync + 'static) -> Self {
        Self { write: Box::new(write), ..self }
    }

    /// Lets the flag be repeated: the values reach the parser with commas between them.
    pub fn repeatable(mut self) -> Self {
        self.form.arity = Arity::Many;
        self
    }
}

/// A number within a range.
pub fn count<T>(range: RangeInclusive<T>, unit: &'static str) -> Kind<T>
where
    T: FromStr + Display + PartialOrd + Copy + TryInto<i64> + Send + Sync + 'static,
{
    let allowed = format!("{} to {} {unit}", range.start(), range.end());
    let parse = move |text: &str| text.parse().ok().filter(|count| range.contains(count));
    Kind::bounded(&unit.to_uppercase(), allowed, "", parse, T::to_string)
        .written(|&count| count.try_into().ok().map(toml::Value::Integer))
}

/// A number up to `max`, or 0, which is `None`: unlimited.
pub fn limit(max: usize, unit: &'static str) -> Kind<Option<usize>> {
    let allowed = format!("0 (unlimited) to {max} {unit}");
    let parse = move |text: &str| match text.parse().ok()? {
        0 => Some(None),
        limit => (limit <= max).then_some(Some(limit)),
    };
    Kind::bounded(&unit.to_uppercase(), allowed, "", parse, |_| String::new())
        .written(|limit| i64::try_from(limit.unwrap_or(0)).ok().map(toml::Value::Integer))
}

/// A number, or `auto`, which is `None`.
pub fn auto<T: 'static>(count: Kind<T>) -> Kind<Option<T>> {
    let Kind { form, parse, write } = count;
    let form = Form { allowed: format!("{}, or auto", form.allowed), ..form };
    let parse = move |text: &str| match text.trim() {
        "auto" => Ok(None),
        text => parse(text).map(Some).map_err(|Invalid(rule)| Invalid(format!("{rule}, or auto"))),
    };
    let write = move |count: &Option<T>| count.as_ref().map_or_else(|| Some("auto".into()), &write);
    Kind { form, parse: Box::new(parse), write: Box::new(write) }
}

/// A value, or none: the default where nothing is given.
pub fn optional<T: 'static>(kind: Kind<T>) -> Kind<Option<T>> {
    let Kind { form, parse, write } = kind;
    Kind {
        form,
        parse: Box::new(move |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }),
        write: Box::new(move |value| value.as_ref().and_then(&write)),
    }
}

/// Any number of values. None at all is not written.
pub fn list<T: 'static>(item: Kind<T>) -> Kind<Vec<T>> {
    let Kind { form, parse, write } = item;
    let parse = move |text: &str| match text {
        "" => Ok(Vec::new()),
        _ => text.split(',').map(|item| parse(item.trim())).collect(),
    };
    let write = move |items: &Vec<T>| {
        let items: Vec<_> = items.iter().filter_map(&write).collect();
        (!items.is_empty()).then(|| items.into())
    };
    Kind { form, parse: Box::new(parse), write: Box::new(write) }.repeatable()
}

/// Yes or no.
pub fn switch() -> Kind<bool> {
    let parse = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".into()),
    };
    let mut kind = Kind::new("BOOL", "", parse, bool::to_string).written(|&is_on| Some(is_on.into()));
    kind.form.arity = Arity::Switch;
    kind
}

/// One of a few words.
pub fn choice<T: Copy + PartialEq + Sync>(value_name: &str, words: &'static [(&'static str, T)]) -> Kind<T> {
    let allowed = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
    let parse = |text: &str| {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value)
    };
    let word = |value: &T| words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word).to_owned();
    Kind::bounded(value_name, allowed, "", parse, word)
}

/// 1024 bytes.
pub const KIB: usize = 1 << 10;
/// 1024 KiB.
pub const MIB: usize = 1 << 20;
/// 1024 MiB.
pub const GIB: usize = 1 << 30;
/// 1024 GiB.
pub const TIB: usize = 1 << 40;

/// The units of byte sizes, the largest first.
const UNITS: [(&str, usize); 4] = [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];

/// A number of bytes within a range, such as `64KiB`.
pub fn size(range: RangeInclusive<usize>) -> Kind<usize> {
    let allowed = format!("{} to {}", display_size(*range.start()), display_size(*range.end()));
    let examples = ", in bytes or with a unit: 65536, 64KiB, 1MiB, 2GiB";
    let parse = move |text: &str| parse_size(text).filter(|bytes| range.contains(bytes));
    Kind::bounded("BYTES", allowed, examples, parse, |&bytes| display_size(bytes))
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = match unit {
        "" | "B" => 1,
        _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// Formats `bytes` in the largest unit that divides it.
pub fn display_size(bytes: usize) -> String {
    match UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}"),
    }
}

/// A duration within a range, such as `30s`.
pub fn span(range: RangeInclusive<Duration>) -> Kind<Duration> {
    let display = |span: &Duration| humantime::format_duration(*span).to_string();
    let allowed = format!("{} to {}", display(range.start()), display(range.end()));
    let parse = move |text: &str| parse_span(text).ok().filter(|span| range.contains(span));
    Kind::bounded("TIME", allowed, ", in seconds or with a unit: 30, 500ms, 5m, 1h", parse, display)
}

/// Parses a duration: seconds, or numbers with units.
///
/// # Errors
/// When `text` is neither.
pub fn parse_span(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let span = seconds.or_else(|| humantime::parse_duration(text).ok());
    span.ok_or("expected seconds, or a time with a unit: 30, 500ms, 5m, 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid<T>(rule: &str) -> Result<T, Invalid> {
        Err(rule.into())
    }

    #[test]
    fn count_accepts_its_range_only() {
        let count = count(2..=10, "things");
        assert_eq!((count.parse)("2"), Ok(2));
        assert_eq!((count.parse)(" 10 "), Ok(10));
        for text in ["1", "11", "-3", "2.5", "", "two", "99999999999999999999999"] {
            assert_eq!((count.parse)(text), invalid("must be 2 to 10 things"), "{text:?}");
        }
    }

    #[test]
    fn auto_is_none_and_other_values_are_numbers() {
        let kind = auto(count(0..=10, "things"));
        assert_eq!(((kind.parse)("auto"), (kind.parse)("0")), (Ok(None), Ok(Some(0))));
        assert_eq!((kind.parse)("x"), invalid("must be 0 to 10 things, or auto"));
        assert_eq!(((kind.write)(&None), (kind.write)(&Some(7))), (Some("auto".into()), Some(7.into())));
    }

    #[test]
    fn limit_of_zero_is_unlimited() {
        let kind = limit(10, "things");
        assert_eq!(((kind.parse)("0"), (kind.parse)("10")), (Ok(None), Ok(Some(10))));
        assert_eq!((kind.parse)("11"), invalid("must be 0 (unlimited) to 10 things"));
        assert_eq!(((kind.write)(&None), (kind.write)(&Some(7))), (Some(0.into()), Some(7.into())));
    }

    #[test]
    fn switch_accepts_the_usual_words() {
        let parse = switch().parse;
        assert_eq!((parse("TRUE"), parse("0")), (Ok(true), Ok(false)));
        assert_eq!(parse("maybe"), invalid("must be true or false"));
    }

    #[test]
    fn choice_ignores_case() {
        let parse = choice("COLOUR", &[("red", 1), ("green", 2)]).parse;
        assert_eq!(parse("Green"), Ok(2));
        assert_eq!(parse("blue"), invalid("must be red or green"));
    }

    #[test]
    fn size_is_bytes_or_a_number_with_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("65536", 65536), ("1 B", 1), ("64KiB", 65536), ("1 mib", MIB), ("3GiB", 3 * GIB)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn size_in_any_other_form_is_invalid() {
        for text in ["", "KiB", "64k", "64KB", "1.5MiB", "-1", "1 000", "99999999999TiB", "١KiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn displayed_size_parses_to_itself() {
        for bytes in [0, 1, 1023, KIB, KIB + 1, 64 * MIB, TIB, 1536 * KIB] {
            assert_eq!(parse_size(&display_size(bytes)), Some(bytes));
        }
        assert_eq!(display_size(1536 * KIB), "1536KiB");
    }

    #[test]
    fn size_out_of_range_is_invalid_and_the_error_names_the_range() {
        let rule = "must be 4KiB to 16MiB, in bytes or with a unit: 65536, 64KiB, 1MiB, 2GiB";
        assert_eq!((size(4 * KIB..=16 * MIB).parse)("1GiB"), invalid(rule));
    }

    #[test]
    fn span_is_in_seconds_or_has_a_unit() {
        let parse = span(Duration::from_millis(100)..=Duration::from_hours(1)).parse;
        for (text, millis) in
            [("30", 30_000), ("0.5", 500), ("30s", 30_000), ("500ms", 500), ("1h", 3_600_000), ("1m 30s", 90_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let rule = "must be 100ms to 1h, in seconds or with a unit: 30, 500ms, 5m, 1h";
        for text in ["", "s", "-1s", "-1", "0", "3601", "nan", "inf", "99ms", "61m", "half an hour"] {
            assert_eq!(parse(text), invalid(rule), "{text}");
        }
    }

    #[test]
    fn written_span_parses_to_itself() {
        let kind = span(Duration::ZERO..=Duration::from_hours(1));
        for span in [Duration::from_millis(100), Duration::from_secs(90), Duration::from_micros(1_500_001)] {
            let written = (kind.write)(&span).unwrap();
            assert_eq!((kind.parse)(written.as_str().unwrap()), Ok(span));
        }
    }
}

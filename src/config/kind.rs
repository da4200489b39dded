//! What values of a setting look like: a number, one of a few words, a switch, or nothing at all.

/// How many values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// None, for "yes", or one.
    Switch,
    /// One.
    One,
    /// Any number, by repeating the flag or by commas.
    Many,
}

/// A kind of value: its range, its parser, its spelling.
pub trait Kind: Sync {
    /// What the server gets.
    type Value;

    /// How many values a flag of this kind takes.
    const ARITY: Arity = Arity::One;

    /// Whether values are kept from the eyes of whoever reads errors and the output of `--check`.
    const SECRET: bool = false;

    /// Reads `text`.
    ///
    /// # Errors
    /// A sentence without a subject that says which rule `text` breaks and what would be right.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Which values there are, in a few words; empty where the purpose says it all.
    fn allowed(&self) -> String;

    /// How the settings file writes `value`; none where it says nothing for this value.
    fn write(&self, value: &Self::Value) -> Option<toml::Value>;
}

/// A number of things.
#[derive(Debug)]
pub struct Count {
    /// The smallest.
    pub min: usize,
    /// The largest.
    pub max: usize,
    /// What is counted.
    pub unit: &'static str,
}

impl Kind for Count {
    type Value = usize;

    fn parse(&self, text: &str) -> Result<usize, String> {
        let count = text.trim().parse().ok().filter(|count| (self.min..=self.max).contains(count));
        count.ok_or_else(|| format!("must be {}", self.allowed()))
    }

    fn allowed(&self) -> String {
        format!("{} to {} {}", self.min, self.max, self.unit)
    }

    fn write(&self, value: &usize) -> Option<toml::Value> {
        i64::try_from(*value).ok().map(toml::Value::Integer)
    }
}

/// As many as the machine has cores, or a number.
#[derive(Debug)]
pub struct Cores(
    /// The numbers that are allowed.
    pub Count,
);

impl Kind for Cores {
    type Value = usize;

    fn parse(&self, text: &str) -> Result<usize, String> {
        if text.trim() == "auto" {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok(cores.clamp(self.0.min, self.0.max));
        }
        self.0.parse(text).map_err(|complaint| format!("{complaint}, or \"auto\" for one on each core"))
    }

    fn allowed(&self) -> String {
        format!("{}, or auto", self.0.allowed())
    }

    fn write(&self, value: &usize) -> Option<toml::Value> {
        self.0.write(value)
    }
}

/// Yes or no.
#[derive(Debug)]
pub struct Switch;

impl Kind for Switch {
    type Value = bool;

    const ARITY: Arity = Arity::Switch;

    fn parse(&self, text: &str) -> Result<bool, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn allowed(&self) -> String {
        String::new()
    }

    fn write(&self, value: &bool) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*value))
    }
}

/// One of a few words.
#[derive(Debug)]
pub struct Choice<T: 'static>(
    /// The words, and what each stands for.
    pub &'static [(&'static str, T)],
);

impl<T: Copy + PartialEq + Sync> Kind for Choice<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, value)| *value).ok_or_else(|| format!("must be {}", self.allowed()))
    }

    fn allowed(&self) -> String {
        self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ")
    }

    fn write(&self, value: &T) -> Option<toml::Value> {
        self.0.iter().find(|(_, known)| known == value).map(|(word, _)| toml::Value::from(*word))
    }
}

/// A value of another kind, or none.
#[derive(Debug)]
pub struct Optional<K>(
    /// The other kind.
    pub K,
);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    const ARITY: Arity = K::ARITY;
    const SECRET: bool = K::SECRET;

    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        if text.is_empty() { Ok(None) } else { self.0.parse(text).map(Some) }
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn write(&self, value: &Self::Value) -> Option<toml::Value> {
        value.as_ref().and_then(|value| self.0.write(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Count = Count { min: 2, max: 10, unit: "things" };

    #[test]
    fn a_count_takes_its_range_and_nothing_else() {
        assert_eq!(COUNT.parse("2"), Ok(2));
        assert_eq!(COUNT.parse(" 10 "), Ok(10));
        for text in ["1", "11", "-3", "2.5", "", "two", "99999999999999999999999"] {
            assert_eq!(COUNT.parse(text), Err("must be 2 to 10 things".to_owned()), "{text:?}");
        }
    }

    #[test]
    fn auto_is_the_number_of_cores_within_the_range() {
        let cores = Cores(COUNT).parse("auto").unwrap();
        assert!((2..=10).contains(&cores));
        assert_eq!(Cores(COUNT).parse("3"), Ok(3));
        assert_eq!(Cores(COUNT).parse("x"), Err("must be 2 to 10 things, or \"auto\" for one on each core".to_owned()));
    }

    #[test]
    fn a_switch_takes_the_usual_words() {
        assert_eq!(Switch.parse("TRUE"), Ok(true));
        assert_eq!(Switch.parse("0"), Ok(false));
        assert_eq!(Switch.parse("maybe"), Err("must be true or false".to_owned()));
    }

    #[test]
    fn a_choice_takes_its_words_in_any_case() {
        const CHOICE: Choice<u8> = Choice(&[("red", 1), ("green", 2)]);
        assert_eq!(CHOICE.parse("Green"), Ok(2));
        assert_eq!(CHOICE.parse("blue"), Err("must be red or green".to_owned()));
    }
}

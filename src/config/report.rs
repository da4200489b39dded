//! The settings in effect, as `--check` prints them: a settings file that says where each value came from.

use std::fmt;

use fanline::auth::ApiKey;

use super::definition::Setting;
use super::kind::Kind;

/// The settings in effect, in the order of the catalogue.
#[derive(Debug, Default)]
pub struct Report(Vec<Line>);

#[derive(Debug)]
struct Line {
    heading: &'static str,
    /// `key = value`, commented out where reading it back would say something else.
    assignment: String,
    source: String,
}

impl Report {
    /// Adds a setting. This is the one place where a value becomes visible, and so the one that masks secrets.
    pub fn add<K: Kind>(&mut self, setting: &Setting<K>, value: &K::Value, source: &str) {
        let name = setting.about.name;
        let assignment = match setting.kind.write(value) {
            Some(_) if K::SECRET => format!("# {name} = \"********\""),
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} is not set"),
        };
        self.0.push(Line { heading: setting.about.heading, assignment, source: source.to_owned() });
    }
}

impl Report {
    /// Adds the API keys: whose they are.
    pub fn add_keys(&mut self, heading: &'static str, keys: &[ApiKey], source: &str) {
        let names: Vec<_> = keys.iter().map(|key| format!("{:?}", key.name)).collect();
        let assignment = if keys.is_empty() {
            "# keys is not set".to_owned()
        } else {
            format!("# [[keys]] of {}", names.join(", "))
        };
        self.0.push(Line { heading, assignment, source: source.to_owned() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|line| line.assignment.chars().count()).max().unwrap_or(0);
        let mut heading = "";
        for line in &self.0 {
            if line.heading != heading {
                let gap = if heading.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}# {}", line.heading)?;
                heading = line.heading;
            }
            writeln!(f, "{:width$}  # {}", line.assignment, line.source)?;
        }
        Ok(())
    }
}

//! The output of `--check`: the settings in effect as a settings file, with the source of each value.

use std::fmt;

use super::catalog::{self, ACCESS};
use super::settings::Settings;
use super::source::Values;

/// The settings in effect, in the order of the catalog.
#[derive(Debug)]
pub struct Report(Vec<Line>);

#[derive(Debug)]
struct Line {
    heading: &'static str,
    /// `name = value`, or a comment where no value is set or it must not be shown.
    assignment: String,
    source: String,
}

impl Report {
    /// Writes `settings`, and where each of the `given` values is from.
    pub fn new(settings: &Settings, given: &Values) -> Self {
        let mut values = settings.clone();
        let mut lines = Vec::new();
        // The addresses of `listen` include `host` and `port`.
        for setting in catalog::settings().iter().filter(|setting| !["host", "port"].contains(&setting.name)) {
            let name = setting.name;
            let assignment = match (setting.write)(&mut values) {
                Some(mask) if setting.form.is_secret => format!("# {name} = {mask}"),
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} is not set"),
            };
            let mut source = given.source(name).to_string();
            if name == "listen" {
                let parts = [("host", settings.host.is_some()), ("port", settings.port.is_some())];
                for (part, _) in parts.iter().filter(|(_, is_used)| *is_used) {
                    source += &format!("; {part}: {}", given.source(part));
                }
            }
            lines.push(Line { heading: setting.heading, assignment, source });
        }
        let end_of_access = lines.iter().rposition(|line| line.heading == ACCESS).map_or(0, |last| last + 1);
        let names: Vec<_> = settings.access.keys.iter().map(|key| format!("{:?}", key.name)).collect();
        let assignment = match names[..] {
            [] => "# keys is not set".to_owned(),
            _ => format!("# [[keys]] of {}", names.join(", ")),
        };
        lines.insert(end_of_access, Line { heading: ACCESS, assignment, source: given.keys.1.to_string() });
        Self(lines)
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

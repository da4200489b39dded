//! The settings file that `fanline init` writes: every setting as a comment, with its purpose, its values and its default.

use super::catalog;
use super::feature::Feature;
use super::kind::Arity;
use super::setting::Setting;
use super::settings::Settings;

const INTRODUCTION: &str = "\
# Settings of `fanline serve`. Each line shows a default: remove the # in front of it to change it.
#
# A flag or an environment variable overrides this file: the setting max_topics is the flag --max-topics and the
# variable FANLINE_MAX_TOPICS. Sizes are bytes or have one of the units KiB, MiB, GiB and TiB. Durations are seconds or
# have one of the units ms, s, m, h and d.
# Check the file with `fanline serve --config FILE --check`.
";

const KEYS: &str = "
# API keys are tables, which come after all settings: append the output of `fanline key`.
";

/// The width of comments.
const WIDTH: usize = 100;

/// Returns the file. It sets nothing.
pub fn template() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut heading = "";
    for setting in catalog::settings() {
        if setting.heading != heading {
            heading = setting.heading;
            text += &format!("\n# ---- {heading} ----\n");
        }
        text += &entry(setting);
    }
    text + KEYS
}

/// The comments of one setting, and the line that sets its default.
fn entry(setting: &Setting) -> String {
    let mut purpose = setting.help.to_owned();
    if !setting.form.allowed.is_empty() {
        purpose += &format!(" [{}]", setting.form.allowed);
    }
    if setting.is_reloadable {
        purpose += " [reloaded on SIGHUP]";
    }
    if let Some(remark) = setting.feature.and_then(Feature::remark) {
        purpose += &format!(" [{remark}]");
    }
    // An empty text is the value of a setting that is not set.
    let value = (setting.write)(&mut Settings::default()).unwrap_or_else(|| match setting.form.arity {
        Arity::Many => toml::Value::Array(Vec::new()),
        _ => "".into(),
    });
    format!("\n{}#{} = {value}\n", comment(&purpose), setting.name)
}

/// Breaks `text` into lines of a comment.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first line");
        if line.len() + 1 + word.len() > WIDTH {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

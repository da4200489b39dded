//! Secret values of flags, which errors must not show.

use std::ffi::OsStr;
use std::fmt::Display;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// A value parser whose errors give the reason without the value, unlike those of clap.
#[derive(Clone)]
pub struct Hidden<F>(pub F);

impl<T, E, F> TypedValueParser for Hidden<F>
where
    T: Clone + Send + Sync + 'static,
    E: Display,
    F: Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let parsed = match value.to_str() {
            Some(text) => (self.0)(text).map_err(|error| error.to_string()),
            None => Err("not valid UTF-8".to_owned()),
        };
        parsed.map_err(|reason| {
            let flag = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{flag}': {reason}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

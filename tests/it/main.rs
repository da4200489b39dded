//! The integration tests: one binary, a module for each subject.

mod drain;
mod process;
mod resume;
mod settings;
mod stdin;

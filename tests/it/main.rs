//! The integration tests: one binary, a module for each subject.

mod process;
mod resume;
mod settings;
mod stdin;

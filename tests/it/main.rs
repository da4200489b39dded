//! The integration tests: one binary, a module for each subject.

mod crowd;
mod drain;
mod files;
mod process;
mod resume;
mod settings;
mod slow;
mod stdin;
mod tail_publish;

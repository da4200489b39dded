//! The integration tests: one binary, a module for each subject.
//!
//! `support` runs the library's server in this process and shows every byte of an answer; `process` runs the program as
//! its users do: command line, signals, limits, memory.

mod access;
#[cfg(target_os = "linux")]
mod bench;
mod cluster;
mod cors;
mod crowd;
mod curl;
mod demo;
mod drain;
mod files;
mod health;
mod hostile;
mod lag;
mod last_id;
mod layers;
mod limits;
mod openapi;
mod operators;
mod process;
mod prometheus;
mod publishing;
mod refusals;
mod replay;
mod resume;
mod settings;
mod slow;
mod stdin;
mod subscribing;
mod support;
mod systemd;
mod tail_publish;
mod takeover;
mod unacknowledged;

//! The integration tests: one binary with a module per subject.
//!
//! [`support`] runs the library's server in the test process, with clients that see every byte. [`process`] runs the
//! `fanline` program: command line, signals, limits, memory.

mod access;
#[cfg(target_os = "linux")]
mod bench;
mod cluster;
mod commands;
mod compression;
mod cors;
mod curl;
mod demo;
mod documents;
mod drain;
mod embedding;
mod envelope;
mod forwarded;
mod health;
mod history_file;
mod hostile;
mod http2;
mod lag;
mod latest;
mod layers;
mod limits;
mod listeners;
mod many_clients;
mod many_topics;
mod metrics;
mod operators;
mod presence;
mod process;
mod producers;
mod publishing;
mod replay;
mod reqwest;
mod routes;
mod settings;
mod stdin;
mod stream_response;
mod subscribing;
mod support;
mod tail_publish;
mod takeover;
#[cfg(feature = "testing")]
mod testing;
mod tls;
mod users;
mod websocket;

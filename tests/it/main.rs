//! The integration tests: one binary with a module per subject.
//!
//! [`support`] runs the library's server in the test process, with clients that see every byte. [`process`] runs the
//! `fanline` program: command line, signals, limits, memory.

mod access;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(feature = "redis")]
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
mod features;
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
#[cfg(feature = "auth")]
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
#[cfg(feature = "auth")]
mod tls;
#[cfg(feature = "auth")]
mod users;
mod websocket;

//! The built-in publishers: the machine's metrics, alerts over them, the server's log lines, standard input.
//!
//! They use the hub's public API, like any other publisher, and never run on a thread that serves connections: sampling
//! blocks, and standard input has its own thread.
//!
//! | file | noun |
//! |---|---|
//! | `demo` | the loop of `--demo`: sample, publish, sleep |
//! | `machine`, `activity` | a sample of the machine, and of this server |
//! | `metric`, `alert`, `log` | the events of the topics `metric`, `alert` and `log` |
//! | `log_line` | the retained part of a log line |
//! | `stdin`, `feed`, `lines` | standard input: its thread, its events, its lines |
//! | `attempt` | a publication that may fail, and outages |
//! | `status` | the state of a producer for `/health` |
//! | `shutdown` | the signal to stop |
//! | `timestamp` | RFC 3339 |

mod activity;
mod alert;
mod attempt;
pub mod demo;
mod feed;
mod lines;
pub mod log;
mod log_line;
mod machine;
mod metric;
#[cfg(test)]
mod played;
pub mod shutdown;
pub mod status;
pub mod stdin;
mod timestamp;

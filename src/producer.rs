//! The built-in publishers: the machine's metrics, alerts over them, the server's log lines, standard input.
//!
//! They see the hub as any publisher does, through its public face. None of them runs on a thread that serves
//! connections: sampling is blocking work, standard input has a thread of its own.
//!
//! | file | noun |
//! |---|---|
//! | `demo` | the loop of `--demo`: sample, publish, sleep |
//! | `machine`, `activity` | a sample of the machine, and of this server |
//! | `metric`, `alert`, `log` | the events of the topics `metric`, `alert` and `log` |
//! | `log_line` | what is kept of a log line |
//! | `stdin`, `feed`, `lines` | standard input: its thread, its events, its lines |
//! | `attempt` | a publication that may fail, and outages |
//! | `status` | what `/health` says of the producers |
//! | `shutdown` | when to stop |
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

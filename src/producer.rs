//! The built-in publishers: metrics of the machine, alerts over them, the server's log lines, standard input.
//!
//! They publish to the hub like any publisher. None of them blocks a thread that serves connections: sampling uses
//! blocking threads, standard input has its own.
//!
//! | file | content |
//! |---|---|
//! | `demo` | the loop of `--demo`: sample, publish, sleep |
//! | `machine`, `activity` | a sample of the machine, and of this server |
//! | `metric`, `alert`, `log` | the events of the topics `metric`, `alert` and `log` |
//! | `log_line`, `payload` | the JSON of log lines, and what all payloads share |
//! | `stdin`, `feed` | standard input: its thread, and its lines as events |
//! | `outage` | whether publishing fails at present |

mod activity;
mod alert;
pub mod demo;
mod feed;
pub mod log;
mod log_line;
mod machine;
mod metric;
mod outage;
mod payload;
pub mod stdin;
#[cfg(test)]
mod tests {
    pub mod backbone;
}

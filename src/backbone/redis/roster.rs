//! The lists of clients and topics of all servers, exchanged through Redis.
//!
//! Every few seconds each server writes a report of its clients and topics to keys that expire, so that a server that has
//! died disappears from the lists. What a server shows of the others is as old as their last reports.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{cmd, pipe};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Context;
use super::connection::{Connection, Error};
use crate::backbone::{List, ListRequest, LocalLists, RemoteLists};

/// The shortest time between two reports. A server with many clients reports less often: a thousand of them a second.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often to look for the lists before the server has set their source.
const UNSET_INTERVAL: Duration = Duration::from_millis(100);

/// How long the name of a server without reports is kept.
const REMEMBERED: Duration = Duration::from_secs(3600);

pub(super) struct Roster {
    context: Arc<Context>,
    requests: mpsc::UnboundedReceiver<ListRequest>,
    local_lists: Arc<OnceLock<LocalLists>>,
}

impl Roster {
    pub(super) fn new(
        context: Arc<Context>,
        requests: mpsc::UnboundedReceiver<ListRequest>,
        local_lists: Arc<OnceLock<LocalLists>>,
    ) -> Self {
        Self { context, requests, local_lists }
    }

    /// Reports and answers requests until the connection is lost.
    pub(super) async fn serve(&mut self, redis: &mut Connection) -> Result<Infallible, Error> {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => next = Instant::now() + self.report(redis).await?,
                Some(request) = self.requests.recv() => {
                    let lists = self.read(redis, name(request.list)).await?;
                    // The receiver is gone if the HTTP request was cancelled.
                    let _ = request.reply.send(lists);
                }
            }
        }
    }

    /// Writes this server's report. Returns the time until the next one.
    async fn report(&self, redis: &mut Connection) -> Result<Duration, Error> {
        let Some(local_lists) = self.local_lists.get() else { return Ok(UNSET_INTERVAL) };
        let Context { keys, instance, options, .. } = &*self.context;
        let lists = [List::Clients, List::Topics].map(|list| (name(list), local_lists(list)));
        let interval = INTERVAL.max(Duration::from_millis(lists[0].1.len() as u64));
        let lifetime = (interval * 3).as_millis() as u64;
        let mut write = pipe();
        write.cmd("ZADD").arg(&keys.nodes).arg(now().as_secs()).arg(instance).ignore();
        for (list, values) in lists {
            let report = json!({"node": options.node, list: values}).to_string();
            write.cmd("SET").arg(keys.report(list, instance)).arg(report).arg("PX").arg(lifetime).ignore();
        }
        redis.pipeline::<()>(&write, Duration::ZERO).await?;
        Ok(interval)
    }

    /// Reads the reports of the other servers.
    async fn read(&self, redis: &mut Connection, list: &str) -> Result<RemoteLists, Error> {
        let Context { keys, instance: own, .. } = &*self.context;
        let forgotten = now().saturating_sub(REMEMBERED).as_secs();
        let mut names = pipe();
        names.cmd("ZREMRANGEBYSCORE").arg(&keys.nodes).arg("-inf").arg(forgotten).ignore();
        names.cmd("ZRANGE").arg(&keys.nodes).arg(0).arg(-1);
        let (mut instances,): (Vec<String>,) = redis.pipeline(&names, Duration::ZERO).await?;
        instances.retain(|instance| instance != own);
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("MGET");
        for instance in instances {
            get.arg(keys.report(list, &instance));
        }
        let reports: Vec<Option<String>> = redis.query(&get).await?;
        let parse = |report: String| {
            let mut report: Value = serde_json::from_str(&report).ok()?;
            let node = report["node"].as_str()?.to_owned();
            match report[list].take() {
                Value::Array(values) => Some((node, values)),
                _ => None,
            }
        };
        Ok(reports.into_iter().flatten().filter_map(parse).collect())
    }
}

/// The list's name in keys and reports.
fn name(list: List) -> &'static str {
    match list {
        List::Clients => "clients",
        List::Topics => "topics",
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

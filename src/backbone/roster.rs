//! Who is connected to the other servers: each tells all by short-lived keys.
//!
//! A server writes down who is connected to it and which topics it has, every few seconds, under a key that goes by itself:
//! a server that dies is forgotten. What is told of the others is as old as that.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{cmd, pipe};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Lost;
use super::keys::Keys;
use super::{Others, Question, RollCall};

/// How often a server writes; one with a crowd writes less often, so that it describes a thousand clients a second at most.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long a server that has written nothing is remembered by name.
const REMEMBERED: Duration = Duration::from_secs(3600);

pub(super) struct Roster {
    pub(super) questions: mpsc::UnboundedReceiver<Question>,
    pub(super) roll_call: Arc<OnceLock<RollCall>>,
    pub(super) keys: Keys,
    pub(super) instance: String,
    pub(super) node: String,
    pub(super) timeout: Duration,
}

impl Roster {
    /// Writes and answers, for as long as the connection lasts.
    pub(super) async fn serve(&mut self, redis: &mut MultiplexedConnection) -> Result<(), Lost> {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => next = Instant::now() + self.write(redis).await?,
                Some(question) = self.questions.recv() => {
                    if let Some(others) = self.read(redis, question.part.as_str()).await? {
                        question.answer(others);
                    }
                }
            }
        }
    }

    /// Writes down who is here; answers when to do so again.
    async fn write(&self, redis: &mut MultiplexedConnection) -> Result<Duration, Lost> {
        // Nobody serves yet.
        let Some(roll_call) = self.roll_call.get() else { return Ok(Duration::from_millis(100)) };
        let here = roll_call();
        let interval = INTERVAL.max(Duration::from_millis(here.clients.len() as u64));
        let lifetime = (interval * 3).as_millis() as u64;
        let mut write = pipe();
        write.cmd("ZADD").arg(&self.keys.nodes).arg(now().as_secs()).arg(&self.instance).ignore();
        for (part, list) in [("clients", here.clients), ("topics", here.topics)] {
            let text = json!({"node": self.node, part: list}).to_string();
            write.cmd("SET").arg(self.keys.of(part, &self.instance)).arg(text).arg("PX").arg(lifetime).ignore();
        }
        self.limit(write.query_async::<()>(redis)).await?;
        Ok(interval)
    }

    /// What the other servers have written.
    async fn read(&self, redis: &mut MultiplexedConnection, part: &str) -> Result<Option<Others>, Lost> {
        let forgotten = now().saturating_sub(REMEMBERED).as_secs();
        let mut names = pipe();
        names.cmd("ZREMRANGEBYSCORE").arg(&self.keys.nodes).arg("-inf").arg(forgotten).ignore();
        names.cmd("ZRANGE").arg(&self.keys.nodes).arg(0).arg(-1);
        let (instances,): (Vec<String>,) = self.limit(names.query_async(redis)).await?;
        let others: Vec<_> = instances.iter().filter(|&instance| *instance != self.instance).collect();
        if others.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut get = cmd("MGET");
        for instance in others {
            get.arg(self.keys.of(part, instance));
        }
        let texts: Vec<Option<String>> = self.limit(get.query_async(redis)).await?;
        let read = texts.into_iter().flatten().filter_map(|text| {
            let mut written: Value = serde_json::from_str(&text).ok()?;
            let node = written["node"].as_str()?.to_owned();
            match written[part].take() {
                Value::Array(list) => Some((node, list)),
                _ => None,
            }
        });
        Ok(Some(read.collect()))
    }

    async fn limit<T>(&self, command: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Lost> {
        match timeout(self.timeout, command).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(Lost::no_answer(self.timeout)),
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

//! Presence on several servers: leases on the members of topics, which the servers share.
//!
//! **Contract.** A member of a topic joins once and leaves once, whatever the number of servers that it is connected to. Each
//! server renews the leases of its members. A script in Redis publishes a join with the lease that it creates, and a leave with the
//! lease that has expired, so that neither is published twice. The members of a server that has died leave when their leases expire.
//!
//! **After an outage** all leases have expired. So that members do not leave and join again, a session removes no lease until every
//! server has had the time to renew its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::connection::{Connection, Error};
use super::script::NEWEST;
use crate::position::Epoch;
use crate::presence::{Announcement, Members};

/// The number of leases in one call of the script, for which Redis runs no other command.
const BATCH: usize = 256;

/// The longest time between two renewals of a lease, with few members.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many members a server renews in a second, at most.
const PER_SECOND: usize = 5000;

/// Renews leases and publishes joins. Then, if asked, removes expired leases, up to a number, and publishes leaves. Returns the number
/// of leases that were removed, or -1 if the stream is not in the epoch. KEYS: stream, expiry of each lease, topic and data of each
/// lease. ARGV: epoch, number of events to retain, milliseconds of a lease, number of leases to remove; then for each lease its key, the
/// topic and the data of its events.
const RENEW: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 or string.match(newest(), '^%d+') ~= ARGV[1] then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function publish(name, topic, data)
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[1] .. '-*', 't', topic, 'e', name, 'd', data)
end
for i = 5, #ARGV, 3 do
  if redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1] .. '\n' .. ARGV[i + 2])
    publish('join', ARGV[i + 1], ARGV[i + 2])
  end
end
if ARGV[4] == '0' then return 0 end
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[4])
for _, key in ipairs(expired) do
  local topic, data = string.match(redis.call('HGET', KEYS[3], key) or '', '^([^\n]+)\n(.*)$')
  if topic then publish('leave', topic, data) end
  redis.call('ZREM', KEYS[2], key)
  redis.call('HDEL', KEYS[3], key)
end
return #expired
";

pub(super) struct Leases {
    context: Arc<Context>,
    members: watch::Receiver<Option<Arc<Members>>>,
}

/// The times of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// Between two renewals.
    interval: Duration,
    /// Of a lease: a member without a connection leaves between the grace and this.
    lease: Duration,
}

impl Times {
    fn of(grace: Duration, members: usize) -> Self {
        let interval = (grace / 2).min(INTERVAL).max(Duration::from_secs_f64(members as f64 / PER_SECOND as f64));
        // One renewal may be late.
        Self { interval, lease: grace + 2 * interval }
    }
}

impl Leases {
    pub(super) fn new(context: Arc<Context>, members: watch::Receiver<Option<Arc<Members>>>) -> Self {
        Self { context, members }
    }

    /// Renews leases until the connection is lost. Waits while the server has no presence.
    pub(super) async fn serve(
        &mut self,
        redis: &mut Connection,
        epoch: &watch::Receiver<Epoch>,
    ) -> Result<Infallible, Error> {
        let Ok(Some(members)) = self.members.wait_for(Option::is_some).await.map(|members| members.clone()) else {
            return std::future::pending().await;
        };
        let began = Instant::now();
        loop {
            // Before the list: a member that joins after it notifies again. Those that have left are forgotten.
            members.due(std::time::Instant::now());
            let present = members.present();
            let times = Times::of(members.options.grace, present.len());
            let next = Instant::now() + times.interval;
            let may_remove = began.elapsed() > times.lease;
            self.renew(redis, epoch, &present, times, may_remove).await?;
            while timeout_at(next, members.joined()).await.is_ok() {
                let joins = members.due(std::time::Instant::now()).joins;
                self.renew(redis, epoch, &joins, times, false).await?;
            }
        }
    }

    async fn renew(
        &self,
        redis: &mut Connection,
        epoch: &watch::Receiver<Epoch>,
        members: &[Announcement],
        times: Times,
        may_remove: bool,
    ) -> Result<(), Error> {
        for members in members.chunks(BATCH) {
            let _: i64 = redis.query(&self.command(*epoch.borrow(), members, times, 0)).await?;
        }
        let mut has_more = may_remove;
        while has_more {
            let removed: i64 = redis.query(&self.command(*epoch.borrow(), &[], times, BATCH)).await?;
            has_more = removed == BATCH as i64;
        }
        Ok(())
    }

    fn command(&self, epoch: Epoch, members: &[Announcement], times: Times, limit: usize) -> Cmd {
        let Context { keys, options, .. } = &*self.context;
        let mut evaluate = cmd("EVAL");
        evaluate.arg(format!("{NEWEST}{RENEW}")).arg(3).arg(&keys.stream).arg(&keys.leases).arg(&keys.members);
        evaluate.arg(epoch.0).arg(options.history).arg(times.lease.as_millis() as u64).arg(limit);
        for Announcement { key, topic, data } in members {
            evaluate.arg(&**key).arg(topic.as_str()).arg(&**data);
        }
        evaluate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_outlasts_the_grace_by_two_renewals() {
        let seconds = |interval: f64, lease: f64| Times {
            interval: Duration::from_secs_f64(interval),
            lease: Duration::from_secs_f64(lease),
        };
        assert_eq!(Times::of(Duration::from_secs(10), 0), seconds(2.0, 14.0));
        assert_eq!(Times::of(Duration::from_secs(1), 100), seconds(0.5, 2.0));
        assert_eq!(Times::of(Duration::from_secs(10), 50_000), seconds(10.0, 30.0), "10 s for many members");
    }
}

//! What Redis does in one step. Each script is atomic: no other command comes in between.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, ServerErrorKind, cmd};

use super::entry;
use crate::event::Event;
use crate::position::{Epoch, StreamPosition};

/// Makes the stream if there is none, with the mark of its first epoch; answers the newest position and the oldest that is
/// kept. KEYS: stream. ARGV: epoch of a new stream, who makes it.
const OPEN: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XADD', KEYS[1], ARGV[1] .. '-0', 'fanline', ARGV[2])
end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last, first
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
  if info[i] == 'first-entry' and info[i + 1] then first = info[i + 1][1] end
end
return {last, first or last}
";

/// Begins a new epoch, unless something has happened to the stream since it was looked at. KEYS: stream. ARGV: newest
/// position then, new epoch, who begins it.
const BEGIN: &str = r"
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' and info[i + 1] ~= ARGV[1] then return 0 end
end
redis.call('XADD', KEYS[1], ARGV[2] .. '-0', 'fanline', ARGV[3])
return 1
";

/// Publishes a batch, once however often it is sent. KEYS: stream, this server's last batch. ARGV: epoch, retained
/// events, number of the batch, then four for each event.
///
/// The number comes first: a batch whose answer was lost is sent again, and one that was held up on its way may come even
/// after that. Then the epoch: `<epoch>-*` would be given a place in a stream that is not the one that readers follow.
const PUBLISH: &str = r"
local known = redis.call('GET', KEYS[2])
if known then
  local number, epoch, first = string.match(known, '^(%d+) (%d+) (%d+)$')
  if tonumber(number) == tonumber(ARGV[3]) then return {'ok', epoch, first} end
  if tonumber(number) > tonumber(ARGV[3]) then return {'stale', '0', '0'} end
end
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info['err'] then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone', '0', '0'} end
  return info
end
local epoch, newest
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then epoch, newest = string.match(info[i + 1], '^(%d+)-(%d+)$') end
end
if epoch ~= ARGV[1] then return {'epoch', epoch, newest} end
local id = ARGV[1] .. '-*'
local first
for i = 4, #ARGV, 4 do
  local given
  if ARGV[i + 1] == '' then
    given = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 't', ARGV[i], ARGV[i + 2], ARGV[i + 3])
  else
    given = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 't', ARGV[i], 'e', ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  end
  first = first or string.match(given, '%-(%d+)$')
end
redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. epoch .. ' ' .. first, 'PX', 3600000)
return {'ok', epoch, first}
";

/// The digest of [`PUBLISH`] as a server gave it.
#[derive(Clone)]
pub(super) struct Publisher {
    digest: String,
}

/// A batch as the script wants it.
pub(super) struct Batch<'a> {
    pub(super) stream: &'a str,
    pub(super) last_batch: &'a str,
    pub(super) epoch: Epoch,
    pub(super) retained: usize,
    pub(super) number: u64,
    pub(super) events: &'a [Event],
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It stands in the stream, from this position on.
    Published(StreamPosition),
    /// Nothing was published: the stream is gone, or in another epoch.
    Elsewhere,
    /// A later batch was published before it: it was given up.
    Stale,
}

/// The newest position of the stream and the oldest that it keeps; the stream is there now.
pub(super) async fn open(
    redis: &mut MultiplexedConnection,
    stream: &str,
    epoch: Epoch,
    who: &str,
) -> RedisResult<(StreamPosition, StreamPosition)> {
    let reply = cmd("EVAL").arg(OPEN).arg(1).arg(stream).arg(epoch.0).arg(who).query_async(redis).await?;
    let (last, first): (String, String) = reply;
    match (entry::position(&last), entry::position(&first)) {
        (Some(last), Some(first)) => Ok((last, first)),
        _ => Err((ErrorKind::UnexpectedReturnType, "ids of the stream", format!("{last} {first}")).into()),
    }
}

/// Begins `epoch` if the stream's newest position is `seen` still.
pub(super) async fn begin(
    redis: &mut MultiplexedConnection,
    stream: &str,
    seen: StreamPosition,
    epoch: Epoch,
    who: &str,
) -> RedisResult<bool> {
    let seen = seen.to_string();
    cmd("EVAL").arg(BEGIN).arg(1).arg(stream).arg(seen).arg(epoch.0).arg(who).query_async(redis).await
}

/// How many replicas have what was written on this connection: waits until `replicas` of them do, or the time is over.
pub(super) async fn wait(redis: &mut MultiplexedConnection, replicas: u32, milliseconds: u64) -> RedisResult<u32> {
    cmd("WAIT").arg(replicas).arg(milliseconds).query_async(redis).await
}

impl Publisher {
    pub(super) async fn load(redis: &mut MultiplexedConnection) -> RedisResult<Self> {
        let digest = cmd("SCRIPT").arg("LOAD").arg(PUBLISH).query_async(redis).await?;
        Ok(Self { digest })
    }

    pub(super) async fn publish(
        &mut self,
        redis: &mut MultiplexedConnection,
        batch: &Batch<'_>,
    ) -> RedisResult<Outcome> {
        match self.try_publish(redis, batch).await {
            // Somebody flushed the scripts; nothing was done.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                *self = Self::load(redis).await?;
                self.try_publish(redis, batch).await
            }
            outcome => outcome,
        }
    }

    async fn try_publish(&self, redis: &mut MultiplexedConnection, batch: &Batch<'_>) -> RedisResult<Outcome> {
        let mut evaluate = cmd("EVALSHA");
        evaluate.arg(&self.digest).arg(2).arg(batch.stream).arg(batch.last_batch);
        evaluate.arg(batch.epoch.0).arg(batch.retained).arg(batch.number);
        for event in batch.events {
            for argument in entry::arguments(event) {
                evaluate.arg(argument);
            }
        }
        let (word, epoch, first): (String, String, String) = evaluate.query_async(redis).await?;
        let number = |text: &str| text.parse::<u64>().ok();
        match (&*word, number(&epoch), number(&first)) {
            ("ok", Some(epoch), Some(first)) => Ok(Outcome::Published(StreamPosition::new(Epoch(epoch), first))),
            ("stale", ..) => Ok(Outcome::Stale),
            ("gone" | "epoch", ..) => Ok(Outcome::Elsewhere),
            _ => Err((ErrorKind::UnexpectedReturnType, "answer of the publishing script", word).into()),
        }
    }
}

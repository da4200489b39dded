//! What Redis does in one step. Each script is atomic: no other command comes in between.

use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, cmd};

use super::entry;
use super::keys::Keys;
use crate::event::Event;
use crate::position::{Epoch, StreamPosition};

/// The identity of the Redis process and of its data: the run id changes when the process starts, the replication id when
/// a replica is promoted. Both are stored with the stream as its `owner`, and so go back together with it.
///
/// The replication id also changes when the first replica attaches, and an hour after the last one left. The second
/// replication id is zero then, and only then: that is the same data of the same process.
const OWNER: &str = r"
local replication = redis.call('INFO', 'replication')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
local owner = run .. ' ' .. (string.match(replication, 'master_replid:(%w+)') or '-')
local known = redis.call('HGET', KEYS[2], 'owner') or ''
local function newest()
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
";

/// Looks at the stream and at whether this Redis still has all that was written to it. Returns the state, the owner that
/// is stored, and the newest position. KEYS: stream, metadata.
const LOOK: &str = r"
if string.match(replication, 'role:(%w+)') ~= 'master' then return {'replica', '', ''} end
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone', known, ''} end
if known ~= owner and known ~= '' and string.match(known, '^%S+') == run
    and string.match(replication, 'master_replid2:0+[^%w]') then
  redis.call('HSET', KEYS[2], 'owner', owner)
  known = owner
end
return {known == owner and 'same' or 'changed', known, newest()}
";

/// Begins an epoch with a mark and stores the owner, unless something has happened since the stream was looked at. Without
/// an epoch only the owner is stored. KEYS: stream, metadata. ARGV: newest position then (empty when there was no stream),
/// owner then, the epoch or nothing, the server that begins it.
const BEGIN: &str = r"
local last = ''
if redis.call('EXISTS', KEYS[1]) == 1 then last = newest() end
if last ~= ARGV[1] or known ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' then redis.call('XADD', KEYS[1], ARGV[3] .. '-0', 'fanline', ARGV[4]) end
redis.call('HSET', KEYS[2], 'owner', owner)
return 1
";

/// Returns the newest position, the first entry of its epoch that is retained, and whether that one is a mark. Empty texts
/// when there is no stream. KEYS: stream.
const EXTENT: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return {'', '', ''} end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
local first = redis.call('XRANGE', KEYS[1], string.match(last, '^%d+'), '+', 'COUNT', 1)[1]
if not first then return {last, '', ''} end
return {last, first[1], first[2][1] == 'fanline' and 'mark' or 'event'}
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
    /// It is not in the stream, which is gone.
    Gone,
    /// It is not in the stream, which is in another epoch.
    OtherEpoch,
    /// A later batch was published before it: it was given up.
    Stale,
}

/// The stream as [`look`] found it.
pub(super) struct Look {
    pub(super) state: State,
    /// The owner that is stored.
    owner: String,
    /// The newest position, as Redis spells it; empty when there is no stream.
    newest: String,
}

/// What [`look`] says of the stream and of this Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// This Redis takes no writes.
    Replica,
    /// There is no stream.
    Gone,
    /// The stream is in the process that it was written to.
    Same(StreamPosition),
    /// The stream was loaded by another process, or copied by a replica: its end may be missing.
    Changed(StreamPosition),
}

impl State {
    /// The stream's newest position, if there is a stream.
    pub(super) fn newest(self) -> Option<StreamPosition> {
        match self {
            Self::Same(newest) | Self::Changed(newest) => Some(newest),
            Self::Replica | Self::Gone => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica => f.write_str("this Redis became a replica"),
            Self::Gone => f.write_str("it is gone"),
            Self::Same(last) => write!(f, "it ends at {last}"),
            Self::Changed(_) => f.write_str("this Redis became another one"),
        }
    }
}

/// How far the stream reaches: its newest position, and the position before the oldest event of the same epoch. None when
/// there is no stream.
pub(super) async fn extent(
    redis: &mut MultiplexedConnection,
    stream: &str,
) -> RedisResult<Option<(StreamPosition, StreamPosition)>> {
    let (last, first, kind): (String, String, String) =
        cmd("EVAL").arg(EXTENT).arg(1).arg(stream).query_async(redis).await?;
    if last.is_empty() {
        return Ok(None);
    }
    let newest = position(&last)?;
    if first.is_empty() {
        return Ok(Some((newest, newest)));
    }
    let first = position(&first)?;
    let before = if kind == "mark" { first.sequence } else { first.sequence.saturating_sub(1) };
    Ok(Some((newest, StreamPosition::new(first.epoch, before))))
}

/// Looks at the stream.
pub(super) async fn look(redis: &mut MultiplexedConnection, keys: &Keys) -> RedisResult<Look> {
    let script = format!("{OWNER}{LOOK}");
    let reply = cmd("EVAL").arg(script).arg(2).arg(&keys.stream).arg(&keys.metadata).query_async(redis).await?;
    let (word, owner, newest): (String, String, String) = reply;
    let state = match word.as_str() {
        "replica" => State::Replica,
        "gone" => State::Gone,
        "same" => State::Same(position(&newest)?),
        _ => State::Changed(position(&newest)?),
    };
    Ok(Look { state, owner, newest })
}

/// Makes this Redis the stream's owner, and begins `epoch`, if there is to be one.
/// Returns false, and does nothing, when the stream is not as `seen` any more.
pub(super) async fn begin(
    redis: &mut MultiplexedConnection,
    keys: &Keys,
    seen: &Look,
    epoch: Option<Epoch>,
    maker: &str,
) -> RedisResult<bool> {
    let mut evaluate = cmd("EVAL");
    evaluate.arg(format!("{OWNER}{BEGIN}")).arg(2).arg(&keys.stream).arg(&keys.metadata);
    evaluate
        .arg(&seen.newest)
        .arg(&seen.owner)
        .arg(epoch.map_or(String::new(), |epoch| epoch.0.to_string()))
        .arg(maker);
    evaluate.query_async(redis).await
}

/// How many replicas have all that was written before: waits until `replicas` of them do, or the time is over.
///
/// `WAIT` counts from the last write of its own connection, so there is one, to `key`.
pub(super) async fn wait(
    redis: &mut MultiplexedConnection,
    key: &str,
    replicas: u32,
    milliseconds: u64,
) -> RedisResult<u32> {
    let mut wait = redis::pipe();
    wait.cmd("SET").arg(key).arg("").arg("PX").arg(60_000).ignore();
    wait.cmd("WAIT").arg(replicas).arg(milliseconds);
    let (count,): (u32,) = wait.query_async(redis).await?;
    Ok(count)
}

fn position(id: &str) -> RedisResult<StreamPosition> {
    entry::position(id)
        .ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "ids of the stream", id.to_owned())))
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
            // The scripts were flushed; nothing was done.
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
            ("gone", ..) => Ok(Outcome::Gone),
            ("epoch", ..) => Ok(Outcome::OtherEpoch),
            _ => Err((ErrorKind::UnexpectedReturnType, "answer of the publishing script", word).into()),
        }
    }
}

//! The Lua scripts, and what they return. Each script is atomic: Redis runs no other command in between.

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, cmd};

use super::connection::{Connection, Error};
use super::entry;
use super::{Context, hex};
use crate::event::Event;
use crate::hub::{IdempotencyKey, Published};
use crate::position::{Epoch, StreamPosition};

/// Returns the newest position of the stream. KEYS: stream.
pub(super) const NEWEST: &str = r"
local function newest()
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
";

/// The identity of the Redis process and of its data. The run id changes when the process starts, the replication id when
/// a replica is promoted. Both are stored with the stream as its `owner`: a Redis that has loaded or copied the stream
/// differs from the stored owner.
///
/// The replication id also changes when the first replica attaches, and an hour after the last one left. In these cases,
/// and only in these, the second replication id is zero: the process and its data are still the same.
const OWNER: &str = r"
local replication = redis.call('INFO', 'replication')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
local owner = run .. ' ' .. (string.match(replication, 'master_replid:(%w+)') or '-')
local known = redis.call('HGET', KEYS[2], 'owner') or ''
";

/// Checks whether this Redis is still the one that the stream was written to. Returns the state, the stored owner, and the
/// newest position. KEYS: stream, metadata.
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

/// Begins an epoch with a mark and stores the owner, unless the stream has changed since [`LOOK`]. Without an epoch, only
/// stores the owner. KEYS: stream, metadata. ARGV: newest position at the look (empty without a stream), owner at the
/// look, the epoch or an empty string, the server that begins it.
const BEGIN: &str = r"
local last = ''
if redis.call('EXISTS', KEYS[1]) == 1 then last = newest() end
if last ~= ARGV[1] or known ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' then redis.call('XADD', KEYS[1], ARGV[3] .. '-0', 'fanline', ARGV[4]) end
redis.call('HSET', KEYS[2], 'owner', owner)
return 1
";

/// Returns the newest position, the first retained entry of its epoch, and whether that entry is a mark or an event. Returns
/// empty strings without a stream. KEYS: stream.
const EXTENT: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return {'', '', ''} end
local last = newest()
local first = redis.call('XRANGE', KEYS[1], string.match(last, '^%d+'), '+', 'COUNT', 1)[1]
if not first then return {last, '', ''} end
return {last, first[1], first[2][1] == 'fanline' and 'mark' or 'event'}
";

/// Publishes a batch once, however often it is sent. KEYS: stream, this server's last batch, the latest values, then a key for each part of the
/// batch that has an idempotency key. ARGV: epoch, number of events to retain, number of the batch, milliseconds that an
/// idempotency key is remembered; then for each part the number of its events and a digest of them (empty without an
/// idempotency key), and the [arguments](entry::arguments) of each event.
///
/// The result of a part with an idempotency key is `new`, `reused`, or the first and the last position of the events that an
/// earlier publication with that key has published.
///
/// The number is checked first: a batch whose answer was lost is sent again, and a batch that was delayed on its way may
/// arrive even after its successor. Then the epoch is checked: in a stream of another epoch, which readers do not follow,
/// `<epoch>-*` could still be a valid id.
const PUBLISH: &str = r"
local known = redis.call('GET', KEYS[2])
if known then
  local number, epoch, first, results = string.match(known, '^(%d+) (%d+) (%d+) (.*)$')
  if tonumber(number) == tonumber(ARGV[3]) then return {'ok', epoch, first, results} end
  if tonumber(number) > tonumber(ARGV[3]) then return {'stale', '0', '0', ''} end
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone', '0', '0', ''} end
local epoch = string.match(newest(), '^%d+')
if epoch ~= ARGV[1] then return {'epoch', epoch, '0', ''} end
local id = ARGV[1] .. '-*'
local function add_keyed(i)
  local topic, name, key, deletion, kind, payload = unpack(ARGV, i, i + 5)
  local fields = {'t', topic}
  for field, value in pairs({e = name, k = key, r = deletion}) do
    if value ~= '' then
      table.insert(fields, field)
      table.insert(fields, value)
    end
  end
  table.insert(fields, kind)
  table.insert(fields, payload)
  local given = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, unpack(fields))
  local value = topic .. '\n' .. key
  if key ~= '' and deletion ~= '' then
    redis.call('HDEL', KEYS[3], value)
  elseif key ~= '' then
    redis.call('HSET', KEYS[3], value, given .. '\n' .. (name ~= '' and name or 'data') .. '\n' .. kind .. '\n' .. payload)
  end
  return given
end
local function add(i)
  local given
  if ARGV[i + 2] ~= '' or ARGV[i + 3] ~= '' then
    given = add_keyed(i)
  elseif ARGV[i + 1] == '' then
    given = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 't', ARGV[i], ARGV[i + 4], ARGV[i + 5])
  else
    given = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 't', ARGV[i], 'e', ARGV[i + 1], ARGV[i + 4], ARGV[i + 5])
  end
  return string.match(given, '%-(%d+)$')
end
local first, results, part = '0', {}, 5
while part <= #ARGV do
  local digest, from, to = ARGV[part + 1], part + 2, part + 2 + 6 * ARGV[part]
  local key = digest ~= '' and KEYS[#results + 4]
  local used = key and redis.call('GET', key)
  if used then
    local content, positions = string.match(used, '^(%S+) (.+)$')
    table.insert(results, content == digest and positions or 'reused')
  else
    local oldest, latest
    for i = from, to - 1, 6 do
      latest = add(i)
      oldest = oldest or latest
    end
    if first == '0' then first = oldest end
    if key then
      local positions = epoch .. '-' .. oldest .. ' ' .. epoch .. '-' .. latest
      redis.call('SET', key, digest .. ' ' .. positions, 'PX', ARGV[4])
      table.insert(results, 'new')
    end
  end
  part = to
end
local all = table.concat(results, ',')
redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. epoch .. ' ' .. first .. ' ' .. all, 'PX', 3600000)
return {'ok', epoch, first, all}
";

/// The result of sending a batch, as Redis answered it.
pub(super) enum Outcome {
    /// The batch is in the stream. Its new events have consecutive positions from this one on. The parts with an idempotency
    /// key have a result each, in order.
    Published(StreamPosition, Vec<PartResult>),
    /// Not published: there is no stream.
    Gone,
    /// Not published: the stream is in another epoch.
    OtherEpoch,
    /// Not published now: a later batch was published before. An earlier send of this batch may have been published.
    Stale,
    /// Not published: Redis answered with an error.
    Refused(RedisError),
}

/// What became of a part of a batch that has an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartResult {
    New,
    /// An earlier publication with the key has published the events.
    Repeat(Published),
    /// The key was used for other events.
    Reused,
}

impl PartResult {
    fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "new" => Ok(Self::New),
            "reused" => Ok(Self::Reused),
            positions => {
                let (first, last) = positions.split_once(' ').unwrap_or((positions, positions));
                Ok(Self::Repeat(Published { first: entry::position(first)?, last: entry::position(last)? }))
            }
        }
    }
}

/// Consecutive events of a batch: those of one publication with an idempotency key, or those of any number without.
pub(super) struct Part<'a> {
    pub(super) events: usize,
    pub(super) key: Option<&'a IdempotencyKey>,
}

/// The stream as [`look`] found it.
pub(super) struct Look {
    pub(super) state: State,
    /// The stored owner.
    owner: String,
    /// The newest position as a string, empty without a stream.
    newest: String,
}

/// The state of the stream and of this Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// This Redis is a replica and takes no writes.
    Replica,
    /// There is no stream.
    Gone,
    /// The stream is in the process that it was written to.
    Same(StreamPosition),
    /// Another process loaded the stream, or a replica copied it: its last entries may be missing.
    Changed(StreamPosition),
}

/// What the stream retains of its current epoch.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// The position before the oldest retained event.
    pub(super) before_oldest: StreamPosition,
    pub(super) newest: StreamPosition,
}

/// Returns what the stream retains.
pub(super) async fn extent(redis: &mut Connection, context: &Context) -> Result<Extent, Error> {
    let script = format!("{NEWEST}{EXTENT}");
    let (newest, first, kind): (String, String, String) =
        redis.query(cmd("EVAL").arg(script).arg(1).arg(&context.keys.stream)).await?;
    if newest.is_empty() {
        return Err(Error::unavailable("the stream is gone"));
    }
    let newest = entry::position(&newest)?;
    let mut before_oldest = if first.is_empty() { newest } else { entry::position(&first)? };
    if kind == "event" {
        before_oldest.sequence = before_oldest.sequence.saturating_sub(1);
    }
    Ok(Extent { before_oldest, newest })
}

/// Finds the state of the stream.
pub(super) async fn look(redis: &mut Connection, context: &Context) -> Result<Look, Error> {
    let (state, owner, newest): (String, String, String) = redis.query(&with_owner(LOOK, context)).await?;
    let state = match state.as_str() {
        "replica" => State::Replica,
        "gone" => State::Gone,
        "same" => State::Same(entry::position(&newest)?),
        _ => State::Changed(entry::position(&newest)?),
    };
    Ok(Look { state, owner, newest })
}

/// Makes this Redis the stream's owner, and begins `epoch` if there is one. Returns false, and changes nothing, if the
/// stream is no longer as `seen`.
pub(super) async fn begin(
    redis: &mut Connection,
    context: &Context,
    seen: &Look,
    epoch: Option<Epoch>,
) -> Result<bool, Error> {
    let epoch = epoch.map_or(String::new(), |epoch| epoch.0.to_string());
    let mut evaluate = with_owner(BEGIN, context);
    redis.query(evaluate.arg(&seen.newest).arg(&seen.owner).arg(epoch).arg(&context.instance)).await
}

fn with_owner(script: &str, Context { keys, .. }: &Context) -> Cmd {
    let mut evaluate = cmd("EVAL");
    evaluate.arg(format!("{NEWEST}{OWNER}{script}")).arg(2).arg(&keys.stream).arg(&keys.metadata);
    evaluate
}

/// Publishes batches with [`PUBLISH`], which Redis knows by its digest.
pub(super) struct Publisher {
    pub(super) redis: Connection,
    digest: String,
}

impl Publisher {
    pub(super) async fn load(mut redis: Connection) -> Result<Self, Error> {
        let digest = load(&mut redis).await?;
        Ok(Self { redis, digest })
    }

    /// Sends the batch `number`.
    ///
    /// # Errors
    /// Redis has not answered: it is unknown whether the batch is published.
    pub(super) async fn publish(
        &mut self,
        context: &Context,
        epoch: Epoch,
        number: u64,
        events: &[Event],
        parts: &[Part<'_>],
    ) -> Result<Outcome, Error> {
        let evaluate = self.command(context, epoch, number, events, parts);
        let mut answer = self.redis.try_query(&evaluate).await?;
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            // The scripts were flushed, and nothing was published. A script's digest is always the same.
            load(&mut self.redis).await?;
            answer = self.redis.try_query(&evaluate).await?;
        }
        let (word, epoch, first, results): (String, String, String, String) = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Outcome::Refused(error)),
        };
        match word.as_str() {
            "ok" => {
                let results = results.split(',').filter(|result| !result.is_empty()).map(PartResult::parse);
                let first = entry::position(&format!("{epoch}-{first}"))?;
                Ok(Outcome::Published(first, results.collect::<Result<_, _>>()?))
            }
            "stale" => Ok(Outcome::Stale),
            "gone" => Ok(Outcome::Gone),
            "epoch" => Ok(Outcome::OtherEpoch),
            _ => Err(Error::Unavailable(format!("unexpected answer of the publishing script: {word:?}"))),
        }
    }

    fn command(&self, context: &Context, epoch: Epoch, number: u64, events: &[Event], parts: &[Part<'_>]) -> Cmd {
        let keys: Vec<_> = parts.iter().filter_map(|part| part.key).map(|key| context.keys.once(key)).collect();
        let mut evaluate = cmd("EVALSHA");
        evaluate
            .arg(&self.digest)
            .arg(3 + keys.len())
            .arg(&context.keys.stream)
            .arg(&context.keys.last_batch)
            .arg(&context.keys.values)
            .arg(keys);
        let window = u64::try_from(context.idempotency_window.as_millis()).unwrap_or(u64::MAX);
        evaluate.arg(epoch.0).arg(context.options.history).arg(number).arg(window);
        let mut events = events.iter();
        for part in parts {
            evaluate.arg(part.events).arg(part.key.map_or(String::new(), |key| hex(&key.content)));
            for argument in events.by_ref().take(part.events).flat_map(entry::arguments) {
                evaluate.arg(argument);
            }
        }
        evaluate
    }
}

async fn load(redis: &mut Connection) -> Result<String, Error> {
    redis.query(cmd("SCRIPT").arg("LOAD").arg(format!("{NEWEST}{PUBLISH}"))).await
}

//! The Lua scripts, and what they return. Each script is atomic: Redis runs no other command in between.

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, cmd};

use super::Context;
use super::connection::{Connection, Error};
use super::entry;
use crate::event::Event;
use crate::position::{Epoch, StreamPosition};

/// Returns the newest position of the stream. KEYS: stream.
const NEWEST: &str = r"
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

/// Publishes a batch once, however often it is sent. KEYS: stream, this server's last batch. ARGV: epoch, number of events
/// to retain, number of the batch, then four arguments for each event.
///
/// The number is checked first: a batch whose answer was lost is sent again, and a batch that was delayed on its way may
/// arrive even after its successor. Then the epoch is checked: in a stream of another epoch, which readers do not follow,
/// `<epoch>-*` could still be a valid id.
const PUBLISH: &str = r"
local known = redis.call('GET', KEYS[2])
if known then
  local number, epoch, first = string.match(known, '^(%d+) (%d+) (%d+)$')
  if tonumber(number) == tonumber(ARGV[3]) then return {'ok', epoch, first} end
  if tonumber(number) > tonumber(ARGV[3]) then return {'stale', '0', '0'} end
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone', '0', '0'} end
local epoch = string.match(newest(), '^%d+')
if epoch ~= ARGV[1] then return {'epoch', epoch, '0'} end
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

/// The result of sending a batch, as Redis answered it.
pub(super) enum Outcome {
    /// The batch is in the stream, from this position on.
    Published(StreamPosition),
    /// Not published: there is no stream.
    Gone,
    /// Not published: the stream is in another epoch.
    OtherEpoch,
    /// Not published now: a later batch was published before. An earlier send of this batch may have been published.
    Stale,
    /// Not published: Redis answered with an error.
    Refused(RedisError),
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
    ) -> Result<Outcome, Error> {
        let mut evaluate = cmd("EVALSHA");
        evaluate.arg(&self.digest).arg(2).arg(&context.keys.stream).arg(&context.keys.last_batch);
        evaluate.arg(epoch.0).arg(context.options.history).arg(number);
        for argument in events.iter().flat_map(entry::arguments) {
            evaluate.arg(argument);
        }
        let mut answer = self.redis.try_query(&evaluate).await?;
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            // The scripts were flushed, and nothing was published. A script's digest is always the same.
            load(&mut self.redis).await?;
            answer = self.redis.try_query(&evaluate).await?;
        }
        let (word, epoch, first): (String, String, String) = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Outcome::Refused(error)),
        };
        match word.as_str() {
            "ok" => Ok(Outcome::Published(entry::position(&format!("{epoch}-{first}"))?)),
            "stale" => Ok(Outcome::Stale),
            "gone" => Ok(Outcome::Gone),
            "epoch" => Ok(Outcome::OtherEpoch),
            _ => Err(Error::Unavailable(format!("unexpected answer of the publishing script: {word:?}"))),
        }
    }
}

async fn load(redis: &mut Connection) -> Result<String, Error> {
    redis.query(cmd("SCRIPT").arg("LOAD").arg(format!("{NEWEST}{PUBLISH}"))).await
}

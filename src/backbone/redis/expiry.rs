//! Deletes keys that no server has updated for [`HubOptions::latest_ttl`](crate::hub::HubOptions::latest_ttl).
//!
//! **Contract.** A key is deleted once, whatever the number of servers, and never after an update. Each server asks its hub for values
//! that are old enough. A script in Redis deletes those that Redis still has at the same position, and publishes the deletions.
//! An answer that is lost makes no difference: the server asks again, and finds nothing to delete.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Context;
use super::connection::{Connection, Error};
use super::entry;
use super::script::NEWEST;
use crate::event::Event;
use crate::hub::Expired;
use crate::hub::relay::Relay;
use crate::position::Epoch;

/// The time between two looks at the values of the hub, whose clock has seconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// Deletes values that are still at their position, and publishes the deletions. Returns their number, or -1 if the stream is not in
/// the epoch. KEYS: stream, latest values. ARGV: epoch, number of events to retain; then for each value its position (empty for any
/// of an earlier epoch), and of the event that deletes it the topic, the name, the key, and the field and the content of the payload.
const EXPIRE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 or string.match(newest(), '^%d+') ~= ARGV[1] then return -1 end
local deleted = 0
for i = 3, #ARGV, 6 do
  local position, topic, name, key, kind, payload = unpack(ARGV, i, i + 5)
  local value = topic .. '\n' .. key
  local at = string.match(redis.call('HGET', KEYS[2], value) or '', '^[^\n]+')
  if at and (at == position or position == '' and string.match(at, '^%d+') ~= ARGV[1]) then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[1] .. '-*', 't', topic, 'e', name, 'k', key, 'r', '1', kind, payload)
    redis.call('HDEL', KEYS[2], value)
    deleted = deleted + 1
  end
end
return deleted
";

pub(super) struct Expiry {
    context: Arc<Context>,
    relay: Relay,
}

impl Expiry {
    pub(super) fn new(context: Arc<Context>, relay: Relay) -> Self {
        Self { context, relay }
    }

    /// Deletes old values until the connection is lost.
    pub(super) async fn serve(
        &mut self,
        redis: &mut Connection,
        epoch: &watch::Receiver<Epoch>,
    ) -> Result<Infallible, Error> {
        loop {
            let values = self.relay.expired();
            if values.is_empty() {
                sleep(INTERVAL).await;
                continue;
            }
            let deleted: i64 = redis.query(&self.command(*epoch.borrow(), &values)).await?;
            match usize::try_from(deleted) {
                Ok(deleted) => self.relay.note_expired(&values, deleted),
                // The tail reads the mark of the stream's epoch soon.
                Err(_) => sleep(INTERVAL).await,
            }
        }
    }

    fn command(&self, epoch: Epoch, values: &[Expired]) -> Cmd {
        let Context { keys, options, .. } = &*self.context;
        let mut evaluate = cmd("EVAL");
        evaluate.arg(format!("{NEWEST}{EXPIRE}")).arg(2).arg(&keys.stream).arg(&keys.values);
        evaluate.arg(epoch.0).arg(options.history);
        for Expired { topic, key, position, .. } in values {
            let deletion = Event::deletion(topic.clone(), Some(key.clone()));
            let [topic, name, key, _, field, payload] = entry::arguments(&deletion);
            evaluate.arg(position.map(|position| position.to_string()).unwrap_or_default());
            [topic, name, key, field, payload].iter().for_each(|argument| _ = evaluate.arg(*argument));
        }
        evaluate
    }
}

//! A publisher's share of `publish_rate` and `publish_rate_per_key`.

use std::time::Duration;

use super::{Denied, LimitExceeded, LimitKey, Limiter, Meter, Rate, Reason};

/// The least patience of [`PublishQuota::charge_when_available`]. Without competition it waits at most two seconds: one for
/// the key and one for the address.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

/// The address and key that the events of one request are charged to.
pub(crate) struct PublishQuota<'a> {
    limiter: &'a Limiter,
    address: LimitKey,
    key: Option<[u8; 32]>,
}

/// Other publishers with the same key or address used up the rate.
#[derive(Debug, thiserror::Error)]
#[error(
    "other publishers with this key or address used up publish_rate or publish_rate_per_key for {} s (setting upload_timeout)",
    .0.as_secs_f64()
)]
pub(crate) struct QuotaTimeout(Duration);

impl Limiter {
    /// The quota of a publisher at `address`. `key` is called only if publishing is limited.
    pub(crate) fn publish_quota(
        &self,
        address: impl Into<LimitKey>,
        key: impl FnOnce() -> Option<[u8; 32]>,
    ) -> PublishQuota<'_> {
        let key = self.publish_rate_per_key.as_ref().and_then(|_| key());
        PublishQuota { limiter: self, address: address.into(), key }
    }
}

impl PublishQuota<'_> {
    /// Charges for `events`, all or none.
    pub(crate) fn charge(&self, events: usize) -> Result<(), LimitExceeded> {
        // The key first: events that it may not publish must not use up the rate of others at the same address.
        if let Some((meter, key)) = self.of_key() {
            let exceeded =
                |denied| self.exceeded(Reason::PublishRatePerKey, "this key or token", meter.rate(), events, denied);
            meter.charge(key, events).map_err(exceeded)?;
        }
        if let Some(meter) = &self.limiter.publish_rate {
            let address = self.address.to_string();
            let exceeded = |denied| self.exceeded(Reason::PublishRate, &address, meter.rate(), events, denied);
            meter.charge(&self.address, events).map_err(exceeded)?;
        }
        Ok(())
    }

    /// The largest batch for [`PublishQuota::charge_when_available`]. It is available after about a second.
    pub(crate) fn max_batch(&self) -> usize {
        let rates = [self.of_key().map(|(meter, _)| meter.rate()), self.limiter.publish_rate.as_ref().map(Meter::rate)];
        let batches = rates.into_iter().flatten().map(|rate| rate.burst().min(rate.per_second()));
        batches.min().map_or(usize::MAX, |events| events as usize)
    }

    /// Charges for `events` once they are available. Returns whether that took time.
    pub(crate) async fn charge_when_available(&self, events: usize, patience: Duration) -> Result<bool, QuotaTimeout> {
        let charge = async {
            let mut has_waited = false;
            if let Some((meter, key)) = self.of_key() {
                has_waited |= meter.charge_when_available(key, events).await;
            }
            if let Some(meter) = &self.limiter.publish_rate {
                has_waited |= meter.charge_when_available(&self.address, events).await;
            }
            has_waited
        };
        let patience = patience.max(LEAST_PATIENCE);
        tokio::time::timeout(patience, charge).await.map_err(|_| QuotaTimeout(patience))
    }

    fn of_key(&self) -> Option<(&Meter<[u8; 32]>, &[u8; 32])> {
        self.limiter.publish_rate_per_key.as_ref().zip(self.key.as_ref())
    }

    fn exceeded(&self, reason: Reason, publisher: &str, rate: Rate, events: usize, denied: Denied) -> LimitExceeded {
        let (setting, burst, per_second) = (reason.as_str(), rate.burst(), rate.per_second());
        let (detail, retry_after) = match denied {
            Denied::NotYet(wait) => {
                let detail = format!(
                    "{publisher} publishes more than {per_second} events a second with bursts of {burst} (setting \
                     {setting}); nothing of this request was published"
                );
                (detail, Some(wait))
            }
            Denied::Never => {
                let detail = format!(
                    "a request may publish at most {burst} events, and this one has {events} (setting {setting}); send \
                     smaller batches, or application/x-ndjson, which is slowed down instead"
                );
                (detail, None)
            }
        };
        self.limiter.refuse(reason, detail, retry_after)
    }
}

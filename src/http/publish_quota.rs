//! What publishing costs whoever does it: their share of `publish_rate` and `publish_rate_per_key`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::StatusCode;

use super::Routes;
use super::admit::Permit;
use super::problem::Problem;
use crate::limit::{Denied, Limiter};

/// How long is waited at least: alone, nobody waits for longer than two seconds, one for its key and one for its address.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

/// Whom the events of one request are charged to.
pub(super) struct PublishQuota<'a> {
    /// None where publishing has no limit: nothing is looked up then.
    limiter: Option<&'a Limiter>,
    address: IpAddr,
    key: Option<[u8; 32]>,
}

impl<'a> PublishQuota<'a> {
    pub(super) fn of(routes: &'a Routes, remote: SocketAddr, permit: &Permit<'_>) -> Self {
        let limiter = Some(&*routes.limiter).filter(|limiter| limiter.meters_publishing());
        let key = limiter.and_then(|_| permit.grant.identity());
        Self { limiter, address: remote.ip(), key }
    }

    /// Charges for `events`, all or none.
    pub(super) fn charge(&self, events: usize) -> Result<(), Problem> {
        let charge = |limiter: &Limiter| limiter.publish(self.address, self.key.as_ref(), events);
        Ok(self.limiter.map_or(Ok(()), charge)?)
    }

    /// How many events [`PublishQuota::charge_when_available`] may be asked for at the most.
    pub(super) fn max_batch(&self) -> usize {
        self.limiter.map_or(usize::MAX, |limiter| limiter.publish_at_once(self.key.is_some()) as usize)
    }

    /// Charges for `events` as soon as that goes, and answers whether it had to wait.
    ///
    /// # Errors
    /// When others with the same key or address have taken all there was for as long as `patience`.
    pub(super) async fn charge_when_available(&self, events: usize, patience: Duration) -> Result<bool, Problem> {
        let Some(limiter) = self.limiter else { return Ok(false) };
        let of_key = async {
            let Some(key) = &self.key else { return false };
            patiently(|| limiter.charge_key(key, events)).await
        };
        // Both, and each once.
        let of_both = async { of_key.await | patiently(|| limiter.charge_address(self.address, events)).await };
        let patience = patience.max(LEAST_PATIENCE);
        tokio::time::timeout(patience, of_both).await.map_err(|_| {
            let detail = format!(
                "others with this key or address left nothing of publish_rate or publish_rate_per_key for {} s (setting \
                 upload_timeout)",
                patience.as_secs_f64()
            );
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })
    }
}

/// Charges as soon as that goes, and answers whether it had to wait. What may never be charged is let go: nobody asks for
/// more than may come at once.
async fn patiently(charge: impl Fn() -> Result<(), Denied>) -> bool {
    let mut has_waited = false;
    while let Err(Denied::NotYet(wait)) = charge() {
        has_waited = true;
        tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
    }
    has_waited
}

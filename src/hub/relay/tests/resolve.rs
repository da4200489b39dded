//! A hub that is asked for a position which it does not have yet.

use super::*;

const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn known_position_resolves_without_the_archive() {
    let mut nodes = Nodes::new(8, 8);
    nodes.publish(&["a", "a"]);
    nodes.relay();
    for start in [Start::After(at(7, 2)), Start::After(at(6, 99)), Start::Live, Start::Newest(3), Start::UnknownId] {
        assert_eq!(nodes.hub.resolve(start, Duration::ZERO).await, Ok(start));
    }
    assert!(nodes.requests.extents.try_recv().is_err());
}

/// The archive has event 2; the relay appends it after the archive has answered.
#[tokio::test(start_paused = true)]
async fn issued_position_is_waited_for() {
    let mut nodes = Nodes::new(8, 8);
    nodes.publish(&["a", "a"]);
    let hub = nodes.hub.clone();
    let relaying = async {
        answer_extent(&mut nodes.requests, at(7, 0), at(7, 2)).await;
        tokio::task::yield_now().await;
        nodes.relay();
    };
    let (start, ()) = tokio::join!(hub.resolve(Start::After(at(7, 2)), PATIENCE), relaying);
    assert_eq!(start, Ok(Start::After(at(7, 2))));
}

/// The relay comes to a later epoch, so that the client's position belongs to an earlier one.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_position_ends_with_its_epoch() {
    let mut nodes = Nodes::new(8, 8);
    let hub = nodes.hub.clone();
    let relaying = async {
        answer_extent(&mut nodes.requests, at(9, 0), at(9, 1)).await;
        (nodes.epoch, nodes.relayed) = (8, 0);
        nodes.begin_epoch();
    };
    let (start, ()) = tokio::join!(hub.resolve(Start::After(at(8, 5)), PATIENCE), relaying);
    assert_eq!(start, Ok(Start::After(at(8, 5))));
}

#[tokio::test(start_paused = true)]
async fn position_that_was_never_issued_is_unknown() {
    let mut nodes = Nodes::new(8, 8);
    let hub = nodes.hub.clone();
    for position in [at(7, 3), at(8, 0)] {
        let (start, ()) = tokio::join!(
            hub.resolve(Start::After(position), PATIENCE),
            answer_extent(&mut nodes.requests, at(7, 0), at(7, 2))
        );
        assert_eq!(start, Ok(Start::UnknownId));
    }
}

#[tokio::test(start_paused = true)]
async fn resolve_fails_when_the_hub_does_not_catch_up_in_time() {
    let mut nodes = Nodes::new(8, 8);
    let hub = nodes.hub.clone();
    let began = Instant::now();
    // The backbone does not answer.
    assert_eq!(hub.resolve(Start::After(at(7, 1)), PATIENCE).await, Err(NotCaughtUp));
    assert_eq!(began.elapsed(), PATIENCE);
    assert!(nodes.requests.extents.recv().await.unwrap().is_closed());
    // The backbone answers, and the relay makes no progress.
    let (start, ()) = tokio::join!(
        hub.resolve(Start::After(at(7, 1)), PATIENCE),
        answer_extent(&mut nodes.requests, at(7, 0), at(7, 1))
    );
    assert_eq!(start, Err(NotCaughtUp));
}

#[tokio::test(start_paused = true)]
async fn earliest_resolves_to_position_before_oldest_archived_event() {
    let mut nodes = Nodes::new(8, 8);
    nodes.publish(&["a"; 9]);
    nodes.relay();
    let hub = nodes.hub.clone();
    let (start, ()) =
        tokio::join!(hub.resolve(Start::Earliest, PATIENCE), answer_extent(&mut nodes.requests, at(7, 4), at(7, 9)));
    assert_eq!(start, Ok(Start::After(at(7, 4))));
}

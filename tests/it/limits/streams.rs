//! Limits on topics and patterns of a subscription, and on firehose streams.

use fanline::server::{HttpOptions, Limits};

use super::{Outcome, accepting, admitted, ask, limited, rush, rush_for};
use crate::support::{assert_problem, run, until};

#[test]
fn firehose_streams_are_limited_exactly() {
    run(async {
        let server = limited(Limits { max_firehose: Some(3), ..Limits::default() });
        let mut streams = rush(&server, "/stream", 40).await;
        assert_eq!(streams.len(), 3);
        for target in ["/stream?topics=a,**", "/stream?topics=news.*", "/stream?topics="] {
            let refused = server.get(target).await;
            assert_problem(&refused, 503, &["limit of 3 subscriptions to everything", "max_firehose"]);
            assert_eq!(refused.head.header("retry-after"), Some("5"));
        }
        // Streams with topics are not limited by it.
        let mut named = server.follow("/stream?topics=a,b").await;
        server.publish("a", [1]).await;
        named.data_at(1).await;
        for _ in 0..2 {
            streams.pop();
            until(|| server.stats().streams == 3).await;
            streams.extend(rush(&server, "/stream?topics=*", 10).await);
            assert_eq!(streams.len(), 3);
        }
        assert_eq!(server.get("/metrics/json").await.ok()["refusals_by_reason"]["firehose"], 37 + 3 + 2 * 9);
    });
}

#[test]
fn topics_without_events_are_limited_exactly() {
    run(async {
        let server = limited(Limits { max_silent_topics: Some(10), ..Limits::default() });
        let mut streams = rush(&server, "/stream?topics=a,b,c,d", 20).await;
        assert_eq!(streams.len(), 20, "only four topics are counted");
        let crowd = rush_for(&server, (0..20).map(|n| format!("/stream?topics=a,x{n}"))).await;
        assert_eq!(crowd.len(), 6);
        let refused = server.get("/stream?topics=a,y").await;
        assert_problem(&refused, 503, &["limit of 10 topics", "max_silent_topics"]);
        assert_eq!(refused.head.header("retry-after"), Some("5"));
        assert_eq!(server.get("/metrics/json").await.ok()["refusals_by_reason"]["silent_topics"], 14 + 1);
        // Patterns and known topics are not limited, and a topic with an event frees its place.
        server.follow("/stream?topics=y.*,a,b").await;
        server.publish("a", [1]).await;
        streams[0].hello().await;
        streams[0].data_at(1).await;
        admitted(&server, "/stream?topics=a,y").await.hello().await;
        // Topics without a subscriber are removed within a second.
        drop(crowd);
        admitted(&server, "/stream?topics=a,z1,z2,z3,z4,z5,z6").await.hello().await;
    });
}

#[test]
fn rejected_subscription_takes_no_permit() {
    run(async {
        let server = limited(Limits { max_firehose: Some(1), ..Limits::default() });
        for target in ["/stream?heartbeat=0", "/stream?topics=*,a*b", "/stream?on_lag=x"] {
            assert!(matches!(ask(&server, target).await, Outcome::Rejected(head) if head.status == 400));
        }
        admitted(&server, "/stream").await.hello().await;
    });
}

#[test]
fn patterns_and_wildcards_are_limited() {
    run(async {
        let server = accepting(HttpOptions { max_patterns: 2, max_wildcards: 3, ..HttpOptions::default() });
        for (target, what) in [
            ("/stream?topics=a.*,b.*,c.*", ["the limit is 2 patterns", "has 3 (setting max_patterns)"]),
            ("/stream?topics=*.*.*.**", ["the limit is 3 wildcards in \"*.*.*.**\"", "has 4 (setting max_wildcards)"]),
        ] {
            assert_problem(&server.get(target).await, 400, &what);
        }
        server.follow("/stream?topics=a.*,*.*.**,c,d,e").await;
    });
}

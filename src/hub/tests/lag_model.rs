//! Readers of patterns whose events are evicted while they scan them, under loom, as in [`model`](super::model).
//!
//! **Forbidden:** a task that waits although there is something for it to read, and is never woken.
//!
//! The second model has caught a reader that waits once what it scans is evicted.

use loom::thread;

use super::model::{Task, block_on, check, events, publish};
use super::*;

/// The reader scans events that it does not want, and the next segment is evicted before the reader comes to it. Nothing
/// else will be published: if it does not return the gap now, it never gets what is retained.
#[test]
fn lagged_filtering_reader_resumes_at_oldest() {
    check(2, || {
        let hub = hub(8, 2);
        let mut task = Task::new(hub.subscribe(filter(&["wanted:*"]), Start::Live));
        block_on(hub.publish_all(events(&["b", "b"]))).unwrap();
        let publisher = publish(&hub, &[&["b"], &["wanted:1", "wanted:2"]]);
        task.run(&hub);
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(task.received, [4, 5]);
    });
}

/// As above, but the events leave the firehose to make room for envelopes: no publication follows that would wake the reader.
#[test]
fn lagged_filtering_reader_resumes_without_a_publication() {
    check(2, || {
        let hub = hub(8, 8);
        let mut task = Task::new(hub.subscribe(filter(&["wanted:*"]), Start::Live));
        task.run(&hub);
        block_on(hub.publish_all(events(&["b", "b", "b", "wanted:1"]))).unwrap();
        let reader = {
            let hub = hub.clone();
            thread::spawn(move || {
                task.run(&hub);
                task.received
            })
        };
        let Inner { history, sequencer, .. } = &*hub.0;
        sequencer.exclusively(history, || (0..3).for_each(|_| _ = history.firehose.evict_oldest(1)));
        assert_eq!(reader.join().unwrap(), [4]);
    });
}

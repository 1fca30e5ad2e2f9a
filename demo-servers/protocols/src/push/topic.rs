//! The messages of one topic, on the server.

use super::Message;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// Number of messages that are kept for clients who come late.
const KEPT: usize = 1000;

/// A topic. Subscribers wait for a number and then take what they do not have.
#[derive(Debug)]
pub(crate) struct Topic {
    kept: Mutex<VecDeque<Message>>,
    latest: watch::Sender<u64>,
}

impl Topic {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::default(), latest: watch::Sender::new(0) }
    }

    /// Adds a message and wakes who waits.
    pub(crate) fn publish(&self, message: Message) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(message);
        if kept.len() > KEPT {
            kept.pop_front();
        }
        drop(kept);
        self.latest.send_replace(message.number);
    }

    /// The number of the last message; 0 if there was none.
    pub(crate) fn latest(&self) -> u64 {
        *self.latest.borrow()
    }

    /// Those after this number.
    pub(crate) fn after(&self, number: u64) -> Vec<Message> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|message| message.number > number).copied().collect()
    }

    /// Waits until there is one after this number.
    pub(crate) async fn wait(&self, number: u64) {
        // The sender lives as long as the topic: it does not fail.
        let _ = self.latest.subscribe().wait_for(|latest| *latest > number).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_gets_what_is_new_and_only_that() {
        let topic = Topic::new();
        for number in 1..=3 {
            topic.publish(Message { number, time_ns: number });
        }
        topic.wait(2).await;
        assert_eq!(topic.after(2), [Message { number: 3, time_ns: 3 }]);
        let none = tokio::time::timeout(std::time::Duration::from_millis(20), topic.wait(3)).await;
        assert!(none.is_err());
        for number in 4..=2000 {
            topic.publish(Message { number, time_ns: number });
        }
        assert_eq!((topic.after(0).len(), topic.latest()), (KEPT, 2000), "what is kept is bounded");
    }
}

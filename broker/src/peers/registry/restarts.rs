//! Publishers that may come back, because their components are restarted.

use super::{ComponentNumber, Registry};
use crate::peers::protocol::{Notice, PeerId};

impl<F: Clone> Registry<F> {
    /// Call this before a publisher of a component is offered to anybody: from now on, subscriptions of the
    /// topic that wait for restarts do not end.
    pub(super) fn expect_restarts(&mut self, publisher: PeerId, topic: &str) {
        let Some(component) = self.peers.get(&publisher).and_then(|peer| peer.component) else { return };
        let was_expected = self.is_expected(topic);
        let topics = &self.topics;
        let expected = self.restarts.entry(component).or_default();
        // Nobody waits for those that no longer exist, and a component may have published on any number.
        expected.retain(|expected| topics.contains_key(expected));
        expected.insert(topic.to_owned());
        if !was_expected {
            self.tell_subscribers(topic, true);
        }
    }

    /// Call this when a component has ended for good.
    pub(crate) fn expect_no_restarts(&mut self, component: ComponentNumber) {
        for topic in self.restarts.remove(&component).unwrap_or_default() {
            if !self.is_expected(&topic) {
                self.tell_subscribers(&topic, false);
            }
        }
    }

    /// Whether publishers of the topic may come back.
    pub(super) fn is_expected(&self, topic: &str) -> bool {
        self.restarts.values().any(|expected| expected.contains(topic))
    }

    fn tell_subscribers(&mut self, topic: &str, is_expected: bool) {
        let subscribers = self.topics.get(topic).map(|topic| topic.subscribers.clone());
        for subscriber in subscribers.unwrap_or_default() {
            self.send(subscriber, Notice::Expect { topic: topic.to_owned(), is_expected });
        }
    }
}

//! Publishers that may come back, because their components are restarted.

use std::collections::BTreeMap;

use super::{ComponentNumber, Inspector, Registry, Restarts, Supervisor};
use crate::control::grants::Grants;
use crate::peers::protocol::{Notice, PeerId};

impl<F: Clone> Registry<F> {
    /// Call this before a publisher of a component is offered to anybody: from now on, subscriptions of the
    /// topic that wait for restarts do not end.
    pub(super) fn expect_restarts(&mut self, publisher: PeerId, topic: &str) {
        let Some(component) = self.peers.get(&publisher).and_then(|peer| peer.component) else { return };
        let topics = &self.topics;
        let expected = self.restarts.entry(Supervisor::Host(component)).or_default();
        // Nobody waits for those that no longer exist, and a component may have published on any number.
        expected.retain(|expected| topics.contains_key(expected));
        self.change_expectation(topic, |restarts| {
            restarts.entry(Supervisor::Host(component)).or_default().insert(topic.to_owned());
        });
    }

    /// Call this when a component has ended for good.
    pub(crate) fn expect_no_restarts(&mut self, component: ComponentNumber) {
        self.forget_supervisor(Supervisor::Host(component));
    }

    /// A process restarts components of its own, whose publishers may come back, or no longer does.
    pub(super) fn expect_process(
        &mut self,
        from: PeerId,
        topic: &str,
        is_expected: bool,
        inspector: &dyn Inspector<F>,
    ) {
        let supervisor = Supervisor::Process(from);
        if !is_expected {
            return self.change_expectation(topic, |restarts| {
                let expected = restarts.get_mut(&supervisor);
                let is_empty = expected.is_some_and(|expected| expected.remove(topic) && expected.is_empty());
                if is_empty {
                    restarts.remove(&supervisor);
                }
            });
        }
        let Some(peer) = self.peers.get(&from) else { return };
        let all = Grants::all();
        // The process itself may not know its grants. Its publishers will be refused.
        if peer.grants.as_ref().unwrap_or(&all).may_publish(topic).is_err() {
            return;
        }
        let most = if peer.grants.is_some() { peer.limits.publishers as usize } else { usize::MAX };
        let topics = &self.topics;
        let expected = self.restarts.entry(supervisor).or_default();
        if expected.len() >= most {
            expected.retain(|expected| topics.contains_key(expected) || inspector.has_topic(expected));
        }
        if expected.len() < most {
            self.change_expectation(topic, |restarts| {
                restarts.entry(supervisor).or_default().insert(topic.to_owned());
            });
        }
    }

    /// Whoever restarts components no longer does.
    pub(super) fn forget_supervisor(&mut self, supervisor: Supervisor) {
        let topics = self.restarts.get(&supervisor).cloned().unwrap_or_default();
        for topic in topics {
            self.change_expectation(&topic, |restarts| {
                restarts.get_mut(&supervisor).map(|expected| expected.remove(&topic));
            });
        }
        self.restarts.remove(&supervisor);
    }

    /// Whether publishers of the topic may come back, apart from those in the subscribing process.
    pub(super) fn is_expected(&self, topic: &str, subscriber: PeerId) -> bool {
        let own = Supervisor::Process(subscriber);
        let others = self.restarts.iter().filter(|(supervisor, _)| **supervisor != own);
        others.map(|(_, expected)| expected).any(|expected| expected.contains(topic))
    }

    /// Changes what is expected, and tells the processes that subscribe to the topic.
    fn change_expectation(&mut self, topic: &str, change: impl FnOnce(&mut Restarts)) {
        let subscribers = self.topics.get(topic).map(|topic| &topic.subscribers);
        let was_expected: BTreeMap<_, _> = subscribers
            .into_iter()
            .flatten()
            .map(|&subscriber| (subscriber, self.is_expected(topic, subscriber)))
            .collect();
        change(&mut self.restarts);
        for (subscriber, was_expected) in was_expected {
            let is_expected = self.is_expected(topic, subscriber);
            if is_expected != was_expected {
                self.send(subscriber, Notice::Expect { topic: topic.to_owned(), is_expected });
            }
        }
    }
}

//! [`TopicTable`]: a broker's topics by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::control::topic::Topic;

/// Topics by name. Topics without participants are removed now and then.
///
/// Dropping a topic may call the user's code. So the methods that remove topics return them, and the caller
/// drops them when it no longer holds the lock.
#[derive(Default)]
pub(crate) struct TopicTable {
    by_name: BTreeMap<String, Arc<Topic>>,
    /// Number of topics at which those without participants are removed next.
    sweep_at: usize,
    /// No topic is removed.
    keeps_all: bool,
}

/// Number of topics without participants that may accumulate before they are removed. They are not visible
/// from outside.
const UNSWEPT: usize = 64;

impl TopicTable {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.values().cloned().collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Adds `topic` and returns the topics that were removed to make room.
    pub(crate) fn insert(&mut self, topic: Arc<Topic>) -> Vec<Arc<Topic>> {
        let unused = if self.by_name.len() >= self.sweep_at { self.sweep() } else { Vec::new() };
        self.by_name.insert(topic.name().to_owned(), topic);
        unused
    }

    /// Keeps all topics from now on.
    pub(crate) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Removes the topic of that name if it has no participants.
    pub(crate) fn remove_unused(&mut self, name: &str) -> Option<Arc<Topic>> {
        let unused = !self.keeps_all && is_unused(self.by_name.get(name)?);
        if unused { self.by_name.remove(name) } else { None }
    }

    /// Removes all topics without participants.
    pub(crate) fn sweep(&mut self) -> Vec<Arc<Topic>> {
        let Self { by_name, keeps_all, .. } = self;
        let unused = by_name.extract_if(.., |_, topic| !*keeps_all && is_unused(topic));
        let unused = unused.map(|(_, topic)| topic).collect();
        // Sweeping thus costs each new topic a few steps on average.
        self.sweep_at = UNSWEPT + 2 * self.by_name.len();
        unused
    }
}

/// Whether a topic has no participants and none is about to join: references are taken only under the table's
/// lock.
fn is_unused(topic: &Arc<Topic>) -> bool {
    Arc::strong_count(topic) == 1 && topic.is_unused()
}

//! Publishers of a component that may come back after a restart: [`RestartExpectation`].

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::control::topic::Topic;
use crate::peers::children::Restartable;
use crate::peers::expected::ExpectedRestart;

/// Topics that no longer exist in this process and that other processes remember, for each component.
const MAX_REMOVED: usize = 1024;

/// The topics to which a component has published, and may publish again after a restart. Subscriptions that
/// wait for restarts do not end before the component has ended for good.
#[derive(Debug)]
pub(crate) struct RestartExpectation(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Oldest first.
    topics: Vec<Noted>,
    /// If its runs are processes: the publishers' topics, as the host of these knows them.
    restartable: Option<Restartable>,
    /// The component will not be restarted (any more).
    over: bool,
}

/// A topic to which the component has published.
#[derive(Debug)]
struct Noted {
    /// Told once to [expect](Topic::expect) the component. Weak, so that a topic without participants can
    /// still be removed.
    topic: Weak<Topic>,
    /// For other processes, unless they cannot join the topic.
    remote: Option<ExpectedRestart>,
}

impl RestartExpectation {
    /// For a component that may be restarted if `restarts` is set, and never is otherwise.
    pub(crate) fn new(restarts: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { topics: Vec::new(), restartable: None, over: !restarts })))
    }

    /// Call this when the component is about to open a publisher of `topic`.
    pub(crate) fn note(&self, topic: &Arc<Topic>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.over
            || state.topics.iter().any(|known| std::ptr::eq(known.topic.as_ptr(), Arc::as_ptr(topic)))
        {
            return;
        }
        topic.expect();
        state.topics.push(Noted { topic: Arc::downgrade(topic), remote: topic.expected_restart() });
        state.forget_removed(topic.name());
    }

    /// Drops this when the component has ended for good.
    pub(crate) fn keep(&self, restartable: Restartable) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).restartable = Some(restartable);
    }

    /// Call this when the component has ended for good.
    pub(crate) fn end(&self) {
        let (topics, _restartable) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.over = true;
            (std::mem::take(&mut state.topics), state.restartable.take())
        };
        for topic in topics.iter().filter_map(|noted| noted.topic.upgrade()) {
            topic.forget();
        }
    }
}

impl State {
    /// Forgets a topic of the same name that was removed, and others of which there are too many.
    fn forget_removed(&mut self, name: &str) {
        let is_removed = |noted: &Noted| noted.topic.strong_count() == 0;
        let count = self.topics.iter().filter(|noted| is_removed(noted)).count();
        let mut too_many = count.saturating_sub(MAX_REMOVED);
        self.topics.retain(|noted| {
            let Some(remote) = &noted.remote else { return !is_removed(noted) };
            if !is_removed(noted) {
                return true;
            }
            let is_too_old = too_many > 0;
            too_many = too_many.saturating_sub(1);
            !is_too_old && remote.topic() != name
        });
    }
}

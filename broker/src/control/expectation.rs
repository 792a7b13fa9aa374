//! Publishers of a component that may come back after a restart: [`RestartExpectation`].

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::control::topic::Topic;
use crate::peers::children::Restartable;

/// The topics to which a component has published, and may publish again after a restart. Subscriptions that
/// wait for restarts do not end before the component has ended for good.
#[derive(Debug)]
pub(crate) struct RestartExpectation(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Each topic is told once to [expect](Topic::expect) the component. Weak, so that a topic without
    /// participants can still be removed.
    topics: Vec<Weak<Topic>>,
    /// If its runs are processes: the publishers' topics, as the host of these knows them.
    restartable: Option<Restartable>,
    /// The component will not be restarted (any more).
    over: bool,
}

impl RestartExpectation {
    /// For a component that may be restarted if `restarts` is set, and never is otherwise.
    pub(crate) fn new(restarts: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { topics: Vec::new(), restartable: None, over: !restarts })))
    }

    /// Call this when the component is about to open a publisher of `topic`.
    pub(crate) fn note(&self, topic: &Arc<Topic>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.over {
            return;
        }
        state.topics.retain(|topic| topic.strong_count() > 0);
        if !state.topics.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(topic))) {
            topic.expect();
            state.topics.push(Arc::downgrade(topic));
        }
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
        for topic in topics.iter().filter_map(Weak::upgrade) {
            topic.forget();
        }
    }
}

//! A [`Node`]'s questions to its host, and its reports to other processes through the host.

use std::sync::mpsc;

use super::Node;
use crate::peers::protocol::{ChannelNumber, Message as _, Request, Selection};
use crate::peers::topics::{HostTopic, PublisherCounters, TopicPage};

/// Maximum number of a publisher's subscribers in a report.
const MAX_SUBSCRIBERS: usize = 256;

/// A question to the host.
#[derive(Debug)]
pub(super) struct Question {
    number: u64,
    selection: Selection,
    reply: mpsc::Sender<TopicPage>,
}

impl Node {
    pub(super) fn inspect(&mut self, selection: Selection, reply: mpsc::Sender<TopicPage>) {
        if !self.is_connected {
            return;
        }
        let number = self.next_request;
        self.next_request += 1;
        self.questions.push_back(Question { number, selection, reply });
        if self.questions.len() == 1 {
            self.ask();
        }
    }

    /// Asks the first question. The host answers one at a time.
    fn ask(&mut self) {
        let Some(question) = self.questions.front() else { return };
        let (request, selection) = (question.number, question.selection.clone());
        self.send(Request::Topics { request, selection });
    }

    /// Handles the host's answer to [`Request::Topics`].
    pub(super) fn learned(&mut self, request: u64, topics: Vec<HostTopic>, is_last: bool) {
        let Some(question) = self.questions.pop_front_if(|question| question.number == request) else {
            return;
        };
        // The thread that asked may no longer wait.
        let _ = question.reply.send(TopicPage { topics, is_last });
        self.ask();
    }

    /// Reports the counters of these publishers, which another process has asked for.
    pub(super) fn report(&mut self, query: u64, channels: &[ChannelNumber]) {
        let counters = channels.iter().filter_map(|&number| {
            let channel = self.published.get(&number)?.channel.upgrade()?;
            Some((number, PublisherCounters::of(&channel.stats())))
        });
        let mut counters: Vec<_> = counters.collect();
        let mut most = MAX_SUBSCRIBERS;
        let report = loop {
            counters.iter_mut().for_each(|(_, counters)| counters.keep_subscribers(most));
            let report = Request::Report { query, counters: counters.clone() };
            if report.encode().is_ok() {
                break report;
            }
            if most == 0 {
                // Their counters stay unknown.
                counters.truncate(counters.len() / 2);
            }
            most /= 2;
        };
        self.send(report);
    }
}

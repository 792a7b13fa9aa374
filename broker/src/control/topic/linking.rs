//! How a [`Topic`] is linked with other processes: its own members are offered to them, and their publishers
//! become members.

use std::sync::{Arc, PoisonError};

use blockcast_blocks::shield::event;
use blockcast_blocks::{Channel, text};

use super::{Member, Topic};
use crate::peers::expected::ExpectedRestart;
use crate::peers::link::{Announced, Link};

impl Topic {
    /// Adds a publisher of another process. Before this returns, all subscriptions have joined it.
    pub(crate) fn add_remote(&self, channel: &Arc<Channel>, label: String) {
        channel.add_traffic_to(&self.traffic);
        // Declared before the lock, these are dropped after it.
        let (mut joined, mut refused, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut members = self.members();
            for registration in members.subscriptions_for(channel) {
                let signal = Arc::clone(registration.feed.signal());
                match channel.join_quietly(self.schema(), registration.options, signal) {
                    Ok(reader) => {
                        refused.extend(registration.feed.add_quietly(reader));
                        joined.push(Arc::clone(registration));
                    }
                    Err(reason) => reasons.push(reason),
                }
            }
            let (channel, label) = (Arc::clone(channel), Some(label.clone()));
            members.publishers.push(Member { channel, label, linked_to: None, announced: Vec::new() });
        }
        for registration in joined {
            channel.announce(registration.feed.signal());
            registration.feed.ring();
        }
        let (topic, publisher) = (&*text::line(self.name()), &*text::line(&label));
        for reason in reasons {
            let reason = reason.to_string();
            event(|| tracing::warn!(topic, publisher, reason, "a subscriber misses a publisher"));
        }
        event(|| tracing::info!(topic, publisher, "publisher of another process joined"));
    }

    /// The number by which components know a publisher of another process that has this one.
    pub(crate) fn component_number(&self, publisher: u64) -> u32 {
        self.link.numbers.number(publisher)
    }

    /// Tells other processes that a component of this process may publish on the topic again after a restart,
    /// as long as the result lives. `None` if they cannot join the topic.
    pub(crate) fn expected_restart(&self) -> Option<ExpectedRestart> {
        (!self.is_unsealed()).then(|| ExpectedRestart::new(&self.name, &self.link))
    }

    /// Removes these publishers of other processes, because no subscription is left.
    pub(crate) fn remove_remotes(&self, channels: &[Arc<Channel>]) {
        let is_one = |member: &Member| channels.iter().any(|channel| Arc::ptr_eq(channel, &member.channel));
        // Dropped after the lock is released.
        let _removed: Vec<_> = {
            let mut members = self.members();
            members.publishers.extract_if(.., |member| is_one(member)).collect()
        };
    }

    /// Offers all members to other processes that are not yet linked, without waiting.
    pub(crate) fn link_members(self: &Arc<Self>, link: &Arc<Link>) {
        if self.is_unsealed() {
            return;
        }
        // Declared before the lock, these are dropped after it.
        let mut errors = Vec::new();
        let mut members = self.members();
        let id = Some(link.id());
        let local = members.publishers.iter_mut().filter(|member| !member.channel.is_remote());
        for member in local.filter(|member| member.linked_to != id) {
            member.linked_to = id;
            match link.announce(self, &member.channel, None) {
                Ok(announced) => member.announced.push(announced),
                // The publisher has just left.
                Err(_) if member.channel.is_closed() => {}
                Err(error) => errors.push(error),
            }
        }
        for registration in &members.subscriptions {
            let mut interests = registration.interests.lock().unwrap_or_else(PoisonError::into_inner);
            if !interests.iter().any(|interest| Some(interest.link()) == id) {
                match link.take_interest(self, None) {
                    Ok(taken) => interests.push(taken),
                    Err(error) => errors.push(error),
                }
            }
        }
        drop(members);
        for error in errors {
            let (topic, error) = (&*text::line(self.name()), error.to_string());
            event(|| tracing::warn!(topic, error, "a participant is not linked with other processes"));
        }
    }

    /// Keeps the announcement, whose drop tells other processes of the publisher's end.
    pub(super) fn keep_announced(&self, channel: &Arc<Channel>, announced: Announced) {
        let mut members = self.members();
        let member = members.publishers.iter_mut().find(|member| Arc::ptr_eq(&member.channel, channel));
        match member {
            Some(member) => member.announced.push(announced),
            None => {
                drop(members);
                drop(announced);
            }
        }
    }
}

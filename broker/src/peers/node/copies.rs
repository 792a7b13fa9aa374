//! The channels that a [`Node`] opens in order to copy their messages, if it is a [wall](crate::peers::wall).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{Channel, Schema, Trust, text};

use super::publishers::Published;
use super::subscriptions::{RemoteSeat, channel_config};
use super::{Node, reason};
use crate::peers::link::Announced;
use crate::peers::options::Terms;
use crate::peers::protocol::{ChannelNumber, PeerRecord, PublisherRecord, Request, SeatId};
use crate::peers::socket::File;
use crate::peers::wall::{Passage, copies_of, seat_of};

impl Node {
    /// Opens a channel whose messages are to be copied. It has no schema if its publisher has just ended.
    pub(crate) fn take_walled_seat(
        &mut self,
        seat: SeatId,
        (topic_name, schema): (String, Option<Schema>),
        publisher: &PublisherRecord,
        owner: &PeerRecord,
        terms: Terms,
        files: [File; 4],
    ) {
        let Some(schema) = schema else {
            self.send(Request::Declined { seat, why: "the publisher has ended".to_owned() });
            return;
        };
        let config = channel_config(publisher, &schema);
        match self.open_channel(seat, config, owner, (terms.walled(), Trust::Walled), files) {
            Ok((channel, annex, bell)) => {
                let remote = RemoteSeat {
                    channel: Arc::downgrade(&channel),
                    offered: Some(channel),
                    topic: Weak::new(),
                    topic_name,
                    owner: (self.session, owner.id),
                    bell,
                    number: publisher.number,
                    // A wall has one host all its life.
                    file: Default::default(),
                    annex: None,
                    label: publisher.name.clone(),
                };
                self.seats.insert((self.session, seat), remote);
                self.send_with(Request::Annex { seat }, vec![annex]);
            }
            Err(why) => {
                self.warn(&topic_name, &why);
                self.send(Request::Declined { seat, why });
            }
        }
    }

    /// Offers a channel for copies, once the publisher's process has attached us.
    pub(super) fn open_copies(&mut self, seat: SeatId, channel: &Arc<Channel>) {
        let Some(remote) = self.seats.get(&(self.session, seat)) else { return };
        let (topic, label, number) = (remote.topic_name.clone(), remote.label.clone(), copies_of(seat));
        let Some(wall) = &self.wall else { return };
        let opened = wall.make(channel, (&topic, channel.schema()), &label).and_then(|passage| {
            let files = passage.channel().share().map_err(|error| reason(&error))?;
            Ok((passage, files))
        });
        match opened {
            Ok((passage, files)) => {
                self.offer(number, passage.channel(), topic.clone(), files);
                let channel = Arc::downgrade(passage.channel());
                let published = Published { channel, topic, reply: None, annexes: BTreeMap::new() };
                self.published.insert(number, published);
                self.keep(number, passage);
            }
            // Dropping the channel says farewell.
            Err(why) => self.warn(&topic, &why),
        }
    }

    fn keep(&mut self, number: ChannelNumber, passage: Passage) {
        let announced = Announced::new(number, &self.commands);
        if let Some(wall) = &mut self.wall {
            wall.open(number, passage, announced);
        }
    }

    /// Handles the host's answer whether a channel of copies is open.
    pub(super) fn copies_opened(&mut self, number: ChannelNumber, is_open: bool) {
        let Some(wall) = &mut self.wall else { return };
        if is_open {
            wall.opened(number);
            self.send(Request::Joined { seat: seat_of(number) });
        } else {
            wall.give_up(number);
        }
    }

    fn warn(&self, topic: &str, why: &str) {
        let (topic, why) = (&*text::line(topic), &*text::line(why));
        event(|| tracing::warn!(topic, why, "the messages of a publisher cannot be copied"));
    }
}

//! [`Dropped`]: messages for which there was no room.

use std::collections::BTreeMap;

use blockcast_bridge_core::Origin;

use crate::message::Incoming;
use crate::relays::REMEMBERED;

/// Messages that were dropped, and for which nothing that was kept has come since.
///
/// If something of the publisher has arrived before, the next message shows the gap. If nothing has, its
/// number alone would look like that of a publisher that was joined late.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Messages of clients that are not bridges. Theirs have no numbers.
    others: u64,
    /// The position of each publisher's first one. If there are too many publishers, the others are not
    /// known.
    first: BTreeMap<(Origin, u64), u64>,
}

impl Dropped {
    /// Tells a message what was dropped before it. It must be kept, or else be [added](Self::add).
    pub(crate) fn tell(&mut self, message: &mut Incoming) {
        match message.remote() {
            None => message.missing = std::mem::take(&mut self.others),
            Some(publisher) => message.dropped = self.first.remove(&publisher),
        }
    }

    /// A message is dropped, too.
    pub(crate) fn add(&mut self, message: &Incoming) {
        match message.attachment {
            None => self.others = message.missing + 1,
            Some(_) if self.first.len() >= REMEMBERED => {}
            Some(attachment) => {
                let publisher = (attachment.origin, attachment.publisher);
                self.first.insert(publisher, message.dropped.unwrap_or(attachment.sequence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use blockcast_bridge_core::Attachment;
    use zenoh::bytes::ZBytes;

    use super::*;

    fn message(attachment: Option<Attachment>) -> Incoming {
        Incoming::new(attachment, ZBytes::new()).expect("no batch")
    }

    fn of(publisher: u64, sequence: u64) -> Incoming {
        message(Some(Attachment::message(Origin::new(1), publisher, sequence)))
    }

    #[test]
    fn the_next_message_is_told_once_what_was_dropped_before_it() {
        let mut dropped = Dropped::default();
        let mut told = |mut message: Incoming, is_kept: bool| {
            dropped.tell(&mut message);
            if !is_kept {
                dropped.add(&message);
            }
            (message.missing, message.dropped)
        };
        assert_eq!(told(of(1, 4), true), (0, None));
        assert_eq!(told(of(1, 5), false), (0, None));
        assert_eq!(told(of(2, 7), false), (0, None));
        assert_eq!(told(of(1, 6), false), (0, Some(5)));
        assert_eq!(told(of(1, 7), true), (0, Some(5)));
        assert_eq!(told(of(1, 8), true), (0, None));
        assert_eq!(told(of(2, 9), true), (0, Some(7)));
        assert_eq!(told(message(None), false), (0, None));
        assert_eq!(told(message(None), false), (1, None));
        assert_eq!(told(message(None), true), (2, None));
        assert_eq!(told(message(None), true), (0, None));
    }

    #[test]
    fn there_is_a_limit_for_publishers() {
        let mut dropped = Dropped::default();
        for publisher in 0..2 * REMEMBERED as u64 {
            dropped.add(&of(publisher, 3));
        }
        assert_eq!(dropped.first.len(), REMEMBERED);
    }
}

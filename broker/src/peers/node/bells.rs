//! The [`Bells`] of a node: one for each process with which it shares a channel.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use blockcast_blocks::{Bell, Channel};

use crate::peers::poller::{Poller, Token};

/// This process's ends of bells, each with the channel that it is for.
#[derive(Debug)]
pub(super) struct Bells {
    poller: Arc<Poller>,
    ends: BTreeMap<u64, (Bell, Weak<Channel>)>,
    next: u64,
}

impl Bells {
    /// Numbers bells from `first` on.
    pub(super) fn new(poller: Arc<Poller>, first: u64) -> Self {
        Self { poller, ends: BTreeMap::new(), next: first }
    }

    /// Answers a bell until it is [removed](Self::remove). Returns its number.
    pub(super) fn add(&mut self, bell: Bell, channel: &Arc<Channel>) -> io::Result<u64> {
        let number = self.next;
        self.poller.add(&bell, Token::Bell(number))?;
        self.next += 1;
        self.ends.insert(number, (bell, Arc::downgrade(channel)));
        Ok(number)
    }

    /// Stops answering a bell.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some((bell, _)) = self.ends.remove(&number) {
            self.poller.remove(&bell);
        }
    }

    /// Passes a ring on to the channel.
    pub(super) fn rang(&mut self, number: u64) {
        let Some((bell, channel)) = self.ends.get(&number) else { return };
        let is_useless = !bell.drain() && bell.is_hung_up();
        if let Some(channel) = channel.upgrade() {
            channel.bell_rang();
        }
        // A pidfd, or the host, says why.
        if is_useless {
            self.remove(number);
        }
    }
}

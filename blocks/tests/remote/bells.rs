//! The thread that answers bells.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use blockcast_blocks::{Bell, Channel};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Answers the bells of a channel until it is dropped.
pub struct BellThread {
    stop: Bell,
    thread: Option<JoinHandle<()>>,
}

impl BellThread {
    /// Passes every ring at one of the ends on to `channel`.
    pub fn start(bells: Vec<Bell>, channel: &Arc<Channel>) -> Self {
        let (stop, stopped) = Bell::pair().expect("descriptors are left");
        let channel = Arc::downgrade(channel);
        Self { stop, thread: Some(thread::spawn(move || answer(bells, &stopped, &channel))) }
    }
}

fn answer(mut bells: Vec<Bell>, stopped: &Bell, channel: &Weak<Channel>) {
    while !stopped.drain() {
        let mut events: Vec<_> = [stopped]
            .into_iter()
            .chain(&bells)
            .map(|bell| PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(other) => panic!("poll: {other}"),
        }
        drop(events);
        bells.retain(|bell| bell.drain() || !bell.is_hung_up());
        if let Some(channel) = channel.upgrade() {
            channel.bell_rang();
        }
    }
}

impl Drop for BellThread {
    fn drop(&mut self) {
        self.stop.ring();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread of the bells does not panic");
        }
    }
}

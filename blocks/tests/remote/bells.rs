//! The thread that answers a process's bell.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use blockcast_blocks::{Bell, Channel};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Answers a bell until it is dropped.
pub struct BellThread {
    bell: Bell,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BellThread {
    /// Passes every ring of `bell` on to `channel`.
    pub fn start(bell: Bell, channel: &Arc<Channel>) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let (rings, channel, stopped) = (bell.clone(), Arc::downgrade(channel), Arc::clone(&stops));
        let thread = thread::spawn(move || answer(&rings, &channel, &stopped));
        Self { bell, stops, thread: Some(thread) }
    }
}

fn answer(bell: &Bell, channel: &Weak<Channel>, stops: &AtomicBool) {
    while !stops.load(Ordering::Acquire) {
        let mut events = [PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(other) => panic!("poll: {other}"),
        }
        bell.drain();
        if let Some(channel) = channel.upgrade() {
            channel.bell_rang();
        }
    }
}

impl Drop for BellThread {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread of the bell does not panic");
        }
    }
}

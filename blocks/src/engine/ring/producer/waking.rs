//! How a [`Producer`] wakes the subscribers of all processes, and waits for them.
//!
//! A subscriber of another process announces that it waits in its annex, then checks once more. The
//! publisher publishes, then reads the announcement. Like an
//! [event count](crate::engine::wake::event_count), it has two modes:
//!
//! - *quiet*: the publisher does not fence between the two. A waiter makes a barrier that reaches it, which
//!   costs the waiter up to 6 µs, and interrupts all running threads.
//! - *fenced*: somebody waited lately. The publisher fences, and so does the waiter.
//!
//! The publisher alone changes the mode. A waiter reads it behind its fence. When the publisher becomes
//! quiet, it stores the mode, fences, and looks for announcements once more: a waiter that read the old mode
//! made its own before that.

use std::sync::Arc;

use super::Producer;
use crate::engine::wake::rung::Rings;
use crate::engine::wake::signal::Signal;
use crate::engine::wake::watch::{self, WatchList};
use crate::primitive::{Ordering, essential, fence, machine_barrier, reachable_by_barriers};

/// Messages without a waiter after which the publisher becomes quiet.
const MESSAGES_TO_QUIET: u32 = if cfg!(loom) { 2 } else { 1024 };

/// The mode, as the publisher knows it.
#[derive(Debug, Default)]
pub(super) struct Fenced {
    is_on: bool,
    /// Messages without a waiter.
    messages: u32,
}

impl Producer {
    /// Whether somebody in this process waits for the published message and must be woken. Checks behind a
    /// fence. Wakes those who wait in other processes.
    #[cold]
    pub(crate) fn wakes(&mut self) -> bool {
        let (remote, here) = self.control.header().state.messages.kinds_of_waiters();
        if remote {
            self.notice_annexes();
            self.wake_annexes();
        }
        here && self.control.header().state.messages.waiter_behind_fence(&mut self.rounds)
    }

    /// Whether nobody of any process waits for what was published. If that takes a fence to find out, this
    /// returns `false`, and the caller calls [`wakes`](Self::wakes). A publisher that is quiet calls this for
    /// every message while other processes take part: a few loads of words that do not change meanwhile.
    #[inline(always)]
    pub(crate) fn nobody_waits(&self) -> bool {
        // Behind the light barrier in `may_have_waiters`, as all of these loads must be.
        let state = &self.control.header().state;
        !essential!(quiet_shortcut, self.fenced.is_on, false)
            && essential!(shortcut_here, state.messages.is_remote_only(), true)
            // Ordering: Relaxed, as in `notice_annexes`.
            && essential!(
                shortcut_version,
                state.annexes.load(Ordering::Relaxed) == self.annex_version,
                true
            )
            && self.annexes.iter().all(|annex| essential!(shortcut_waits, !annex.has_new_waits(), true))
    }

    fn wake_annexes(&mut self) {
        if self.fenced.is_on {
            // Ordering: pairs with the fence in `Control::arm_remotely`: either we see the announcement, or
            // the waiter sees the message when it checks once more.
            essential!(remote_notifier_fence, fence(Ordering::SeqCst));
        }
        if self.answer_annexes() {
            self.begin_to_fence();
        } else if self.fenced.is_on {
            self.fenced.messages += 1;
            if self.fenced.messages >= MESSAGES_TO_QUIET {
                self.become_quiet();
            }
        }
    }

    fn begin_to_fence(&mut self) {
        self.fenced.messages = 0;
        if !self.fenced.is_on {
            self.fenced.is_on = true;
            // Ordering: Release pairs with the Acquire of a waiter, which then sees all messages that were
            // published without a fence.
            self.control.header().remote.fenced.store(1, Ordering::Release);
        }
    }

    #[cold]
    fn become_quiet(&mut self) {
        self.fenced.is_on = false;
        self.control.header().remote.fenced.store(0, Ordering::Relaxed);
        // Ordering: pairs with the fence in `Control::arm_remotely`: either the waiter sees that it must make
        // a barrier, or we see its announcement.
        essential!(become_quiet_fence, fence(Ordering::SeqCst));
        if self.answer_annexes() {
            self.begin_to_fence();
        }
    }

    /// Wakes those who have begun to wait in other processes. Returns whether there are any.
    fn answer_annexes(&self) -> bool {
        let rung = &self.control.header().remote.rung;
        let (mut threads, mut bells) = (false, false);
        for annex in &self.annexes {
            let Some(wakers) = annex.new_waits() else { continue };
            // Again for every process. A thread of this one may have received the message, seen the change
            // for another process, and begun to wait for the next message: that wait counts as answered now.
            if essential!(rung_again, true, !threads && !bells) {
                rung.raise();
            }
            threads |= wakers.threads;
            bells |= wakers.bell;
            reachable_by_barriers();
        }
        if threads {
            // The threads of all processes, at once.
            essential!(wake_sleepers, rung.wake_threads());
        }
        if bells {
            self.annexes.iter().for_each(|annex| annex.ring_if_due());
        }
        threads || bells
    }

    /// Announces that the publisher, the party of `signal`, is about to wait for a block, to subscribers of
    /// all processes. If a thread waits, it sleeps on the counters of the other processes, which are added to
    /// its `list`. Returns `false` if the system refused a barrier that this takes: see
    /// [`EventCount::arm`](crate::engine::wake::event_count::EventCount::arm).
    ///
    /// A process that is attached later wakes the party.
    #[must_use]
    pub(crate) fn arm_for_space(&mut self, list: Option<&mut WatchList>, signal: &Arc<Signal>) -> bool {
        self.notice_annexes();
        let header = self.control.header();
        let sources = self.annexes.iter().map(|annex| Arc::clone(annex) as Arc<dyn Rings>);
        watch::announce(&header.remote.space_armed, sources, list, signal, || {
            // Ordering: pairs with the light barrier in `Control::released`, in another process.
            header.space.arm()
                && (self.annexes.is_empty() || essential!(remote_space_barrier, machine_barrier()))
        })
    }
}

//! How waiting parties are woken: a thread directly, all others by the bell.

use std::task::{Context, Poll, Wake};
use std::time::{Duration, Instant};

use super::*;
use crate::engine::wake::park;
use crate::sys::futex;

/// Polls with this thread's own waker until `ready`. Calls `act` once it is about to sleep. Returns how often
/// it polled.
fn sleep(mut ready: impl FnMut(&mut Context<'_>) -> bool, mut act: impl FnMut()) -> u32 {
    let mut polls = 0;
    park::until(Some(Instant::now() + Duration::from_secs(100)), |cx| {
        polls += 1;
        if ready(cx) {
            return Poll::Ready(());
        }
        act();
        Poll::Pending
    })
    .expect("it is woken");
    polls
}

/// Whether threads are woken by the bell, because the system cannot put them to sleep on several words.
fn bell_wakes_threads() -> bool {
    !futex::waits_on_several()
}

/// A waker that wakes the same thread, like those of futures that poll only their woken parts.
struct Wrapped(Waker);

impl Wake for Wrapped {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

#[test]
fn a_message_wakes_a_thread_directly_and_other_wakers_by_the_bell() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    pair.bell.drain();
    for wakes in 1..4 {
        let polls = sleep(
            |cx| reader.poll_ready(cx).is_ready(),
            || pair.writer_publishes_and_the_bell_rings(bell_wakes_threads()),
        );
        assert_eq!((polls, pair.wakes()), (2, 2 * wakes - 1));
        drop(reader.receive().unwrap());

        let wrapped = |cx: &mut Context<'_>| Waker::from(Arc::new(Wrapped(cx.waker().clone())));
        let polls = sleep(
            |cx| reader.poll_ready(&mut Context::from_waker(&wrapped(cx))).is_ready(),
            || pair.writer_publishes_and_the_bell_rings(true),
        );
        assert_eq!((polls, pair.wakes()), (2, 2 * wakes));
        drop(reader.receive().unwrap());
    }
}

impl Pair {
    /// Returns how often the only subscriber was woken.
    fn wakes(&self) -> u64 {
        self.remote.stats().subscribers[0].wakes
    }

    /// Publishes, and answers the bell.
    fn writer_publishes_and_the_bell_rings(&mut self, rings: bool) {
        self.publish(b"a message").unwrap();
        assert_eq!(self.bell.drain(), rings);
        if rings {
            self.remote.bell_rang();
        }
    }
}

#[test]
fn a_release_wakes_a_publishers_thread_directly_and_other_wakers_by_the_bell() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    assert_eq!(pair.fill(), BLOCKS);
    pair.publisher_bell.drain();
    let Pair { writer, publisher_bell, .. } = &mut pair;
    let channel = Arc::clone(writer.channel());
    for wakes in 1..4 {
        let polls = sleep(
            |cx| writer.poll_loanable(cx, 1).is_ready(),
            || {
                drop(reader.receive().unwrap());
                assert_eq!(publisher_bell.drain(), bell_wakes_threads());
                if bell_wakes_threads() {
                    channel.bell_rang();
                }
            },
        );
        assert_eq!((polls, channel.stats().wakes), (2, wakes));
        writer.try_loan(1).unwrap().publish(1).unwrap();
    }
    let mut noop = Context::from_waker(Waker::noop());
    assert!(writer.poll_loanable(&mut noop, 1).is_pending());
    drop(reader.receive().unwrap());
    assert!(publisher_bell.drain());
}

#[test]
fn the_end_and_a_death_wake_a_thread() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    let mut writer = Some(pair.writer);
    assert_eq!(sleep(|cx| reader.poll_ready(cx).is_ready(), || drop(writer.take())), 2);
    assert_eq!(reader.receive().unwrap_err(), ReceiveError::Ended);

    pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    assert_eq!(sleep(|cx| reader.poll_ready(cx).is_ready(), || pair.remote.publisher_is_gone()), 2);
    assert_eq!(reader.receive().unwrap_err(), ReceiveError::Ended);

    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let _reader = pair.join(Overflow::Block);
    assert_eq!(pair.fill(), BLOCKS);
    let (channel, annex) = (Arc::clone(pair.writer.channel()), pair.annex);
    let polls = sleep(|cx| pair.writer.poll_loanable(cx, 1).is_ready(), || drop(channel.detach(annex)));
    assert_eq!(polls, 2);
}

#[test]
fn a_thread_that_cannot_sleep_on_several_words_is_woken_by_the_bell() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    futex::while_refused(|| {
        let polls =
            sleep(|cx| reader.poll_ready(cx).is_ready(), || pair.writer_publishes_and_the_bell_rings(true));
        assert_eq!(polls, 2);
        pair.fill();
        pair.publisher_bell.drain();
        let channel = Arc::clone(pair.writer.channel());
        let polls = sleep(
            |cx| pair.writer.poll_loanable(cx, 1).is_ready(),
            || {
                drop(reader.receive().unwrap());
                assert!(pair.publisher_bell.drain());
                channel.bell_rang();
            },
        );
        assert_eq!(polls, 2);
    });
}

#[test]
fn beyond_the_words_that_a_thread_can_sleep_on_the_bell_wakes_it() {
    let watched = futex::MAX_WORDS - 1;
    let mut pairs: Vec<_> =
        (0..watched + 2).map(|_| Pair::new(&AnnexTerms::default(), Trust::Shared)).collect();
    let mut readers: Vec<_> = pairs.iter().map(|pair| pair.join(Overflow::Block)).collect();
    for index in [0, 1, watched - 1, watched, watched + 1, 0] {
        let ready = |cx: &mut Context<'_>| {
            readers.iter_mut().map(|reader| reader.poll_ready(cx)).filter(Poll::is_ready).count() > 0
        };
        let rings = index >= watched || bell_wakes_threads();
        let polls = sleep(ready, || pairs[index].writer_publishes_and_the_bell_rings(rings));
        assert_eq!(polls, 2);
        drop(readers[index].receive().unwrap());
    }
}

#[test]
fn a_party_that_is_not_polled_again_is_still_woken() {
    let mut pairs = [(); 2].map(|()| Pair::new(&AnnexTerms::default(), Trust::Shared));
    let mut readers = pairs.each_ref().map(|pair| pair.join(Overflow::Block));
    let [first, second] = &mut pairs;
    let mut acts = 0;
    let mut polls = 0;
    sleep(
        |cx| {
            polls += 1;
            match polls {
                1 => readers.iter_mut().any(|reader| reader.poll_ready(cx).is_ready()),
                // Only the one that has something to do.
                2 => readers[1].poll_ready(cx).is_ready() && readers[1].receive().is_err(),
                _ => readers[0].poll_ready(cx).is_ready(),
            }
        },
        || {
            acts += 1;
            let wakes = if acts == 1 { &mut *second } else { &mut *first };
            wakes.writer_publishes_and_the_bell_rings(bell_wakes_threads());
        },
    );
    assert_eq!((acts, polls), (2, 3));
}

#[test]
fn a_wait_inside_of_a_poll_does_not_forget_the_outer_one() {
    let mut pairs = [(); 2].map(|()| Pair::new(&AnnexTerms::default(), Trust::Shared));
    let mut readers = pairs.each_ref().map(|pair| pair.join(Overflow::Block));
    let [outer, inner] = &mut pairs;
    let [outer_reader, inner_reader] = &mut readers;
    let mut polls = 0;
    sleep(
        |cx| {
            let is_ready = outer_reader.poll_ready(cx).is_ready();
            if !is_ready && polls == 0 {
                polls += 1;
                let waker = cx.waker().clone();
                sleep(
                    |cx| inner_reader.poll_ready(cx).is_ready(),
                    || {
                        // Wakes the outer one, while the inner one waits.
                        waker.wake_by_ref();
                        inner.writer_publishes_and_the_bell_rings(bell_wakes_threads());
                    },
                );
                outer.writer_publishes_and_the_bell_rings(bell_wakes_threads());
            }
            is_ready
        },
        || {},
    );
}

#[test]
fn a_bell_wakes_only_those_for_whom_it_was_rung() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let mut reader = pair.join(Overflow::Block);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reader.poll_ready(&mut cx).is_pending());
    pair.remote.bell_rang();
    assert_eq!(pair.wakes(), 0, "the bell of the process rang for another channel");
    pair.publish(b"1").unwrap();
    pair.remote.bell_rang();
    assert_eq!(pair.wakes(), 1);
    let channel = Arc::clone(pair.writer.channel());
    channel.bell_rang();
    pair.fill();
    assert!(pair.writer.poll_loanable(&mut cx, 1).is_pending());
    channel.bell_rang();
    assert_eq!(channel.stats().wakes, 0);
    drop(reader.receive().unwrap());
    channel.bell_rang();
    assert_eq!(channel.stats().wakes, 1);
}

#[test]
fn a_publisher_that_goes_on_waiting_lets_go_of_a_process_that_was_detached() {
    let mut pair = Pair::new(&AnnexTerms::default(), Trust::Shared);
    let here = pair.writer.channel().join(&Schema::named("test"), options(Overflow::Block), Signal::new());
    let mut here = here.unwrap();
    let _there = pair.join(Overflow::Block);
    pair.fill();
    let channel = Arc::clone(pair.writer.channel());
    let mut annex = None;
    channel.control().annexes().unwrap().each(|attached| annex = Some(Arc::downgrade(attached)));
    let annex = annex.unwrap();
    let mut acts = 0;
    sleep(
        |cx| pair.writer.poll_loanable(cx, 1).is_ready(),
        || {
            acts += 1;
            if acts == 1 {
                drop(channel.detach(pair.annex));
            } else {
                assert_eq!(annex.strong_count(), 0, "its file is closed");
                drop(here.receive().unwrap());
            }
        },
    );
    assert_eq!(acts, 2);
}

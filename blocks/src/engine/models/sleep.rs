//! Waiters and those who wake them, in two processes. Threads sleep on the other process's counter, and tasks
//! until the bell rings. Who sleeps, really sleeps, so that a lost wake-up is a deadlock, which loom reports.

use std::sync::Arc;
use std::task::Waker;

use loom::thread;

use super::ring::{Met, Receiver, Ring};
use crate::engine::remote::{AnnexTerms, Bell};
use crate::engine::ring::consumer::{Consumer, Pace};
use crate::engine::segment::control::Control;
use crate::engine::wake::armed::Wakers;
use crate::engine::wake::parker::Parker;
use crate::engine::wake::rung::{Rings, Rung};
use crate::engine::wake::signal::Signal;
use crate::engine::wake::watch::WatchList;
use crate::primitive::{
    AtomicU32, Ordering, interruptible, offline, reachable_by_barriers, with_process_wide_barrier,
};

/// The publisher, as a thread of the other process knows it.
#[derive(Debug)]
struct Publisher(Control);

impl Rings for Publisher {
    fn rung(&self) -> &Rung {
        &self.0.header().remote.rung
    }

    fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

/// A thread that waits, as [`until`](crate::park::until) does.
struct Sleeper {
    parker: Arc<Parker>,
    waker: Waker,
    list: WatchList,
    signal: Arc<Signal>,
}

impl Sleeper {
    fn new() -> Self {
        let parker = Arc::new(Parker::new());
        let (waker, signal) = (Waker::from(Arc::clone(&parker)), Signal::new());
        Self { parker, waker, list: WatchList::default(), signal }
    }

    /// Checks until there is a result. Before it sleeps, `arm` announces that.
    fn sleep<S, T>(
        &mut self,
        state: &mut S,
        mut check: impl FnMut(&mut S) -> Option<T>,
        mut arm: impl FnMut(&mut S, &mut WatchList, &Arc<Signal>) -> bool,
    ) -> T {
        loop {
            self.list.remove_changed(&self.waker);
            if let Some(result) = check(state) {
                return result;
            }
            self.signal.register(&self.waker);
            assert!(arm(state, &mut self.list, &self.signal));
            if let Some(result) = check(state) {
                return result;
            }
            self.parker.park(&self.list, None);
        }
    }
}

/// A subscriber of another process that has joined.
struct Subscriber {
    control: Control,
    receiver: Receiver,
    source: Arc<Publisher>,
}

impl Subscriber {
    /// The only one of its process, whose bell is `bell`.
    fn join(ring: &Ring, bell: &Bell) -> Self {
        let (control, side) = ring.open(&Bell::new());
        ring.control.attach(side, AnnexTerms::default(), bell.clone());
        let consumer = Consumer::join(&control, 0, Pace::Reliable, 0).expect("a barrier");
        let receiver = Receiver { consumer, cells: ring.cells.clone() };
        let source = Arc::new(Publisher(control.clone()));
        Self { control, receiver, source }
    }

    fn is_ready(&mut self) -> bool {
        self.receiver.consumer.is_ready()
    }

    fn arm(&mut self, list: &mut WatchList, signal: &Arc<Signal>) -> bool {
        let source = Arc::clone(&self.source) as Arc<dyn Rings>;
        self.control.arm_remotely(source, Some(list), signal)
    }

    /// Sleeps until there is a message, and receives it.
    fn receive(&mut self, sleeper: &mut Sleeper) {
        sleeper.sleep(self, |subscriber| subscriber.is_ready().then_some(()), Self::arm);
        assert!(matches!(self.receiver.receive(), Met::Message(_)));
    }
}

/// Publishes to other processes only.
fn publish(ring: &mut Ring) {
    // A waiter may have made its barrier before.
    reachable_by_barriers();
    let unit = ring.take_block().expect("as many blocks as messages");
    assert!(!ring.publish_block(unit), "nobody of this process sleeps");
}

#[test]
fn sleep_of_a_thread_ends_with_every_message_of_another_process() {
    with_process_wide_barrier(|| {
        loom::model(|| {
            const MESSAGES: u64 = 2;
            let mut ring = Ring::new(2, 1, 0);
            let mut subscriber = Subscriber::join(&ring, &Bell::new());
            let sleeper = thread::spawn(move || {
                let mut sleeper = Sleeper::new();
                for _ in 0..MESSAGES {
                    subscriber.receive(&mut sleeper);
                }
            });
            for _ in 0..MESSAGES {
                publish(&mut ring);
            }
            offline();
            sleeper.join().unwrap();
        });
    });
}

/// Threads of two processes sleep, and one wake-up reaches both.
#[test]
fn sleep_of_threads_of_two_processes_ends_with_one_message() {
    with_process_wide_barrier(|| {
        loom::model(|| {
            let mut ring = Ring::new(2, 1, 0);
            let sleepers = [(); 2].map(|()| {
                let mut subscriber = Subscriber::join(&ring, &Bell::new());
                thread::spawn(move || subscriber.receive(&mut Sleeper::new()))
            });
            publish(&mut ring);
            offline();
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
        });
    });
}

/// A thread begins to wait for the second message while the publisher answers the wait of another process for
/// the first one.
#[test]
fn sleep_that_begins_while_another_process_is_woken_ends() {
    with_process_wide_barrier(|| {
        loom::model(|| {
            let mut ring = Ring::new(4, 1, 0);
            let other = Subscriber::join(&ring, &Bell::new());
            other.control.side().words().waiting.armed.announce(Wakers { threads: true, bell: false });
            let mut subscriber = Subscriber::join(&ring, &Bell::new());
            let sleeper = thread::spawn(move || {
                let mut sleeper = Sleeper::new();
                for _ in 0..2 {
                    subscriber.receive(&mut sleeper);
                }
            });
            for _ in 0..2 {
                publish(&mut ring);
            }
            offline();
            sleeper.join().unwrap();
        });
    });
}

/// A publisher that has woken another process lately fences, and becomes quiet after two messages without a
/// waiter.
fn wakes_lately(messages: u64) {
    with_process_wide_barrier(|| {
        loom::model(move || {
            let mut ring = Ring::new(4, 1, 0);
            let mut subscriber = Subscriber::join(&ring, &Bell::new());
            let armed = &subscriber.control.side().words().waiting.armed;
            armed.announce(Wakers { threads: true, bell: false });
            publish(&mut ring);
            let sleeper = thread::spawn(move || {
                let mut sleeper = Sleeper::new();
                for _ in 0..messages {
                    subscriber.receive(&mut sleeper);
                }
            });
            for _ in 1..messages {
                publish(&mut ring);
            }
            offline();
            sleeper.join().unwrap();
        });
    });
}

#[test]
fn sleep_while_the_publisher_fences_ends() {
    wakes_lately(2);
}

#[test]
fn sleep_while_the_publisher_becomes_quiet_ends() {
    wakes_lately(4);
}

/// A thread waits for a message of another process, and for something of its own, such as the news that the
/// other one has ended.
#[test]
fn sleep_of_a_thread_on_another_process_ends_with_its_own_waker_too() {
    with_process_wide_barrier(|| {
        loom::model(|| {
            let mut ring = Ring::new(2, 1, 0);
            let mut subscriber = Subscriber::join(&ring, &Bell::new());
            let mut sleeper = Sleeper::new();
            let news = Arc::new(AtomicU32::new(0));
            let teller = {
                let (news, signal) = (Arc::clone(&news), Arc::clone(&sleeper.signal));
                thread::spawn(move || {
                    news.store(1, Ordering::Release);
                    signal.wake();
                })
            };
            let waiter = thread::spawn(move || {
                let has_all = |subscriber: &mut Subscriber| {
                    (news.load(Ordering::Acquire) == 1 && subscriber.is_ready()).then_some(())
                };
                sleeper.sleep(&mut subscriber, has_all, Subscriber::arm);
            });
            publish(&mut ring);
            offline();
            teller.join().unwrap();
            waiter.join().unwrap();
        });
    });
}

/// Without a thread's list, as in a task. A thread of that process answers its bell.
#[test]
fn sleep_of_a_task_ends_with_every_message_of_another_process() {
    with_process_wide_barrier(|| {
        loom::model(|| {
            const MESSAGES: u64 = 2;
            let mut ring = Ring::new(2, 1, 0);
            let bell = Bell::new();
            let Subscriber { control, mut receiver, source } = Subscriber::join(&ring, &bell);
            let sleeper = thread::spawn(move || {
                let signal = Signal::new();
                let mut received = 0;
                while received < MESSAGES {
                    match receiver.receive() {
                        Met::Message(_) => received += 1,
                        _ => {
                            let source = Arc::clone(&source) as Arc<dyn Rings>;
                            assert!(control.arm_remotely(source, None, &signal));
                            if !receiver.consumer.is_ready() {
                                bell.wait();
                            }
                        }
                    }
                }
            });
            for _ in 0..MESSAGES {
                publish(&mut ring);
            }
            offline();
            sleeper.join().unwrap();
        });
    });
}

/// A publisher that waits for the blocks of a subscriber of another process: as a thread, or as a task.
fn publisher_waits(sleeps_on_counters: bool) {
    with_process_wide_barrier(|| {
        loom::model(move || {
            let mut ring = Ring::new(2, 1, 0);
            let bell = Bell::new();
            let (control, side) = ring.open(&bell);
            ring.control.attach(side, AnnexTerms::default(), Bell::new());
            let consumer = Consumer::join(&control, 0, Pace::Reliable, 0).expect("a barrier");
            let mut receiver = Receiver { consumer, cells: ring.cells.clone() };
            assert!(ring.publish() && ring.publish());
            let subscriber = thread::spawn(move || {
                interruptible();
                for sequence in 0..2 {
                    // The publisher may have made its barriers before: one for each kind of subscriber.
                    reachable_by_barriers();
                    reachable_by_barriers();
                    assert_eq!(receiver.take(), Met::Message(sequence));
                    assert!(!receiver.consumer.release(sequence + 1), "it wakes the publisher itself");
                }
                offline();
            });
            let mut sleeper = Sleeper::new();
            // The second time, subscribers of this process would need no barrier any more.
            for _ in 0..2 {
                if sleeps_on_counters {
                    let arm = |ring: &mut Ring, list: &mut WatchList, signal: &Arc<Signal>| {
                        ring.producer.arm_for_space(Some(list), signal)
                    };
                    sleeper.sleep(&mut ring, Ring::take_block, arm);
                    continue;
                }
                while ring.take_block().is_none() {
                    assert!(ring.producer.arm_for_space(None, &sleeper.signal));
                    if ring.take_block().is_some() {
                        break;
                    }
                    bell.wait();
                }
            }
            subscriber.join().unwrap();
        });
    });
}

#[test]
fn sleep_of_a_publishers_thread_ends_with_a_release_in_another_process() {
    publisher_waits(true);
}

#[test]
fn sleep_of_a_publishers_task_ends_with_a_release_in_another_process() {
    publisher_waits(false);
}

//! Threads that sleep until another process wakes them.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use blockcast_blocks::{
    AnnexId, Bytes, Channel, LoanError, Payload, Reader, ReaderOptions, ReceiveError, Signal, channel, park,
};

use crate::bells::BellThread;
use crate::messages;
use crate::other_process::{OtherProcess, Socket};
use crate::{attach, config, open_unanswered, publish};

/// Long enough that a test which waits for it has failed.
const FOREVER: Duration = Duration::from_secs(100);

fn join(channel: &Arc<Channel>) -> Reader {
    channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new()).expect("there is a seat")
}

/// Sleeps until there is something to receive, and receives it. `false` at the end.
#[track_caller]
fn receive(reader: &mut Reader, sequence: u64) -> bool {
    let ready = park::until(Some(Instant::now() + FOREVER), |cx| reader.poll_ready(cx));
    assert_eq!(ready, Some(()), "nobody woke this thread for message {sequence}");
    match reader.receive() {
        Ok(message) => messages::check(message.bytes(), sequence),
        Err(ReceiveError::Ended) => return false,
        Err(other) => panic!("{other}"),
    }
    true
}

/// Whether the system has `futex_waitv`. Without it, nobody is woken without a bell, and some tests cannot
/// run.
fn sleeps_on_several_words() -> bool {
    let nothing: *const libc::c_void = std::ptr::null();
    // SAFETY: no words, so the kernel accesses nothing.
    let probed = unsafe { libc::syscall(libc::SYS_futex_waitv, nothing, 0, 0, nothing, 0) };
    let error = std::io::Error::last_os_error();
    assert_eq!(probed, -1);
    if error.raw_os_error() == Some(libc::EINVAL) {
        return true;
    }
    println!("skipped, because of futex_waitv: {error}");
    false
}

/// Attaches the other process without a thread that answers the bell.
fn attach_without_bells(channel: &Channel, socket: &Socket) -> AnnexId {
    attach(channel, socket).0
}

/// Two processes send each other messages in turn. In neither of them does anybody answer the bell.
#[test]
fn threads_of_two_processes_wake_each_other_without_a_bell() {
    const ROUNDS: u64 = 2_000;
    let test = "wakes::threads_of_two_processes_wake_each_other_without_a_bell";
    if Socket::of_this_process().is_none() && !sleeps_on_several_words() {
        return;
    }
    let mut writer = channel(config()).expect("a channel");
    if let Some(socket) = Socket::of_this_process() {
        let (ping, _bell) = open_unanswered(&socket);
        attach_without_bells(writer.channel(), &socket);
        let mut reader = join(&ping);
        socket.send("joined", &[]);
        socket.expect("joined");
        let mut sequence = 0;
        while receive(&mut reader, sequence) {
            publish(&mut writer, sequence);
            sequence += 1;
        }
        return assert_eq!(sequence, ROUNDS);
    }
    let other = OtherProcess::start(test);
    attach_without_bells(writer.channel(), &other.socket);
    let (pong, _bell) = open_unanswered(&other.socket);
    let mut reader = join(&pong);
    other.socket.send("joined", &[]);
    other.socket.expect("joined");
    for sequence in 0..ROUNDS {
        publish(&mut writer, sequence);
        assert!(receive(&mut reader, sequence));
    }
    drop(writer);
    assert!(other.end().success());
    assert!(!receive(&mut reader, ROUNDS), "its end wakes, too");
}

/// The publisher has few blocks, and waits for them nearly all the time.
#[test]
fn a_publishers_thread_is_woken_by_releases_without_a_bell() {
    const MESSAGES: u64 = 10_000;
    let test = "wakes::a_publishers_thread_is_woken_by_releases_without_a_bell";
    if Socket::of_this_process().is_none() && !sleeps_on_several_words() {
        return;
    }
    if let Some(socket) = Socket::of_this_process() {
        let (channel, _bell) = open_unanswered(&socket);
        let mut reader = join(&channel);
        socket.send("joined", &[]);
        let mut sequence = 0;
        while receive(&mut reader, sequence) {
            sequence += 1;
        }
        return assert_eq!(sequence, MESSAGES);
    }
    let mut config = config();
    config.blocks = 2;
    let mut writer = channel(config).expect("a channel");
    let other = OtherProcess::start(test);
    attach_without_bells(writer.channel(), &other.socket);
    other.socket.expect("joined");
    for sequence in 0..MESSAGES {
        let mut loan = writer.loan(messages::LONGEST, Some(Instant::now() + FOREVER)).expect("a block");
        let len = messages::fill(&mut loan, sequence);
        loan.publish(len).expect("it fits");
    }
    drop(writer);
    assert!(other.end().success());
}

/// A publisher waits for a process that is killed, and a subscriber for a publisher that is.
#[test]
fn a_death_that_becomes_known_wakes_the_threads_that_sleep() {
    let test = "wakes::a_death_that_becomes_known_wakes_the_threads_that_sleep";
    if Socket::of_this_process().is_none() && !sleeps_on_several_words() {
        return;
    }
    let mut writer = channel(config()).expect("a channel");
    if let Some(socket) = Socket::of_this_process() {
        // Never receives, never publishes again.
        let (channel, _bell) = open_unanswered(&socket);
        let _reader = join(&channel);
        attach_without_bells(writer.channel(), &socket);
        socket.expect("joined");
        publish(&mut writer, 0);
        socket.receive();
        unreachable!("it is killed");
    }
    let other = OtherProcess::start(test);
    let annex = attach_without_bells(writer.channel(), &other.socket);
    let (remote, _bell) = open_unanswered(&other.socket);
    let mut reader = join(&remote);
    other.socket.send("joined", &[]);
    let channel = Arc::clone(writer.channel());
    let publisher = thread::spawn(move || {
        for sequence in 0..u64::from(config().blocks) + 1 {
            publish(&mut writer, sequence);
        }
    });
    let subscriber = thread::spawn(move || (receive(&mut reader, 0), receive(&mut reader, 1)));
    while remote.stats().subscribers[0].received == 0 || channel.stats().exhausted == 0 {
        thread::yield_now();
    }
    other.kill();
    remote.publisher_is_gone();
    channel.detach(annex);
    publisher.join().expect("all blocks have come back");
    assert_eq!(subscriber.join().expect("no panic"), (true, false));
}

/// One thread waits for more channels than the system can put it to sleep on. A bell wakes it for the rest.
#[test]
fn one_thread_waits_for_more_publishers_than_it_can_sleep_on() {
    const CHANNELS: usize = 140;
    let test = "wakes::one_thread_waits_for_more_publishers_than_it_can_sleep_on";
    if let Some(socket) = Socket::of_this_process() {
        let opened: Vec<_> = (0..CHANNELS).map(|_| open_unanswered(&socket)).collect();
        let _bells: Vec<_> =
            opened.iter().map(|(channel, bell)| BellThread::start(vec![bell.clone()], channel)).collect();
        let mut readers: Vec<_> = opened.iter().map(|(channel, _)| join(channel)).collect();
        socket.send("joined", &[]);
        for round in 0.. {
            let ready = park::until(Some(Instant::now() + FOREVER), |cx| {
                let mut ready = Poll::Pending;
                for (index, reader) in readers.iter_mut().enumerate() {
                    if reader.poll_ready(cx).is_ready() {
                        ready = Poll::Ready(index);
                    }
                }
                ready
            });
            let index = ready.unwrap_or_else(|| panic!("nobody woke this thread in round {round}"));
            if !receive(&mut readers[index], 0) {
                return;
            }
            socket.send(&index.to_string(), &[]);
        }
    }
    let other = OtherProcess::start(test);
    let mut writers: Vec<_> = (0..CHANNELS).map(|_| channel(config()).expect("a channel")).collect();
    for writer in &writers {
        attach_without_bells(writer.channel(), &other.socket);
    }
    other.socket.expect("joined");
    for index in [CHANNELS - 1, 0, CHANNELS - 2, 126, 127, 128, 1, CHANNELS - 3] {
        publish(&mut writers[index], 0);
        other.socket.expect(&index.to_string());
    }
    drop(writers);
    assert!(other.end().success());
}

/// A publisher waits for more processes than the system can put its thread to sleep on.
#[test]
fn a_publisher_waits_for_more_processes_than_it_can_sleep_on() {
    const PROCESSES: usize = 140;
    const MESSAGES: u64 = 20;
    let test = "wakes::a_publisher_waits_for_more_processes_than_it_can_sleep_on";
    if Socket::of_this_process().is_none() && !sleeps_on_several_words() {
        return;
    }
    if let Some(socket) = Socket::of_this_process() {
        // As many that open the channel, in one.
        let opened: Vec<_> = (0..PROCESSES).map(|_| open_unanswered(&socket)).collect();
        let mut readers: Vec<_> = opened.iter().map(|(channel, _)| join(channel)).collect();
        socket.send("joined", &[]);
        for sequence in 0..MESSAGES {
            // Another one is the last each time, since the publisher waits for all of them.
            let last = (sequence as usize * 37) % PROCESSES;
            readers.rotate_left(last);
            for reader in &mut readers {
                assert!(receive(reader, sequence));
            }
            readers.rotate_right(last);
        }
        return;
    }
    let mut config = config();
    config.blocks = 2;
    let mut writer = channel(config).expect("a channel");
    let other = OtherProcess::start(test);
    let bells = (0..PROCESSES).map(|_| attach(writer.channel(), &other.socket).1).collect();
    let _bells = BellThread::start(bells, writer.channel());
    other.socket.expect("joined");
    for sequence in 0..MESSAGES {
        publish(&mut writer, sequence);
    }
    assert!(other.end().success());
}

/// A thread waits at once for a publisher of another process, one of its own, and a deadline.
#[test]
fn a_thread_waits_for_both_processes_at_once_and_until_a_deadline() {
    let test = "wakes::a_thread_waits_for_both_processes_at_once_and_until_a_deadline";
    if Socket::of_this_process().is_none() && !sleeps_on_several_words() {
        return;
    }
    if let Some(socket) = Socket::of_this_process() {
        let mut writer = channel(config()).expect("a channel");
        attach_without_bells(writer.channel(), &socket);
        socket.expect("joined");
        for sequence in 0.. {
            let Some((text, _)) = socket.receive() else { return };
            assert_eq!(text, "publish");
            publish(&mut writer, sequence);
        }
    }
    let other = OtherProcess::start(test);
    let (remote, _bell) = open_unanswered(&other.socket);
    let mut writer = channel(config()).expect("a channel");
    let (mut there, mut here) = (join(&remote), join(writer.channel()));
    other.socket.send("joined", &[]);
    let mut wait = |deadline| {
        park::until(Some(deadline), |cx| {
            let ready = (there.poll_ready(cx).is_ready(), here.poll_ready(cx).is_ready());
            if ready == (false, false) { Poll::Pending } else { Poll::Ready(ready) }
        })
        .inspect(|ready| match ready {
            (true, _) => drop(there.receive().expect("a message")),
            _ => drop(here.receive().expect("a message")),
        })
    };
    assert_eq!(wait(Instant::now() + Duration::from_millis(10)), None);
    for sequence in 0..100 {
        other.socket.send("publish", &[]);
        assert_eq!(wait(Instant::now() + FOREVER), Some((true, false)));
        thread::scope(|scope| {
            scope.spawn(|| publish(&mut writer, sequence));
            assert_eq!(wait(Instant::now() + FOREVER), Some((false, true)));
        });
    }
    assert_eq!(wait(Instant::now() + Duration::from_millis(10)), None);
}

/// A future that polls its parts with wakers of its own, which a wake-up of the thread does not reach.
#[test]
fn futures_that_have_their_own_wakers_are_woken_by_the_bell() {
    use futures::stream::{FuturesUnordered, StreamExt as _};

    const ROUNDS: u64 = 200;
    let test = "wakes::futures_that_have_their_own_wakers_are_woken_by_the_bell";
    if let Some(socket) = Socket::of_this_process() {
        let (channel, bell) = open_unanswered(&socket);
        let _bells = BellThread::start(vec![bell], &channel);
        let mut readers = [join(&channel), join(&channel)];
        socket.send("joined", &[]);
        for sequence in 0..ROUNDS {
            let mut both: FuturesUnordered<_> = readers
                .iter_mut()
                .map(|reader| async move {
                    std::future::poll_fn(|cx| reader.poll_ready(cx)).await;
                    messages::check(reader.receive().expect("a message").bytes(), sequence);
                })
                .collect();
            park::block_on(async { while both.next().await.is_some() {} });
            socket.send("received", &[]);
        }
        return;
    }
    let mut writer = channel(config()).expect("a channel");
    let other = OtherProcess::start(test);
    attach_without_bells(writer.channel(), &other.socket);
    other.socket.expect("joined");
    for sequence in 0..ROUNDS {
        publish(&mut writer, sequence);
        other.socket.expect("received");
    }
    assert!(other.end().success());
}

/// Lets `futex_waitv` fail in this thread and in those that it starts, as on old systems.
fn deny_sleeping_on_several_words() {
    // Load the number of the system call, compare it, return an error or permit the call.
    let filter = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_futex_waitv as u32 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = pin!(libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() });
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its filter live during the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const *program) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_futex_waitv_the_bell_wakes_threads() {
    const ROUNDS: u64 = 500;
    let test = "wakes::without_futex_waitv_the_bell_wakes_threads";
    if Socket::of_this_process().is_none() && !sleeps_on_several_words() {
        return;
    }
    if let Some(socket) = Socket::of_this_process() {
        deny_sleeping_on_several_words();
        let (ping, bell) = open_unanswered(&socket);
        let _bells = BellThread::start(vec![bell], &ping);
        let mut writer = channel(config()).expect("a channel");
        attach_without_bells(writer.channel(), &socket);
        let mut reader = join(&ping);
        socket.send("joined", &[]);
        socket.expect("joined");
        let mut sequence = 0;
        while receive(&mut reader, sequence) {
            publish(&mut writer, sequence);
            sequence += 1;
        }
        return assert_eq!(sequence, ROUNDS);
    }
    let mut writer = channel(config()).expect("a channel");
    let other = OtherProcess::start(test);
    attach_without_bells(writer.channel(), &other.socket);
    let (pong, _bell) = open_unanswered(&other.socket);
    let mut reader = join(&pong);
    other.socket.send("joined", &[]);
    other.socket.expect("joined");
    for sequence in 0..ROUNDS {
        publish(&mut writer, sequence);
        assert!(receive(&mut reader, sequence));
    }
    drop(writer);
    assert!(other.end().success());
}

/// A publisher that waits until a deadline, although a process that it waits for does nothing.
#[test]
fn a_publisher_that_waits_for_another_process_keeps_its_deadline() {
    let test = "wakes::a_publisher_that_waits_for_another_process_keeps_its_deadline";
    if let Some(socket) = Socket::of_this_process() {
        let (channel, _bell) = open_unanswered(&socket);
        let _reader = join(&channel);
        socket.send("joined", &[]);
        socket.receive();
        return;
    }
    let mut writer = channel(config()).expect("a channel");
    let other = OtherProcess::start(test);
    attach_without_bells(writer.channel(), &other.socket);
    other.socket.expect("joined");
    for sequence in 0..u64::from(config().blocks) {
        publish(&mut writer, sequence);
    }
    let deadline = Instant::now() + Duration::from_millis(10);
    assert_eq!(writer.loan(1, Some(deadline)).err(), Some(LoanError::Deadline));
    assert!(Instant::now() >= deadline);
    other.socket.send("end", &[]);
    assert!(other.end().success());
}

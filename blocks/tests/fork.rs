//! A child of `fork` has no part in its parent's channels: what it was left is refused, and changes nothing that the parent sees.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use blockcast_blocks::{
    ChannelConfig, JoinError, LoanError, Overflow, PublisherId, Reader, ReaderOptions, ReceiveError, Schema,
    Sequence, Signal, Writer, channel,
};

fn open() -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
    (config.blocks, config.block_size) = (16, 64);
    channel(config).unwrap()
}

fn join(writer: &Writer, overflow: Overflow) -> Reader {
    let options = ReaderOptions { overflow, ..ReaderOptions::default() };
    writer.channel().join(&Schema::named("test"), options, Signal::new()).unwrap()
}

fn publish(writer: &mut Writer, byte: u8) {
    let mut loan = writer.try_loan(1).unwrap();
    loan[0] = byte;
    loan.publish(1).unwrap();
}

/// Runs `child` in a forked child, and fails if that panics, is ended, or does not end within some minutes.
fn in_forked_child(child: impl FnOnce()) {
    // SAFETY: the child calls code that does not rely on other threads of this process, and ends without returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // What hangs is ended.
        // SAFETY: an alarm of this process, which has no handler for it.
        unsafe { libc::alarm(300) };
        let code = match catch_unwind(AssertUnwindSafe(child)) {
            Ok(()) => 0,
            Err(_) => 1,
        };
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our own child, and a valid place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the child ended with status {status:#x}"
    );
}

#[test]
fn a_child_that_drops_what_it_was_left_does_not_end_the_topic() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    publish(&mut writer, 1);
    let sample = reader.receive_owned().unwrap();
    let (mut writers, mut readers, mut samples) = (Some(writer), Some(reader), Some(sample));
    in_forked_child(|| {
        drop(samples.take());
        drop(readers.take());
        drop(writers.take());
    });
    let (mut writer, mut reader, sample) = (writers.unwrap(), readers.unwrap(), samples.unwrap());
    assert!(!writer.channel().is_closed());
    assert_eq!(writer.subscriber_count(), 1);
    for byte in 2..100 {
        publish(&mut writer, byte);
        assert_eq!(reader.receive().unwrap().bytes(), [byte]);
    }
    assert_eq!(sample.bytes(), [1], "its block was not handed out again");
}

#[test]
fn a_child_that_uses_what_it_was_left_gets_errors_and_the_parent_gets_nothing() {
    let mut writer = open();
    let mut readers: Vec<_> =
        [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest].map(|pace| join(&writer, pace)).into();
    for byte in 1..4 {
        publish(&mut writer, byte);
    }
    // They know of two more messages.
    let samples: Vec<_> = readers.iter_mut().map(|reader| reader.receive_owned().unwrap()).collect();
    in_forked_child(|| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(writer.channel().is_inherited());
        assert_eq!(writer.try_loan(1).unwrap_err(), LoanError::Forked);
        assert_eq!(writer.loan(1, None).unwrap_err(), LoanError::Forked);
        assert_eq!(writer.try_loan(0).unwrap_err(), LoanError::Forked);
        assert!(writer.try_loan_free(0).is_none());
        match writer.poll_loanable(&mut cx, 1) {
            Poll::Ready(Ok(())) => assert_eq!(writer.try_loan(1).unwrap_err(), LoanError::Forked),
            other => assert_eq!(other, Poll::Ready(Err(LoanError::Forked))),
        }
        let joined = writer
            .channel()
            .join(&Schema::named("test"), ReaderOptions::default(), Signal::new())
            .unwrap_err();
        assert_eq!(joined, JoinError::Forked);
        assert_eq!(writer.channel().stats().subscribers, []);
        for reader in &mut readers {
            assert_eq!(reader.receive().unwrap_err(), ReceiveError::Forked);
            assert_eq!(reader.receive_owned().unwrap_err(), ReceiveError::Forked);
            assert_eq!(reader.receive_batch(9).unwrap_err(), ReceiveError::Forked);
            assert_eq!(reader.take().unwrap_err(), ReceiveError::Forked);
            assert_eq!(reader.take_each(9, |_| panic!("nothing is there")), (0, 0));
            assert_eq!(reader.poll_ready(&mut cx), Poll::Ready(()));
            assert_eq!(reader.backlog(), 0);
            assert!(reader.hold(Sequence::new(0)).is_none());
            reader.let_go_of_dropped();
            reader.release_before(Sequence::new(2));
        }
        for sample in &samples {
            let _ = (sample.descriptor(), sample.clone());
            catch_unwind(AssertUnwindSafe(|| sample.bytes().len())).expect_err("its bytes are not here");
        }
    });
    for (reader, sample) in readers.iter_mut().zip(samples) {
        assert_eq!(sample.bytes(), [1]);
        for byte in [2, 3] {
            assert_eq!(reader.receive().unwrap().bytes(), [byte]);
        }
        assert_eq!(reader.receive().unwrap_err(), ReceiveError::Empty);
    }
}

#[test]
fn a_loan_or_a_message_that_is_held_while_the_process_forks_changes_nothing_in_the_child() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    publish(&mut writer, 1);
    let mut message = ManuallyDrop::new(reader.receive().unwrap());
    let mut loan = Some(writer.try_loan(1).unwrap());
    in_forked_child(|| {
        // SAFETY: once, in this process.
        unsafe { ManuallyDrop::drop(&mut message) };
        assert_eq!(loan.take().unwrap().publish(1).unwrap_err(), LoanError::Forked);
    });
    loan.as_mut().unwrap()[0] = 2;
    assert_eq!(message.bytes(), [1]);
    drop(ManuallyDrop::into_inner(message));
    assert_eq!(reader.receive().unwrap_err(), ReceiveError::Empty);
    loan.unwrap().publish(1).unwrap();
    assert_eq!(reader.receive().unwrap().bytes(), [2]);
}

#[test]
fn a_child_has_channels_of_its_own_and_so_has_its_child() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    fn works(generations: u32) {
        let mut writer = open();
        let mut reader = join(&writer, Overflow::DropOldest);
        for byte in 1..100 {
            publish(&mut writer, byte);
            assert_eq!(reader.receive().unwrap().bytes(), [byte]);
        }
        if generations > 0 {
            in_forked_child(|| works(generations - 1));
            publish(&mut writer, 7);
            assert_eq!(reader.receive().unwrap().bytes(), [7]);
        }
        drop(writer);
        assert_eq!(reader.receive().unwrap_err(), ReceiveError::Ended);
    }
    in_forked_child(|| works(2));
    publish(&mut writer, 1);
    assert_eq!(reader.receive().unwrap().bytes(), [1]);
}

#[test]
fn a_program_that_is_started_meanwhile_changes_nothing() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    assert!(std::process::Command::new("true").status().unwrap().success());
    publish(&mut writer, 1);
    assert_eq!(reader.receive().unwrap().bytes(), [1]);
}

#[test]
fn a_process_forks_while_other_threads_make_and_drop_channels() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The threads end even if a child has failed.
        let _stop = StopOnDrop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let writer = open();
                    drop(join(&writer, Overflow::Block));
                }
            });
        }
        for _ in 0..50 {
            in_forked_child(|| {
                let mut writer = open();
                let mut reader = join(&writer, Overflow::Block);
                publish(&mut writer, 1);
                assert_eq!(reader.receive().unwrap().bytes(), [1]);
            });
        }
    });
}

struct StopOnDrop<'s>(&'s std::sync::atomic::AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

//! A forked child has no part in its parent's channels. Using inherited handles fails and changes nothing for
//! the parent.

mod forked;

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use blockcast_blocks::{
    ChannelConfig, JoinError, LoanError, Overflow, PublisherId, Reader, ReaderOptions, ReceiveError, Schema,
    Sequence, Signal, Writer, channel,
};

use forked::in_forked_child;

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

#[test]
fn a_child_that_drops_inherited_handles_does_not_end_the_topic() {
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
fn using_inherited_handles_fails_in_the_child_and_leaves_the_parent_unaffected() {
    let mut writer = open();
    let mut readers: Vec<_> =
        [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest].map(|pace| join(&writer, pace)).into();
    for byte in 1..4 {
        publish(&mut writer, byte);
    }
    // They already know of two more messages.
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
            assert_eq!(reader.receive_descriptor().unwrap_err(), ReceiveError::Forked);
            assert_eq!(reader.receive_descriptors(9, |_| panic!("no message")), (0, 0));
            assert_eq!(reader.poll_ready(&mut cx), Poll::Ready(()));
            assert_eq!(reader.backlog(), 0);
            assert!(reader.hold(Sequence::new(0)).is_none());
            reader.release_dropped();
            reader.release_before(Sequence::new(2));
        }
        for sample in &samples {
            let _ = (sample.descriptor(), sample.clone());
            catch_unwind(AssertUnwindSafe(|| sample.bytes().len()))
                .expect_err("the child cannot access its bytes");
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
fn a_loan_or_message_held_during_a_fork_has_no_effect_in_the_child() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    publish(&mut writer, 1);
    let mut message = ManuallyDrop::new(reader.receive().unwrap());
    let mut loan = Some(writer.try_loan(1).unwrap());
    in_forked_child(|| {
        // SAFETY: the child drops its copy once; the parent drops its own.
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

/// They would look like valid messages without bytes, which are not valid in every layout.
#[test]
fn messages_of_a_batch_held_during_a_fork_cannot_be_read_in_the_child() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    (1..4).for_each(|byte| publish(&mut writer, byte));
    let mut batch = reader.receive_batch(9).unwrap();
    in_forked_child(|| {
        catch_unwind(AssertUnwindSafe(|| batch.iter().count())).expect_err("the child has no messages");
        batch.return_from(1);
    });
    assert!(batch.iter().map(|(_, bytes)| bytes).eq([[1], [2], [3]]));
    batch.return_from(1);
    drop(batch);
    assert_eq!(reader.receive().unwrap().bytes(), [2]);
}

/// Under a sanitizer, this shows whether the sample still has its memory.
#[test]
fn a_child_can_drop_a_reader_before_its_samples() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::DropOldest);
    publish(&mut writer, 1);
    let sample = reader.receive_owned().unwrap();
    let (mut readers, mut samples) = (Some(reader), Some(sample));
    in_forked_child(|| {
        drop(readers.take());
        drop(samples.take());
    });
    drop(readers);
    assert_eq!(samples.unwrap().bytes(), [1]);
}

#[test]
fn a_message_that_a_child_has_published_is_no_free_block_there() {
    let mut writer = open();
    // None is free, so the message would be the first of the free blocks once it is reclaimed.
    let mut loans: Vec<_> = (0..16).map(|_| Some(writer.try_loan(1).unwrap().suspend())).collect();
    in_forked_child(|| {
        for loan in loans.iter_mut().filter_map(Option::take) {
            assert_eq!(writer.resume(loan).unwrap().publish(1).unwrap_err(), LoanError::Forked);
            writer.reclaim();
            assert_eq!(writer.try_loan(1).unwrap_err(), LoanError::Forked);
        }
    });
    let loan = loans[0].take().unwrap();
    writer.resume(loan).unwrap().publish(1).unwrap();
    assert_eq!(writer.try_loan(1).unwrap().len(), 64, "nobody subscribes, so the block has come back");
}

#[test]
fn children_and_grandchildren_can_open_their_own_channels() {
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
fn starting_another_program_changes_nothing() {
    let mut writer = open();
    let mut reader = join(&writer, Overflow::Block);
    assert!(std::process::Command::new("true").status().unwrap().success());
    publish(&mut writer, 1);
    assert_eq!(reader.receive().unwrap().bytes(), [1]);
}

#[test]
fn a_process_can_fork_while_other_threads_create_and_drop_channels() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Stops the threads even if a child fails.
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

//! Publishing and receiving through the table.

use std::thread;

use super::super::super::{Subscription, Writer};
use super::super::runtime::Runtime;
use super::super::types::{Error, answer};
use super::host::{Mock, Outcome};
use crate::abi::{RUN_FAILED, RUN_FINISHED, Status, VALID};
use crate::descriptor::Validity;
use crate::error::{LoanError, ReceiveError};
use crate::options::{ReaderOptions, Reuse, SizeClass, Timestamps, WriterOptions};
use crate::payload::{Bytes, Payload};

fn writer(runtime: &Runtime) -> Result<Writer, String> {
    let options = WriterOptions {
        block_size: 64,
        blocks: 8,
        max_blocks: None,
        larger: vec![SizeClass { block_size: 4096, blocks: 2, max_blocks: 2 }],
        history: 0,
        max_subscribers: 4,
        timestamps: Timestamps::Off,
        reuse: Reuse::Oldest,
        prefault: false,
        relay: false,
    };
    Writer::open(runtime, "topic", &Bytes::schema(), &options, "").map_err(|error| error.to_string())
}

fn subscription(runtime: &Runtime) -> Result<Subscription, String> {
    Subscription::open(runtime, "topic", &Bytes::schema(), ReaderOptions::default(), "")
        .map_err(|error| error.to_string())
}

fn publish(writer: &mut Writer, message: &[u8]) -> Result<(), LoanError> {
    let mut loan = writer.try_loan(message.len())?;
    loan[..message.len()].copy_from_slice(message);
    loan.publish(message.len()).map(drop)
}

/// Runs `app` and gives the host back, having checked that the app finished.
fn finished<F: Future<Output = Outcome>>(mock: Mock, app: impl FnOnce(Runtime) -> F) -> Mock {
    let status = mock.run(app);
    assert_eq!((status, mock.state().failed.as_str()), (RUN_FINISHED, ""));
    mock
}

#[test]
fn errors_are_those_of_the_wit_package_in_its_order() {
    let order = [
        Error::NoStorage,
        Error::Busy,
        Error::WrongSize,
        Error::Internal,
        Error::Denied,
        Error::SchemaMismatch,
        Error::Closed,
        Error::Exhausted,
        Error::TooLarge,
        Error::InvalidPayload,
        Error::InvalidHandle,
        Error::OutOfBounds,
        Error::Limit,
    ];
    assert_eq!(answer(Status::OK), Ok(()));
    for (number, error) in order.into_iter().enumerate() {
        assert_eq!(answer(Status(number as u32 + 1)), Err(error));
    }
    assert_eq!(answer(Status(77)), Err(Error::Internal), "one that comes later");
}

#[test]
fn what_opening_is_refused_with_is_told() {
    let mock = Mock::new();
    mock.state().refuses = Some(Status::DENIED);
    let status = mock.run(async |runtime| subscription(&runtime).map(drop));
    assert_eq!(status, RUN_FAILED);
    assert_eq!(mock.state().failed, "it was not granted to this component");
}

#[test]
fn a_message_takes_one_call_if_the_host_returns_the_next_block() {
    let mock = Mock::new();
    mock.state().returns_next = true;
    let mock = finished(mock, async |runtime| {
        let mut writer = writer(&runtime)?;
        for message in ["one", "two", "three"] {
            publish(&mut writer, message.as_bytes()).map_err(|error| error.to_string())?;
        }
        assert_eq!(writer.next_sequence().get(), 3);
        Ok(())
    });
    let state = mock.state();
    let published = "publisher_publish_block";
    let calls = ["publisher_open", "publisher_loan", published, published, published, "publisher_close"];
    assert_eq!(state.calls, calls);
    assert_eq!(state.published.iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>(), [3, 3, 5]);
    assert_eq!(state.loaned(), 0, "closing the publisher takes the next block back");
}

#[test]
fn a_loan_that_is_dropped_or_refused_goes_back() {
    let mock = finished(Mock::new(), async |runtime| {
        let mut writer = writer(&runtime)?;
        drop(writer.try_loan(0));
        let loan = writer.try_loan(0).map_err(|error| error.to_string())?;
        let longer = loan.publish(65);
        assert_eq!(longer, Err(LoanError::TooLarge { needed: 65, block_size: 64 }));
        Ok(())
    });
    let state = mock.state();
    assert_eq!(state.calls.iter().filter(|call| **call == "memory_block_close").count(), 2);
    assert_eq!((state.free, state.published.len()), (8, 0));
}

#[test]
fn bytes_that_a_builder_vouches_for_are_marked() {
    let mock = finished(Mock::new(), async |runtime| {
        let mut writer = writer(&runtime)?;
        publish(&mut writer, b"bytes").map_err(|error| error.to_string())?;
        let loan = writer.try_loan(1).map_err(|error| error.to_string())?;
        // SAFETY: any bytes are valid ones.
        unsafe { loan.publish_valid(1) }.map(drop).map_err(|error| error.to_string())
    });
    let marks: Vec<_> = mock.state().published.iter().map(|(_, valid)| *valid).collect();
    assert_eq!(marks, [false, true]);
}

#[test]
fn a_loan_grows_into_a_larger_block() {
    finished(Mock::new(), async |runtime| {
        let mut writer = writer(&runtime)?;
        let mut loan = writer.try_loan(0).map_err(|error| error.to_string())?;
        assert_eq!(loan.grow(64), Ok(()));
        assert_eq!(loan.len(), 64);
        assert_eq!(loan.grow(100), Ok(()));
        assert!(loan.len() >= 100);
        assert_eq!(loan.grow(4097), Err(LoanError::TooLarge { needed: 4097, block_size: 4096 }));
        Ok(())
    });
}

#[test]
fn no_free_block_is_an_error_that_passes() {
    let mock = Mock::new();
    mock.state().free = 0;
    let other = &mock;
    thread::scope(|scope| {
        scope.spawn(|| {
            other.until_waiting();
            other.change(|state| state.free = 1);
        });
        let status = other.run(async |runtime| {
            let mut writer = writer(&runtime)?;
            assert_eq!(publish(&mut writer, b"now"), Err(LoanError::Exhausted { blocks: 8 }));
            std::future::poll_fn(|cx| writer.poll_loanable(cx, 0))
                .await
                .map_err(|error| error.to_string())?;
            publish(&mut writer, b"later").map_err(|error| error.to_string())
        });
        assert_eq!(status, RUN_FINISHED);
    });
    assert_eq!(mock.state().published, [(b"later".to_vec(), false)]);
}

#[test]
fn messages_are_read_where_they_lie_and_released() {
    static MESSAGE: &[u8] = b"a message";
    let mock = Mock::new();
    mock.state().incoming.extend([(MESSAGE, 9 | VALID, 0), (b"lost one", 8, 2), (b"", 0, 0)]);
    mock.state().ended = true;
    let mock = finished(mock, async |runtime| {
        let mut subscription = subscription(&runtime)?;
        let message = subscription.receive().map_err(|error| error.to_string())?;
        assert_eq!(message.bytes().as_ptr(), MESSAGE.as_ptr(), "in place");
        assert_eq!((message.validity(), message.publisher().get()), (Validity::Valid, 3));
        drop(message);
        assert_eq!(subscription.receive().err(), Some(ReceiveError::Lost(2)));
        let message = subscription.receive().map_err(|error| error.to_string())?;
        assert_eq!((message.bytes(), message.validity()), (&b"lost one"[..], Validity::Unchecked));
        drop(message);
        assert_eq!(subscription.receive().map(|message| message.bytes().len()), Ok(0));
        assert_eq!(subscription.receive().err(), Some(ReceiveError::Ended));
        assert_eq!((subscription.lost(), subscription.stats().received), (2, 3));
        Ok(())
    });
    let state = mock.state();
    assert_eq!(state.released, 3);
    assert_eq!(state.calls, ["subscription_open", "subscription_poll", "subscription_poll"]);
    assert_eq!(state.subscriptions, 0);
}

#[test]
fn returned_messages_of_a_batch_are_received_next() {
    let mock = Mock::new();
    mock.state().incoming.extend([
        (&b"first"[..], 5, 0),
        (b"second", 6, 0),
        (b"third", 5, 0),
        (b"fourth", 6, 0),
    ]);
    mock.state().ended = true;
    let mock = finished(mock, async |runtime| {
        let mut subscription = subscription(&runtime)?;
        let mut batch = subscription.receive_batch(3).map_err(|error| error.to_string())?;
        assert_eq!(batch.len(), 3);
        batch.return_from(1);
        assert_eq!(batch.iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [b"first"]);
        drop(batch);
        for expected in [&b"second"[..], b"third", b"fourth"] {
            let message = subscription.receive().map_err(|error| error.to_string())?;
            assert_eq!(message.bytes(), expected);
        }
        assert_eq!(subscription.receive().err(), Some(ReceiveError::Ended));
        Ok(())
    });
    assert_eq!(mock.state().released, 4);
}

#[test]
fn a_sample_outlives_its_subscription_and_is_dropped_in_any_thread() {
    let mock = Mock::new();
    mock.state().incoming.extend([(&b"kept"[..], 4, 0), (b"gone", 4, 0)]);
    let mock = finished(mock, async |runtime| {
        let mut subscription = subscription(&runtime)?;
        let sample = subscription.receive_owned().map_err(|error| error.to_string())?;
        drop(subscription.receive_owned());
        drop(subscription);
        thread::spawn(move || assert_eq!(sample.bytes(), b"kept"))
            .join()
            .map_err(|_| "it panicked".to_owned())
    });
    let state = mock.state();
    let calls = ["subscription_open", "subscription_poll", "subscription_hold", "subscription_leave"];
    assert_eq!(state.calls, calls);
    assert_eq!((state.holds.len(), state.subscriptions), (0, 0), "all is given back");
}

#[test]
fn what_an_app_holds_can_go_to_other_threads() {
    fn is_sent_and_shared<T: Send + Sync>() {}
    is_sent_and_shared::<Writer>();
    is_sent_and_shared::<Subscription>();
    is_sent_and_shared::<super::super::super::RawSample>();
    is_sent_and_shared::<super::super::super::RawLoan<'static>>();
    is_sent_and_shared::<Runtime>();
}

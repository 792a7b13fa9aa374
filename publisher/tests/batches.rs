//! `Publisher::send_batch`: several messages that become visible together.

use blockcast_blocks::{
    BuildError, ChannelConfig, LoanError, Overflow, Payload, Pod, PublisherId, Reader, ReaderOptions,
    ReceiveError, Signal, SizeClass, channel,
};
use blockcast_publisher::{BatchError, Publisher, SendError};

type Words = Pod<u64>;

/// A publisher with `blocks` blocks of 64 bytes, and a subscriber that must not lose messages.
fn open(blocks: u32, larger: Vec<SizeClass>) -> (Publisher<Words>, Reader) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Words::schema());
    (config.block_size, config.blocks, config.larger) = (64, blocks, larger);
    let writer = channel(config).unwrap();
    let reader = writer.channel().join(&Words::schema(), ReaderOptions::default(), Signal::new()).unwrap();
    (Publisher::new(writer).unwrap(), reader)
}

/// Receives everything. Returns the first word of each message.
fn drain(reader: &mut Reader) -> Vec<u64> {
    let mut words = Vec::new();
    loop {
        match reader.receive() {
            Ok(message) => words.push(u64::from_ne_bytes(message.bytes()[..8].try_into().unwrap())),
            Err(ReceiveError::Empty) => return words,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_batch_becomes_visible_when_it_is_complete_and_in_order() {
    let (mut publisher, mut reader) = open(8, vec![]);
    for round in 0..10 {
        let words: Vec<u64> = (round * 5..round * 5 + 5).collect();
        assert_eq!(publisher.reclaim(), 8);
        let sent = publisher.send_batch(words.iter().map(|word| {
            assert!(!reader.has_message(), "visible before the batch was complete");
            std::slice::from_ref(word)
        }));
        assert_eq!(sent, Ok(5));
        assert_eq!(drain(&mut reader), words);
    }
    let stats = publisher.writer().channel().stats();
    assert_eq!((stats.published, stats.bytes), (50, 400));
    assert_eq!((stats.subscribers[0].received, stats.subscribers[0].bytes), (50, 400));
    assert_eq!(publisher.reclaim(), 8, "every block comes back");
}

#[test]
fn a_batch_that_finds_no_block_publishes_what_it_has() {
    let (mut publisher, mut reader) = open(4, vec![]);
    let words: Vec<u64> = (0..10).collect();
    let error = publisher.send_batch(words.chunks(1)).unwrap_err();
    assert_eq!(error, BatchError { sent: 4, error: SendError::Publish(LoanError::Exhausted { blocks: 4 }) });
    assert_eq!(drain(&mut reader), words[..4]);
    assert_eq!(publisher.send_batch(words[4..8].chunks(1)), Ok(4));
    assert_eq!(drain(&mut reader), words[4..8]);
}

#[test]
fn a_batch_larger_than_the_pool_overtakes_who_may_lose_messages() {
    let (mut publisher, reliable) = open(8, vec![]);
    drop(reliable);
    let options = ReaderOptions { overflow: Overflow::DropOldest, ..ReaderOptions::default() };
    let mut reader = publisher.writer().channel().join(&Words::schema(), options, Signal::new()).unwrap();
    let words: Vec<u64> = (0..100).collect();
    assert_eq!(publisher.send_batch(words.chunks(1)), Ok(100));
    let Err(ReceiveError::Lost(lost)) = reader.receive().map(drop) else { panic!("8 blocks hold no 100") };
    assert_eq!(drain(&mut reader), words[lost as usize..]);
}

#[test]
fn a_value_that_fits_no_block_ends_the_batch_after_those_before_it() {
    let larger = vec![SizeClass { block_size: 128, blocks: 2, max_blocks: 2 }];
    let (mut publisher, mut reader) = open(4, larger);
    let (small, large, huge) = (vec![1; 8], vec![2; 16], vec![3; 17]);
    let batch = [&small[..], &large, &small, &huge, &small];
    let BatchError { sent, error } = publisher.send_batch(batch).unwrap_err();
    assert_eq!(sent, 3);
    assert!(matches!(error, SendError::Build(BuildError::TooSmall { needed: 136, .. })), "{error}");
    assert_eq!(drain(&mut reader), [1, 2, 1]);
    assert_eq!(publisher.reclaim(), 6, "every block comes back");
}

#[test]
fn an_empty_batch_publishes_nothing() {
    let (mut publisher, mut reader) = open(4, vec![]);
    let nothing: [&[u64]; 0] = [];
    assert_eq!(publisher.send_batch(nothing), Ok(0));
    assert_eq!(drain(&mut reader), [0_u64; 0]);
    assert_eq!(publisher.next_sequence().get(), 0);
}

#[test]
fn a_panic_within_a_batch_publishes_the_messages_before_it() {
    let (mut publisher, mut reader) = open(4, vec![]);
    let words = [1_u64, 2, 3];
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        publisher.send_batch(words.iter().map(|word| {
            assert!(*word < 3, "as wanted");
            std::slice::from_ref(word)
        }))
    }));
    panicked.expect_err("it panics");
    assert_eq!(drain(&mut reader), [1, 2]);
    assert_eq!(publisher.send_batch([&words[..]]), Ok(1));
    assert_eq!(drain(&mut reader), [1]);
}

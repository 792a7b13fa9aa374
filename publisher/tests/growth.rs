//! A value that does not fit into its block moves to a larger one if the publisher has larger blocks.

use blockcast_blocks::{
    BuildError, Channel, ChannelConfig, LoanError, Payload, Pod, PublisherId, Reader, ReaderOptions, Schema,
    Signal, SizeClass, channel,
};
use blockcast_flat_types::{BuildError as FlatError, Flat};
use blockcast_publisher::{Publisher, SendError};

type Lines = Flat<Vec<String>>;

fn class(block_size: usize) -> SizeClass {
    SizeClass { block_size, blocks: 2, max_blocks: 2 }
}

/// A publisher with two blocks of 64 bytes, two of 256 and two of 1024.
fn open<P: Payload>() -> (Publisher<P>, Reader) {
    let mut config = ChannelConfig::new(PublisherId::new(1), P::schema());
    (config.block_size, config.blocks) = (64, 2);
    config.larger = vec![class(256), class(1024)];
    let writer = channel(config).unwrap();
    let reader = join(writer.channel(), &P::schema());
    (Publisher::new(writer).unwrap(), reader)
}

fn join(channel: &std::sync::Arc<Channel>, schema: &Schema) -> Reader {
    channel.join(schema, ReaderOptions::default(), Signal::new()).unwrap()
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line number {number}")).collect()
}

#[test]
fn a_value_moves_to_the_smallest_block_into_which_it_fits() {
    let (mut publisher, mut reader) = open::<Lines>();
    for (count, capacity) in [(1, 64), (5, 256), (20, 1024), (1, 64)] {
        let loan = publisher.try_loan().unwrap();
        assert_eq!(loan.capacity(), 64);
        loan.send(&lines(count)).unwrap();
        let message = reader.receive().unwrap();
        let len = message.descriptor().len as usize;
        assert!(len <= capacity && (capacity == 64 || len > capacity / 4), "{len} bytes, {capacity}");
        assert_eq!(Lines::access(message.bytes()).unwrap(), lines(count));
    }
}

#[test]
fn a_closure_is_called_again_with_a_larger_block() {
    let (mut publisher, mut reader) = open::<Lines>();
    let mut capacities = Vec::new();
    publisher
        .try_loan()
        .unwrap()
        .send_growing(|block| {
            capacities.push(block.capacity());
            let mut list = block.builder().with_len(20)?;
            for line in lines(20) {
                list.push(line)?;
            }
            list.finish()
        })
        .unwrap_or_else(|error: SendError<FlatError>| panic!("{error}"));
    assert_eq!(capacities, [64, 256, 1024]);
    assert_eq!(Lines::access(reader.receive().unwrap().bytes()).unwrap(), lines(20));
}

#[test]
fn a_value_that_fits_into_no_block_is_an_error_and_frees_all_blocks() {
    let (mut publisher, _reader) = open::<Lines>();
    for _ in 0..10 {
        let error = publisher.try_loan().unwrap().send(&lines(100)).unwrap_err();
        assert!(matches!(error, SendError::Build(BuildError::TooSmall { available: 1024, .. })), "{error}");
        let error = publisher.try_loan().unwrap().send_growing(|block| {
            block.builder().with_len(1_000)?.finish() // the headers alone do not fit
        });
        assert!(matches!(error, Err(SendError::Build(FlatError::NoRoom { available: 64, .. }))), "{error:?}");
    }
    assert_eq!(publisher.writer().pool().free, 6);
}

#[test]
fn if_no_larger_block_is_free_the_error_is_exhausted() {
    let (mut publisher, mut reader) = open::<Pod<u8>>();
    let long = [7_u8; 500];
    for _ in 0..2 {
        publisher.try_loan().unwrap().send(&long[..]).unwrap();
    }
    let error = publisher.try_loan().unwrap().send(&long[..]).unwrap_err();
    assert_eq!(error, SendError::Publish(LoanError::Exhausted { blocks: 6 }));
    publisher.try_loan().unwrap().send(&long[..60]).unwrap();
    for len in [500, 500, 60] {
        assert_eq!(reader.receive().unwrap().descriptor().len, len);
    }
    publisher.try_loan().unwrap().send(&long[..]).unwrap();
}

#[test]
fn an_error_other_than_a_lack_of_room_is_returned_after_one_build() {
    let (mut publisher, _reader) = open::<Lines>();
    let mut builds = 0;
    let error = publisher.try_loan().unwrap().send_growing(|block| {
        builds += 1;
        block.builder().with_len(1)?.finish()
    });
    assert!(matches!(error, Err(SendError::Build(FlatError::TooFew { .. }))), "{error:?}");
    assert_eq!(builds, 1);
}

#[test]
fn a_loan_keeps_its_block_if_there_is_no_larger_one() {
    let (mut publisher, _reader) = open::<Pod<u8>>();
    let mut loan = publisher.try_loan().unwrap();
    loan.grow(10).unwrap();
    assert_eq!(loan.capacity(), 64);
    loan.grow(65).unwrap();
    assert_eq!(loan.capacity(), 256);
    assert_eq!(loan.grow(2000), Err(LoanError::TooLarge { needed: 2000, block_size: 1024 }));
    assert_eq!(loan.capacity(), 256);
    drop(loan);
    assert_eq!(publisher.writer().pool().free, 6);
}

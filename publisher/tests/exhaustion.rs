//! Counting loans that find no free block.

use std::pin::pin;
use std::task::{Context, Waker};

use blockcast_blocks::{Bytes, ChannelConfig, Payload, PublisherId, ReaderOptions, Signal, channel};
use blockcast_publisher::Publisher;

#[test]
fn every_exhausted_loan_is_counted_once_even_after_a_cancelled_one() {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (2, 64);
    let writer = channel(config).unwrap();
    let channel = writer.channel().clone();
    let _reader = channel.join(&Bytes::schema(), ReaderOptions::default(), Signal::new()).unwrap();
    let mut publisher = Publisher::<Bytes>::new(writer).unwrap();
    for _ in 0..2 {
        publisher.try_loan().unwrap().send(&[1][..]).unwrap();
    }
    for loans in 1..4 {
        let mut loan = pin!(publisher.loan());
        for _ in 0..3 {
            assert!(loan.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(channel.stats().exhausted, loans);
    }
}

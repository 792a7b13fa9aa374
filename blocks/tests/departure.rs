//! A departed publisher leaves nothing behind that nobody needs, even if its subscribers stay idle.

use std::ptr::NonNull;
use std::sync::Arc;

use blockcast_blocks::{
    Bytes, Channel, ChannelConfig, JoinError, Overflow, Payload, PublisherId, Reader, ReaderOptions, Signal,
    Writer, channel,
};

fn open() -> Writer {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size, config.history) = (8, 64 << 10, 1);
    channel(config).expect("a channel")
}

fn join(channel: &Arc<Channel>, options: ReaderOptions) -> Result<Reader, JoinError> {
    channel.join(&Bytes::schema(), options, Signal::new())
}

fn publish(writer: &mut Writer) {
    let mut loan = writer.try_loan(64 << 10).expect("a block");
    loan.fill(7);
    loan.publish(64 << 10).expect("fits");
}

/// Returns the bytes of memory behind the mapping at `start`, or `None` if it is inaccessible and takes none.
/// An inaccessible mapping may have been merged with those that other tests returned before.
fn memory_at(start: NonNull<u8>) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
    let has_start = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(from)?..number(to)?).contains(&start.addr().get()))
    };
    let mut lines = maps.lines().skip_while(|&line| has_start(line) != Some(true));
    let accessible = lines.next().expect("the address space is reserved").contains(" rw");
    let memory = lines.find_map(|line| line.strip_prefix("Rss:")).expect("a size");
    let kilobytes: u64 = memory.trim().trim_end_matches(" kB").parse().expect("a number");
    accessible.then_some(kilobytes << 10)
}

const POLICIES: [Overflow; 3] = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];

#[test]
fn a_departed_publishers_memory_is_returned_even_if_its_subscribers_stay_idle() {
    for overflow in POLICIES {
        let mut writer = open();
        let channel = Arc::clone(writer.channel());
        let mut reader =
            join(&channel, ReaderOptions { overflow, ..ReaderOptions::default() }).expect("joins");
        publish(&mut writer);
        drop(reader.receive().expect("a message"));
        assert!(memory_at(channel.arena().base()).is_some_and(|bytes| bytes >= 64 << 10));
        drop(writer);
        assert_eq!(memory_at(channel.arena().base()), None, "{overflow:?}");
        assert!(reader.has_ended());
        let late = join(&channel, ReaderOptions { history: 1, ..ReaderOptions::default() });
        assert_eq!(late.expect_err("its messages are gone"), JoinError::Ended);
    }
}

#[test]
fn messages_stay_until_their_last_reader_is_done() {
    for overflow in POLICIES {
        let mut writer = open();
        let channel = Arc::clone(writer.channel());
        let base = channel.arena().base();
        let options = ReaderOptions { overflow, depth: Some(4), ..ReaderOptions::default() };
        let [mut reader, mut another] = [(); 2].map(|()| join(&channel, options).expect("joins"));
        (0..3).for_each(|_| publish(&mut writer));
        drop(writer);
        let by_reference = reader.receive().expect("the first");
        drop(another.receive().expect("the first"));
        assert_eq!(by_reference.bytes()[..2], [7, 7]);
        let first = by_reference.into_sample();
        let second = reader.receive_owned().expect("the second");
        drop(reader.receive().expect("the third"));
        // It has received everything and keeps two messages.
        drop(reader);
        assert!(memory_at(base).is_some());
        drop(another);
        assert!(memory_at(base).is_some());
        drop(first);
        assert_eq!(second.bytes()[..2], [7, 7]);
        drop(second);
        assert_eq!(memory_at(base), None, "{overflow:?}");
    }
}

#[test]
fn a_late_subscriber_keeps_the_history_of_a_departed_publisher() {
    let mut writer = open();
    let channel = Arc::clone(writer.channel());
    let early = join(&channel, ReaderOptions::default()).expect("joins");
    publish(&mut writer);
    drop(writer);
    let mut late = join(&channel, ReaderOptions { history: 1, ..ReaderOptions::default() }).expect("joins");
    drop(early);
    assert_eq!(late.receive().expect("the history").bytes()[..2], [7, 7]);
    drop(late);
    assert_eq!(memory_at(channel.arena().base()), None);
}

#[test]
fn the_file_stays_open_while_the_publisher_lives_or_a_subscriber_maps_it() {
    let writer = open();
    let channel = Arc::clone(writer.channel());
    let maps = ReaderOptions { maps: true, ..ReaderOptions::default() };
    let (plain, mapping) = (join(&channel, ReaderOptions::default()), join(&channel, maps));
    let (plain, mapping) = (plain.expect("joins"), mapping.expect("joins"));
    // SAFETY: nobody writes to the file.
    assert!(unsafe { plain.arena_file() }.is_none());
    // SAFETY: as above.
    assert!(unsafe { mapping.arena_file() }.is_some());
    drop(writer);
    // SAFETY: nobody writes to the file.
    assert!(unsafe { channel.arena().memfd() }.is_some());
    drop(mapping);
    // SAFETY: as above.
    assert!(unsafe { channel.arena().memfd() }.is_none());
    assert_eq!(join(&channel, maps).expect_err("the arena can no longer be mapped"), JoinError::Ended);
}

#[test]
fn a_pin_keeps_the_memory_of_a_departed_publisher() {
    let writer = open();
    let channel = Arc::clone(writer.channel());
    let pins = [channel.pin(), channel.pin()];
    drop(writer);
    for pin in pins {
        assert!(memory_at(channel.arena().base()).is_some());
        drop(pin);
    }
    assert_eq!(memory_at(channel.arena().base()), None);
}

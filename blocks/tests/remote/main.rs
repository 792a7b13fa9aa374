//! Other processes take part in a channel. Each test runs this program again for them, and passes descriptors
//! over a socket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use blockcast_blocks::{
    AnnexId, AnnexTerms, Bell, Bytes, Channel, ChannelConfig, Payload, PublisherId, ReaderOptions,
    ReceiveError, SegmentFiles, Signal, Trust, Writer, channel, park,
};

mod bells;
mod kills;
mod messages;
mod other_process;
mod stepped;
#[expect(dead_code, reason = "the tests of hosts use the rest")]
mod tracee;
mod wakes;

use bells::BellThread;
use other_process::{OtherProcess, Socket};

fn config() -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size, config.max_subscribers) = (32, messages::LONGEST, 4);
    config
}

fn terms() -> AnnexTerms {
    AnnexTerms { seats: 4, name: "another process".to_owned(), ..AnnexTerms::default() }
}

/// The publisher's side of the conversation: attaches another process to its channel. Returns our end of the
/// bell, too.
fn attach(channel: &Channel, socket: &Socket) -> (AnnexId, Bell) {
    let SegmentFiles { control, arena } = channel.share().expect("a channel that can be shared");
    let (bell, others_bell) = Bell::pair().expect("descriptors are left");
    socket.send("open", &[control.as_fd(), arena.as_fd(), others_bell.as_fd()]);
    let [annex] = socket.receive_files("annex");
    let id = channel.attach(annex, terms(), bell.clone()).expect("an annex of this channel");
    socket.send("attached", &[]);
    (id, bell)
}

/// The subscriber's side: opens a channel of another process, and answers the bell.
fn open(socket: &Socket) -> (Arc<Channel>, BellThread) {
    let (channel, bell) = open_unanswered(socket);
    let thread = BellThread::start(vec![bell], &channel);
    (channel, thread)
}

/// The same with a bell that nobody answers yet.
fn open_unanswered(socket: &Socket) -> (Arc<Channel>, Bell) {
    let [control, arena, bell] = socket.receive_files("open");
    let bell = Bell::from_fd(bell).expect("a bell");
    let (channel, annex) = open_files(control, arena, bell.clone());
    socket.send("annex", &[annex.as_fd()]);
    socket.expect("attached");
    (channel, bell)
}

/// Opens a channel by its descriptors. Returns it and its annex.
fn open_files(control: OwnedFd, arena: OwnedFd, bell: Bell) -> (Arc<Channel>, OwnedFd) {
    let files = SegmentFiles { control, arena: Arc::new(arena) };
    // SAFETY: the other process is this program, which keeps the promises.
    let opened = unsafe { Channel::open_remote(files, config(), &terms(), Trust::Checked, bell) };
    opened.expect("a channel")
}

fn publish(writer: &mut Writer, sequence: u64) {
    let mut loan = writer.loan(messages::LONGEST, None).expect("a block comes free");
    let len = messages::fill(&mut loan, sequence);
    loan.publish(len).expect("it fits");
}

/// Both wait for each other all the time: the publisher has few blocks, and the subscriber reads them as soon
/// as they come.
#[test]
fn a_subscriber_of_another_process_receives_every_message_and_the_end() {
    const MESSAGES: u64 = 10_000;
    if let Some(socket) = Socket::of_this_process() {
        return receive_all(&socket, MESSAGES);
    }
    let mut writer = channel(config()).expect("a channel");
    let other = OtherProcess::start("a_subscriber_of_another_process_receives_every_message_and_the_end");
    let (_, bell) = attach(writer.channel(), &other.socket);
    let _bells = BellThread::start(vec![bell], writer.channel());
    other.socket.expect("joined");
    assert_eq!(writer.subscriber_count(), 1);
    for sequence in 0..MESSAGES {
        publish(&mut writer, sequence);
    }
    let stats = writer.channel().stats();
    assert_eq!(stats.subscribers.len(), 1);
    assert_eq!(stats.subscribers[0].name, "another process");
    drop(writer);
    other.socket.expect("received all");
    assert!(other.end().success());
}

fn receive_all(socket: &Socket, expected: u64) {
    let (channel, _bells) = open(socket);
    assert!(channel.is_remote());
    let signal = Signal::new();
    let mut reader =
        channel.join(&Bytes::schema(), ReaderOptions::default(), signal).expect("there is a seat");
    socket.send("joined", &[]);
    let mut sequence = 0;
    loop {
        park::until(None, |cx| reader.poll_ready(cx));
        match reader.receive() {
            Ok(message) => {
                messages::check(message.bytes(), sequence);
                sequence += 1;
            }
            Err(ReceiveError::Empty) => {}
            Err(ReceiveError::Ended) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(sequence, expected);
    assert_eq!(channel.stats().subscribers[0].received, expected);
    socket.send("received all", &[]);
}

//! What happens to messages for which there is no room.

use blockcast_bridge_core::Attachment;
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::RecvError;

use crate::stranger::{ORIGIN, Stranger, bytes};
use crate::support::{options, until};

/// From this number on, the messages are those of a second publisher.
const SECOND: u64 = 1000;
const MESSAGES: u64 = 200;

#[test]
fn the_first_messages_of_a_publisher_that_find_no_room_are_counted() {
    let blocks = PublisherOptions::new().block_size(64).blocks(4).max_blocks(4);
    let (stranger, mut numbers) = Stranger::new(options().waiting(8, 1 << 20).blocks(blocks));
    let send = |publisher: u64, sequence: u64, number: u64| {
        let attachment = Attachment { publisher, ..stranger.message(sequence) };
        stranger.send(bytes(number), &attachment.checked([&bytes(number)[..]]).encode());
    };
    // Nobody takes them, so most find neither a block nor a place in the queue.
    for sequence in 0..MESSAGES {
        send(1, sequence, sequence);
    }
    stranger.pass();
    // Nor do these.
    for sequence in 0..MESSAGES {
        send(2, sequence, SECOND + sequence);
    }
    stranger.pass();
    // Ends find more room.
    for publisher in [1, 2] {
        let end = Attachment { publisher, ..Attachment::end(ORIGIN, 1, MESSAGES) };
        stranger.send(Vec::new(), &end.fingerprint(stranger.fingerprint).checked([]).encode());
    }
    let (mut next, mut received, mut lost) = ([0, SECOND], 0, 0);
    until("each message is received, or counted as lost", || {
        loop {
            match numbers.try_recv_ref() {
                Ok(message) => {
                    let number = message.view()[0];
                    let next = &mut next[usize::from(number >= SECOND)];
                    assert!(number >= *next, "{number} instead of {next}");
                    *next = number + 1;
                    received += 1;
                }
                Err(RecvError::Lost(count)) => lost += count,
                // The second publisher may come when the first one has ended.
                Err(RecvError::Empty | RecvError::Ended) => break,
                Err(error) => panic!("{error}"),
            }
        }
        received + lost >= 2 * MESSAGES
    });
    assert_eq!((received + lost, stranger.side.bridge.stats().missing), (2 * MESSAGES, lost));
}

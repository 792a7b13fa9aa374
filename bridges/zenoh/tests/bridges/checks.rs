//! What arrives with other bytes than were sent is lost, and counted.

use blockcast_bridge_core::Attachment;
use blockcast_subscriber::RecvError;

use crate::stranger::{ORIGIN, Stranger, bytes, pack};
use crate::support::{deadline, expect_end, options, receive, until};

#[test]
fn messages_with_wrong_bytes_are_refused_and_lost_exactly() {
    let (stranger, mut numbers) = Stranger::new(options());
    let stats = || stranger.side.bridge.stats();
    let message = |sequence: u64| stranger.message(sequence).checked([&bytes(sequence)[..]]).encode();
    stranger.send(bytes(0), &message(0));
    receive(&mut numbers, 0..1);

    // The end of another message, as in the middle of what zenoh stops to send.
    let torn = [&bytes(1)[..16], &bytes(2)[16..]].concat();
    stranger.send(torn, &message(1));
    // Cut off, and longer.
    stranger.send(bytes(2)[..16].to_vec(), &message(2));
    stranger.send([bytes(3), vec![0; 8]].concat(), &message(3));
    // The attachment is that of another message, or has another sequence, or another publisher.
    stranger.send(bytes(4), &message(5));
    for at in [32, 24, 8, 48, 60] {
        let mut attachment = message(6);
        attachment[at] ^= 0x10;
        stranger.send(bytes(6), &attachment);
    }
    // All of a batch.
    let payload = pack(&[bytes(7), bytes(8)]);
    let mut attachment = stranger.message(7).messages(2).checked([&payload[..]]).encode();
    stranger.send([&payload[1..], &[0]].concat(), &attachment);
    attachment[56] = 1;
    stranger.send(payload, &attachment);
    // An end that is none.
    let end = Attachment::end(ORIGIN, 1, 9).fingerprint(stranger.fingerprint).checked([]);
    stranger.send(Vec::new(), &Attachment { sequence: 1000, ..end }.encode());
    until("all are refused", || stats().refused == 12);
    assert_eq!(numbers.try_recv_ref().err(), Some(RecvError::Empty));

    stranger.send(bytes(9), &message(9));
    assert_eq!(numbers.blocking_recv_ref(deadline()).err(), Some(RecvError::Lost(8)));
    receive(&mut numbers, 9..10);
    let end = Attachment::end(ORIGIN, 1, 10).fingerprint(stranger.fingerprint).checked([]);
    stranger.send(Vec::new(), &end.encode());
    expect_end(&mut numbers);
    let stats = stats();
    assert_eq!((stats.received, stats.missing, stats.repeated, stats.refused), (2, 8, 0, 12));
}

#[test]
fn without_checks_bytes_are_taken_as_they_come() {
    let (stranger, mut numbers) = Stranger::new(options().check(false));
    let wrong = stranger.message(0).checked([]).encode();
    stranger.send(bytes(0), &wrong);
    receive(&mut numbers, 0..1);
}

#[test]
fn bridges_that_check_and_those_that_do_not_take_part_together() {
    let (stranger, mut numbers) = Stranger::new(options());
    stranger.send(bytes(0), &stranger.message(0).encode());
    stranger.send(bytes(1), &stranger.message(1).checked([&bytes(1)[..]]).encode());
    receive(&mut numbers, 0..2);
}

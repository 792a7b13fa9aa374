//! Whoever is connected may send anything.

use blockcast_blocks::Payload;
use blockcast_bridge_core::{Attachment, Origin, Role, Token};
use blockcast_subscriber::RecvError;
use zenoh::Wait;
use zenoh::bytes::ZBytes;

use crate::stranger::{ORIGIN, Stranger, bytes};
use crate::support::{Folder, Numbers, Side, all, deadline, options, receive, session, subscriber, until};

#[test]
fn hostile_attachments_and_payloads_are_refused_and_counted() {
    let (stranger, mut numbers) = Stranger::new(options());
    let Stranger { side, publisher, fingerprint, .. } = &stranger;
    let message = |sequence| stranger.message(sequence);
    let send = |payload: Vec<u8>, attachment: &[u8]| stranger.send(payload, attachment);
    let good = message(0).encode();
    send(bytes(0), &good);
    receive(&mut numbers, 0..1);

    let mut refused = 0;
    let changed = |at: usize, to: u8| {
        let mut attachment = message(1).encode();
        attachment[at] = to;
        attachment.to_vec()
    };
    for attachment in [
        changed(0, b'X'),
        changed(4, 9),
        changed(5, 0x80),
        changed(6, 0),
        changed(6, 2),
        changed(7, 1),
        changed(39, 0xff),
        changed(40, 0),
        // A check that no flag announces, one that is wrong, and as many messages as there can be.
        changed(60, 1),
        changed(5, 1),
        [&message(1).encode()[..56], &[0xff; 4], &[0; 4]].concat(),
        good[..63].to_vec(),
        [&good[..], b"more"].concat(),
        Vec::new(),
        vec![b'B'; 100_000],
    ] {
        send(bytes(1), &attachment);
        refused += 1;
        until("it is refused", || side.bridge.stats().refused == refused);
    }
    publisher.put(bytes(1)).wait().expect("it is sent");
    publisher.delete().attachment(message(1).encode().to_vec()).wait().expect("it is sent");
    refused += 2;
    until("it is refused", || side.bridge.stats().refused == refused);
    // Its own origin, which would be a loop. Nothing comes of it.
    let own = Attachment { origin: side.bridge.origin(), ..message(50) };
    send(bytes(9), &own.encode());
    // A repetition.
    send(bytes(9), &good);
    until("it is noticed", || side.bridge.stats().repeated == 1);
    assert_eq!(numbers.try_recv_ref().err(), Some(RecvError::Empty));

    // Correct attachments, but not lists of numbers. Their places in the sequence are reported as lost.
    send(vec![0; 5], &message(1).encode());
    assert_eq!(numbers.blocking_recv_ref(deadline()).err(), Some(RecvError::Lost(1)));
    // Larger than any block.
    send(vec![0; (16 << 20) + 8], &message(2).encode());
    assert_eq!(numbers.blocking_recv_ref(deadline()).err(), Some(RecvError::Lost(1)));
    // Claims that much was lost, which nobody can check.
    const FAR: u64 = 1 << 61;
    send(bytes(5), &message(FAR).encode());
    assert_eq!(numbers.blocking_recv_ref(deadline()).err(), Some(RecvError::Lost(FAR - 3)));
    receive(&mut numbers, 5..6);

    // Many publishers: as many as allowed.
    let refused = side.bridge.stats().refused;
    for number in 2..200 {
        let attachment = Attachment { publisher: number, ..message(0) };
        send(bytes(number), &attachment.encode());
    }
    for number in 2..65 {
        receive(&mut numbers, number..number + 1);
    }
    until("the others are refused", || side.bridge.stats().refused == refused + 200 - 65);
    // An end for each, with something in it.
    for number in 1..200 {
        let attachment = Attachment::end(ORIGIN, number, FAR + 1).fingerprint(*fingerprint);
        publisher
            .put(ZBytes::from("ignored"))
            .attachment(attachment.encode().to_vec())
            .wait()
            .expect("it is sent");
    }
    loop {
        match numbers.blocking_recv_ref(deadline()) {
            Err(RecvError::Lost(_)) => {}
            Err(RecvError::Ended) => break,
            other => panic!("{other:?}"),
        }
    }
}

/// Keys that look like tokens, and tokens of topics that nobody has.
#[test]
fn hostile_tokens_start_nothing() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let side = Side::new(&session(&place, &[]), all(), options());
    let _numbers = subscriber(&side.broker, "numbers");
    let client = session(&[], &place);
    let fingerprint = Numbers::schema().fingerprint();
    let token = |key: &str, fingerprint| {
        Token { origin: Origin::new(9), role: Role::Publisher, fingerprint, key: key.to_owned() }.to_key()
    };
    let own = Token {
        origin: side.bridge.origin(),
        ..Token::from_key(&token("test/numbers", fingerprint)).expect("one")
    };
    let keys = [
        "@blockcast/1/x".to_owned(),
        "@blockcast/1/00/pub/00/test/numbers".to_owned(),
        token("test/numbers", fingerprint + 1),
        token("test/other", fingerprint),
        token("other/numbers", fingerprint),
        own.to_key(),
    ];
    let _tokens = keys.map(|key| client.liveliness().declare_token(key).wait().expect("it is declared"));
    // Declared last, so it arrives last.
    let last =
        Token { origin: Origin::new(10), ..Token::from_key(&token("test/last", fingerprint)).expect("one") };
    let _last = client.liveliness().declare_token(last.to_key()).wait().expect("it is declared");
    until("the last one has arrived", || side.bridge.stats().peers == 2);
    assert_eq!(side.bridge.stats().receiving, 0);
}

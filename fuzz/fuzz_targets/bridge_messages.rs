//! Decodes arbitrary bytes as what other bridges send: attachments with payloads, batches, keys and tokens.
//! Whatever is accepted is encoded again in the same way.
#![no_main]

use blockcast_bridge_core::{Arrival, Attachment, Packing, Streams, Token, Unpacking, key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut streams = Streams::new(2);
    for chunk in bytes.chunks(Attachment::LEN) {
        let Ok(attachment) = Attachment::decode(chunk) else { continue };
        assert_eq!(attachment.encode(), chunk);
        if let Arrival::Next { repeated, .. } = streams.arrive(&attachment) {
            assert!(repeated == 0 || repeated < attachment.messages);
        }
    }
    if let Some((attachment, payload)) = bytes.split_at_checked(Attachment::LEN)
        && let Ok(attachment) = Attachment::decode(attachment)
    {
        let checked = attachment.checked([payload]);
        assert_eq!(checked.verify(payload.chunks(7)), Ok(()));
        assert_eq!(attachment.verify([payload]).is_ok(), attachment.check.is_none() || attachment == checked);
        unpack(payload, attachment.messages);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(topic) = key::to_topic("p", text) {
        assert_eq!(key::of_topic("p", &topic).as_deref(), Ok(text));
    }
    if let Ok(token) = Token::from_key(text) {
        assert_eq!(token.to_key(), text);
    }
});

/// A batch has one encoding, too.
fn unpack(payload: &[u8], messages: u32) {
    let Ok(mut rest) = Unpacking::new(payload, messages) else { return };
    let mut packing = Packing::default();
    while let Some(message) = rest.next(payload) {
        assert!(packing.push(message));
    }
    assert_eq!((rest.messages(), packing.messages()), (0, messages));
    let (bytes, start) = packing.take();
    // A single message has no length in a payload of its own.
    let single = if messages == 1 { Packing::cost(0) } else { 0 };
    assert_eq!((&bytes[..], start), (payload, single));
}

//! Decodes arbitrary bytes as what other bridges send: attachments, keys and tokens. Whatever is accepted is
//! encoded again in the same way.
#![no_main]

use blockcast_bridge_core::{Attachment, Streams, Token, key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut streams = Streams::new(2);
    for chunk in bytes.chunks(Attachment::LEN) {
        if let Ok(attachment) = Attachment::decode(chunk) {
            assert_eq!(attachment.encode(), chunk);
            let _ = streams.arrive(&attachment);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(topic) = key::to_topic("p", text) {
        assert_eq!(key::of_topic("p", &topic).as_deref(), Ok(text));
    }
    if let Ok(token) = Token::from_key(text) {
        assert_eq!(token.to_key(), text);
    }
});

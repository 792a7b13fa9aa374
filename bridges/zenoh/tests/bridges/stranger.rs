//! [`Stranger`]: a client of zenoh that knows what bridges send.

use blockcast_blocks::Payload;
use blockcast_bridge_core::{Attachment, Origin, Packing, Role, Token};
use blockcast_subscriber::Subscriber;
use blockcast_zenoh::BridgeOptions;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::{Session, Wait};

use crate::support::{Folder, Numbers, Side, all, declare, session, subscriber, until};

/// What it claims to be.
pub const ORIGIN: Origin = Origin::new(9);

/// Sends to the topic `numbers` of a broker whatever a test likes.
pub struct Stranger {
    pub side: Side,
    pub publisher: Publisher<'static>,
    pub fingerprint: u64,
    _token: LivelinessToken,
    _client: Session,
    _folder: Folder,
}

impl Stranger {
    /// Connects it with a broker whose bridge has these options. Returns it with a subscriber there.
    pub fn new(options: BridgeOptions) -> (Self, Subscriber<Numbers>) {
        let folder = Folder::new();
        let place = [folder.endpoint("one")];
        let side = Side::new(&session(&place, &[]), all(), options);
        let client = session(&[], &place);
        let (fingerprint, key) = (Numbers::schema().fingerprint(), "test/numbers".to_owned());
        // Without a token, the bridge asks for nothing.
        let token = Token { origin: ORIGIN, role: Role::Publisher, fingerprint, key: key.clone() };
        let token = client.liveliness().declare_token(token.to_key()).wait().expect("it is declared");
        let publisher = declare(&client, &key);
        let numbers = subscriber(&side.broker, "numbers");
        until("the bridge receives", || publisher.matching_status().wait().expect("it answers").matching());
        (Self { side, publisher, fingerprint, _token: token, _client: client, _folder: folder }, numbers)
    }

    /// Of message `sequence` of publisher 1.
    pub fn message(&self, sequence: u64) -> Attachment {
        Attachment::message(ORIGIN, 1, sequence).fingerprint(self.fingerprint)
    }

    /// Sends bytes.
    pub fn send(&self, payload: Vec<u8>, attachment: &[u8]) {
        self.publisher.put(payload).attachment(attachment.to_vec()).wait().expect("it is sent");
    }

    /// Sends messages that have a check: one, or a batch.
    pub fn pack(&self, first: &Attachment, messages: &[Vec<u8>]) {
        let payload = pack(messages);
        let attachment = first.messages(messages.len() as u32).checked([&payload[..]]);
        self.send(payload, &attachment.encode());
    }

    /// Sends something that is refused, which shows that everything before it has been received.
    pub fn pass(&self) {
        let refused = self.side.bridge.stats().refused;
        self.send(Vec::new(), b"BCST");
        until("it is refused", || self.side.bridge.stats().refused > refused);
    }
}

/// A list of numbers.
pub fn bytes(number: u64) -> Vec<u8> {
    [number; 3].map(u64::to_ne_bytes).concat()
}

/// The payload of these messages.
pub fn pack(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut packing = Packing::default();
    assert!(messages.iter().all(|message| packing.push(message)));
    let (payload, start) = packing.take();
    payload[start..].to_vec()
}

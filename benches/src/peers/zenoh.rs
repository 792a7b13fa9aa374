//! `zenoh`: a session in this process without a network, with a publisher and its subscribers, each with a
//! channel. Feature `zenoh`.
//!
//! It has no memory that could be rewritten, so it takes part only if nothing is written. Messages are
//! prepared and used in rotation, and subscribers share their bytes.

use zenoh::bytes::ZBytes;
use zenoh::config::Config;
use zenoh::handlers::{FifoChannel, FifoChannelHandler};
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::{Session, Wait as _};

use crate::work::{Candidate, Content, FIRST, FanOut, Halves, LAST, Shape, Sink, Source, Tally, Wait};

pub struct Zenoh;

type Receiver = Subscriber<FifoChannelHandler<Sample>>;

/// A publisher with its prepared messages. It keeps the session open.
struct Sender {
    publisher: Publisher<'static>,
    messages: Vec<ZBytes>,
    next: usize,
    _session: Session,
}

impl Sender {
    /// Sends the next message, waiting for room.
    #[inline(always)]
    fn send(&mut self) {
        let index = self.next;
        self.next = if index + 1 == self.messages.len() { 0 } else { index + 1 };
        self.publisher.put(self.messages[index].clone()).wait().expect("the session is open");
    }
}

fn open(shape: Shape) -> zenoh::Result<(Sender, Vec<Receiver>)> {
    let mut config = Config::default();
    config.insert_json5("listen/endpoints", "[]")?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    let session = zenoh::open(config).wait()?;
    let subscribers = (0..shape.subscribers)
        .map(|_| session.declare_subscriber("topic").with(FifoChannel::new(shape.blocks)).wait())
        .collect::<zenoh::Result<_>>()?;
    let publisher = session.declare_publisher("topic").congestion_control(CongestionControl::Block).wait()?;
    let mut bytes = vec![0; shape.payload];
    bytes[0] = FIRST;
    bytes[shape.payload - 1] = LAST;
    let messages = (0..shape.blocks).map(|_| ZBytes::from(&bytes)).collect();
    Ok((Sender { publisher, messages, next: 0, _session: session }, subscribers))
}

impl Candidate for Zenoh {
    fn name(&self) -> &'static str {
        "zenoh"
    }

    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        let (sender, receivers) = open(shape).expect("a session without a network opens");
        Some(Box::new(OneThread { sender, receivers }))
    }

    fn fan_out_owned(&self, shape: Shape) -> Option<Box<dyn FanOut>> {
        // Its samples are owned.
        self.fan_out(shape)
    }

    fn halves(&self, shape: Shape) -> Option<Halves> {
        if shape.content == Content::Numbered {
            return None;
        }
        let (sender, mut receivers) = open(shape).expect("a session without a network opens");
        let receiver = receivers.pop()?;
        Some(Halves::ready(sender, Receiving { receiver, wait: shape.wait }))
    }
}

struct OneThread {
    sender: Sender,
    receivers: Vec<Receiver>,
}

impl FanOut for OneThread {
    fn run(&mut self, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..messages {
            self.sender.send();
            for receiver in &self.receivers {
                if let Ok(Some(sample)) = receiver.try_recv() {
                    tally.touch(&sample.payload().to_bytes());
                }
            }
        }
        tally
    }
}

impl Source for Sender {
    fn publish(&mut self, _: u64, messages: u64) {
        (0..messages).for_each(|_| self.send());
    }
}

struct Receiving {
    receiver: Receiver,
    wait: Wait,
}

impl Sink for Receiving {
    fn receive(&mut self, _: u64, messages: u64) -> Tally {
        let mut tally = Tally::default();
        while tally.messages < messages {
            let sample = match self.wait {
                Wait::Block => Some(self.receiver.recv().expect("the publisher lives")),
                Wait::Spin => self.receiver.try_recv().expect("the publisher lives"),
            };
            match sample {
                Some(sample) => tally.touch(&sample.payload().to_bytes()),
                None => std::hint::spin_loop(),
            }
        }
        tally
    }
}

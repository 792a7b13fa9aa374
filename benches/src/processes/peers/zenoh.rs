//! `zenoh` with shared memory: one session per process, connected by a Unix socket, and messages in the
//! publisher's POSIX shared memory. Feature `zenoh`.
//!
//! The publisher's process listens, and the others connect. The publisher allocates a buffer for each message
//! that is written. Messages that are not are prepared once, and sent in rotation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use zenoh::bytes::ZBytes;
use zenoh::config::Config;
use zenoh::handlers::{FifoChannel, FifoChannelHandler};
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::shm::{
    BlockOn, GarbageCollect, PosixShmProviderBackend, ShmProvider, ShmProviderBuilder, ZShm, ZShmMut,
    cleanup_orphaned_shm_segments,
};
use zenoh::{Session, Wait as _};

use crate::processes::board::Board;
use crate::processes::candidate::{Candidate, Member};
use crate::processes::meeting::{Meeting, THERE};
use crate::work::{Content, Shape, Sink, Source, Tally, Wait, fill};

/// Bytes of shared memory for each message beyond its payload.
const OVERHEAD: usize = 256;

/// How often to ask whether all subscribers are connected.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Zenoh;

impl Candidate for Zenoh {
    fn name(&self) -> &'static str {
        "zenoh-shm"
    }

    fn join(&self, meeting: &Meeting, _: &Arc<Board>) -> anyhow::Result<Box<dyn Member>> {
        Ok(Box::new(Joined { meeting: meeting.clone(), session: Mutex::default() }))
    }

    fn clear(&self) {
        cleanup_orphaned_shm_segments();
    }
}

struct Joined {
    meeting: Meeting,
    /// Opened by the first end, when it is known whether this is the publisher's process.
    session: Mutex<Option<Session>>,
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

impl Joined {
    fn session(&self, listens: bool) -> anyhow::Result<Session> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        let endpoint = format!("[\"unixsock-stream/{}\"]", self.meeting.folder.join("zenoh").display());
        let mut config = Config::default();
        let mut set = |key: &str, value: &str| config.insert_json5(key, value).map_err(failed);
        set("scouting/multicast/enabled", "false")?;
        set("scouting/gossip/enabled", "false")?;
        set("transport/shared_memory/enabled", "true")?;
        if listens {
            set("listen/endpoints", &endpoint)?;
        } else {
            set("listen/endpoints", "[]")?;
            set("connect/endpoints", &endpoint)?;
            // The publisher's process may not listen yet. Try in the background.
            set("connect/timeout_ms", "-1")?;
            set("connect/exit_on_failure", "false")?;
            set("connect/retry", "{ period_init_ms: 10, period_max_ms: 100, period_increase_factor: 2 }")?;
        }
        Ok(session.insert(zenoh::open(config).wait().map_err(failed)?).clone())
    }
}

impl Member for Joined {
    fn sink(&self, topic: usize, index: usize) -> anyhow::Result<Box<dyn Sink>> {
        let session = self.session(topic != THERE)?;
        let (name, shape) = (self.meeting.topic(topic), self.meeting.shape);
        let subscriber = session.declare_subscriber(name.clone()).with(FifoChannel::new(shape.blocks));
        let receiver = subscriber.wait().map_err(failed)?;
        // Follows the subscriber on the way to the publisher.
        let token = session.liveliness().declare_token(format!("{name}/{index}")).wait().map_err(failed)?;
        Ok(Box::new(Receiving { receiver, shape, _token: token }))
    }

    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>> {
        let session = self.session(topic == THERE)?;
        let (name, shape) = (self.meeting.topic(topic), self.meeting.shape);
        loop {
            let tokens = session.liveliness().get(format!("{name}/*")).wait().map_err(failed)?;
            if tokens.into_iter().count() == shape.subscribers {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let publisher = session.declare_publisher(name).congestion_control(CongestionControl::Block);
        let publisher = publisher.wait().map_err(failed)?;
        let bytes = (shape.blocks + 1) * (shape.payload + OVERHEAD);
        let memory = ShmProviderBuilder::default_backend(bytes).wait().map_err(failed)?;
        let mut sender = Sender { publisher, memory, prepared: Vec::new(), next: 0, shape };
        if shape.content == Content::Marked {
            for _ in 0..shape.blocks {
                let mut buffer = sender.allocate();
                fill(shape.content, &mut buffer, 0);
                sender.prepared.push(buffer.into());
            }
        }
        Ok(Box::new(sender))
    }
}

struct Sender {
    publisher: Publisher<'static>,
    memory: ShmProvider<PosixShmProviderBackend>,
    /// Messages that are not rewritten.
    prepared: Vec<ZShm>,
    next: usize,
    shape: Shape,
}

impl Sender {
    /// Waits for memory that subscribers have released.
    fn allocate(&self) -> ZShmMut {
        let memory = self.memory.alloc(self.shape.payload).with_policy::<BlockOn<GarbageCollect>>();
        memory.wait().expect("there is memory for every message in flight")
    }
}

impl Source for Sender {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            let message = match self.prepared.get(self.next) {
                Some(prepared) => {
                    self.next = if self.next + 1 == self.prepared.len() { 0 } else { self.next + 1 };
                    ZBytes::from(prepared.clone())
                }
                None => {
                    let mut buffer = self.allocate();
                    fill(self.shape.content, &mut buffer, number);
                    ZBytes::from(buffer)
                }
            };
            self.publisher.put(message).wait().expect("the session is open");
        }
    }
}

struct Receiving {
    receiver: Subscriber<FifoChannelHandler<Sample>>,
    shape: Shape,
    _token: LivelinessToken,
}

impl Sink for Receiving {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        let mut tally = Tally::default();
        while tally.messages < messages {
            let sample = match self.shape.wait {
                Wait::Block => Some(self.receiver.recv().expect("the publisher lives")),
                Wait::Spin => self.receiver.try_recv().expect("the publisher lives"),
            };
            match sample {
                Some(sample) => {
                    let number = first + tally.messages;
                    tally.take(self.shape.content, &sample.payload().to_bytes(), number);
                }
                None => std::hint::spin_loop(),
            }
        }
        tally
    }
}

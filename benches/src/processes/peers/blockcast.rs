//! Blockcast through connections to a host, which is the process that compares.

use std::any::Any;
use std::sync::Arc;

use blockcast_blocks::Timestamps;
use blockcast_broker::{Broker, Connection, ServeOptions};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::SubscriberOptions;

use crate::peers::REFERENCE;
use crate::peers::blockcast::{BlockSink, BlockSource, Bytes};
use crate::processes::board::Board;
use crate::processes::candidate::{Candidate, Member};
use crate::processes::meeting::Meeting;
use crate::work::{Shape, Sink, Source};

/// The candidate to which all others are compared.
#[derive(Clone, Copy, Debug)]
pub struct Blockcast {
    name: &'static str,
    is_one_process: bool,
}

impl Blockcast {
    /// Every end is a process.
    pub const PROCESSES: Self = Self { name: REFERENCE, is_one_process: false };
    /// The same ends, as threads of one process with one connection.
    pub const THREADS: Self = Self { name: "blockcast-threads", is_one_process: true };
}

/// The name of the host's socket in the meeting's folder.
const SOCKET: &str = "host";

impl Candidate for Blockcast {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_one_process(&self) -> bool {
        self.is_one_process
    }

    fn prepare(&self, meeting: &Meeting) -> anyhow::Result<Box<dyn Any>> {
        let broker = Broker::new();
        let serving = broker.serve(meeting.folder.join(SOCKET), ServeOptions::new())?;
        Ok(Box::new((serving, broker)))
    }

    fn join(&self, meeting: &Meeting, _: &Arc<Board>) -> anyhow::Result<Box<dyn Member>> {
        let connection = Connection::connect(meeting.folder.join(SOCKET))?;
        Ok(Box::new(Connected { connection, shape: meeting.shape }))
    }
}

struct Connected {
    connection: Connection,
    shape: Shape,
}

impl Member for Connected {
    fn sink(&self, topic: usize, _: usize) -> anyhow::Result<Box<dyn Sink>> {
        let subscriber = self.connection.subscriber::<Bytes>(&topic.to_string(), SubscriberOptions::new())?;
        Ok(Box::new(BlockSink::new(subscriber, self.shape, ())))
    }

    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>> {
        // Without timestamps, because no peer has them.
        let options = PublisherOptions::new()
            .block_size(self.shape.payload)
            .blocks(self.shape.blocks.try_into()?)
            .timestamps(Timestamps::Off)
            .prefault(true);
        let publisher = self.connection.publisher::<Bytes>(&topic.to_string(), options)?;
        Ok(Box::new(BlockSource::new(publisher, self.shape)))
    }
}

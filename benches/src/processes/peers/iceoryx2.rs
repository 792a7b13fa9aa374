//! `iceoryx2` with its `ipc` service, and with its event service as well if the ends block.

use std::sync::Arc;

use iceoryx2::prelude::{LogLevel, NodeBuilder, ipc, set_log_level};

use crate::peers::iceoryx2::{IceSink, IceSource};
use crate::processes::board::Board;
use crate::processes::candidate::{Candidate, Member};
use crate::processes::meeting::Meeting;
use crate::work::{Sink, Source};

#[derive(Debug)]
pub struct Iceoryx2;

impl Candidate for Iceoryx2 {
    fn name(&self) -> &'static str {
        "iceoryx2-ipc"
    }

    fn join(&self, meeting: &Meeting, _: &Arc<Board>) -> anyhow::Result<Box<dyn Member>> {
        set_log_level(LogLevel::Fatal);
        Ok(Box::new(Joined(meeting.clone())))
    }

    fn clear(&self) {
        set_log_level(LogLevel::Fatal);
        // Anything that it cannot remove is removed by the next run of any of its programs.
        if let Ok(node) = NodeBuilder::new().create::<ipc::Service>() {
            node.try_cleanup_dead_nodes();
        }
    }
}

struct Joined(Meeting);

impl Member for Joined {
    fn sink(&self, topic: usize, _: usize) -> anyhow::Result<Box<dyn Sink>> {
        Ok(Box::new(IceSink::<ipc::Service>::new(&self.0.topic(topic), self.0.shape)))
    }

    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>> {
        Ok(Box::new(IceSource::<ipc::Service>::new(&self.0.topic(topic), self.0.shape)))
    }
}

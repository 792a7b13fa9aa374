//! Unix stream sockets, one connection per subscriber.

use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::processes::board::Board;
use crate::processes::candidate::{Candidate, Member};
use crate::processes::meeting::Meeting;
use crate::processes::peers::streams::{StreamSink, StreamSource};
use crate::work::{Sink, Source, Wait};

/// Requested number of bytes in flight. The system allows less, unless it is configured otherwise.
const BUFFER: usize = 4 << 20;

#[derive(Debug)]
pub struct UnixSockets;

impl Candidate for UnixSockets {
    fn name(&self) -> &'static str {
        "unix-socket"
    }

    fn has_blocks(&self) -> bool {
        false
    }

    fn join(&self, meeting: &Meeting, _: &Arc<Board>) -> anyhow::Result<Box<dyn Member>> {
        Ok(Box::new(Joined(meeting.clone())))
    }
}

struct Joined(Meeting);

impl Joined {
    fn path(&self, topic: usize, index: usize) -> PathBuf {
        self.0.folder.join(format!("{topic}-{index}"))
    }

    fn spins(&self) -> bool {
        self.0.shape.wait == Wait::Spin
    }
}

impl Member for Joined {
    fn sink(&self, topic: usize, index: usize) -> anyhow::Result<Box<dyn Sink>> {
        let listener = UnixListener::bind(self.path(topic, index))?;
        let accepted = Accepted { listener, stream: None, spins: self.spins() };
        Ok(Box::new(StreamSink::new(accepted, self.0.shape)))
    }

    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>> {
        let mut streams = Vec::new();
        for index in 0..self.0.shape.subscribers {
            let stream = UnixStream::connect(self.path(topic, index))?;
            stream.set_nonblocking(self.spins())?;
            set_socket_send_buffer_size(&stream, BUFFER)?;
            streams.push(stream);
        }
        Ok(Box::new(StreamSource::new(streams, self.0.shape)))
    }
}

/// The subscriber's end. It accepts the publisher when it first reads, outside of all measured times.
struct Accepted {
    listener: UnixListener,
    stream: Option<UnixStream>,
    spins: bool,
}

impl Read for Accepted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Some(stream) = &mut self.stream {
            return stream.read(bytes);
        }
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(self.spins)?;
        self.stream.insert(stream).read(bytes)
    }
}

//! Named pipes, one per subscriber.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_setpipe_size;

use crate::processes::board::Board;
use crate::processes::candidate::{Candidate, Member};
use crate::processes::meeting::Meeting;
use crate::processes::peers::streams::{StreamSink, StreamSource};
use crate::work::{Sink, Source, Wait};

/// Requested size of a pipe in bytes: the system's default maximum.
const BUFFER: usize = 1 << 20;

#[derive(Debug)]
pub struct Pipes;

impl Candidate for Pipes {
    fn name(&self) -> &'static str {
        "pipe"
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
}

impl Member for Joined {
    fn sink(&self, topic: usize, index: usize) -> anyhow::Result<Box<dyn Sink>> {
        let path = self.path(topic, index);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Otherwise, this would wait for the publisher.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let pipe = File::options().read(true).custom_flags(flags).open(path)?;
        // The system may allow less. Then there are fewer messages in flight.
        let _ = fcntl_setpipe_size(&pipe, BUFFER);
        ioctl_fionbio(&pipe, self.0.shape.wait == Wait::Spin)?;
        Ok(Box::new(StreamSink::new(pipe, self.0.shape)))
    }

    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>> {
        let mut pipes = Vec::new();
        for index in 0..self.0.shape.subscribers {
            let pipe = File::options().write(true).open(self.path(topic, index))?;
            ioctl_fionbio(&pipe, self.0.shape.wait == Wait::Spin)?;
            pipes.push(pipe);
        }
        Ok(Box::new(StreamSource::new(pipes, self.0.shape)))
    }
}

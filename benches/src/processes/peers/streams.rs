//! Messages of fixed size over byte streams, for sockets and pipes.

use std::io::{ErrorKind, Read, Write};

use crate::work::{Shape, Sink, Source, Tally, fill};

/// Number of bytes that a subscriber reads at once, if messages are smaller.
const READ: usize = 64 << 10;

/// Writes every message to every stream.
pub struct StreamSource<W> {
    streams: Vec<W>,
    message: Vec<u8>,
    shape: Shape,
}

impl<W: Write> StreamSource<W> {
    /// Writes to `streams`. If they do not block, retries until there is room.
    pub fn new(streams: Vec<W>, shape: Shape) -> Self {
        Self { streams, message: vec![0; shape.payload], shape }
    }
}

impl<W: Write> Source for StreamSource<W> {
    fn publish(&mut self, first: u64, messages: u64) {
        for number in first..first + messages {
            fill(self.shape.content, &mut self.message, number);
            for stream in &mut self.streams {
                write_all(stream, &self.message);
            }
        }
    }
}

fn write_all(stream: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => panic!("cannot write: {error}"),
        }
    }
}

/// Reads all available messages at once.
pub struct StreamSink<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Number of bytes in the buffer that were read but not yet counted: the beginning of a message.
    read: usize,
    shape: Shape,
}

impl<R: Read> StreamSink<R> {
    /// Reads from `stream`. If it does not block, retries until there are messages.
    pub fn new(stream: R, shape: Shape) -> Self {
        let buffer = vec![0; (READ / shape.payload).max(1) * shape.payload];
        Self { stream, buffer, read: 0, shape }
    }
}

impl<R: Read> Sink for StreamSink<R> {
    fn receive(&mut self, first: u64, messages: u64) -> Tally {
        let Shape { payload, content, .. } = self.shape;
        let mut tally = Tally::default();
        while tally.messages < messages {
            match self.stream.read(&mut self.buffer[self.read..]) {
                // The publisher has ended.
                Ok(0) => break,
                Ok(read) => self.read += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => panic!("cannot read: {error}"),
            }
            let whole = self.read - self.read % payload;
            for message in self.buffer[..whole].chunks_exact(payload) {
                tally.take(content, message, first + tally.messages);
            }
            self.buffer.copy_within(whole..self.read, 0);
            self.read -= whole;
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::work::{Content, Wait};

    #[test]
    fn messages_arrive_whole_however_the_stream_divides_them() {
        for (payload, wait) in
            [(24, Wait::Block), (24, Wait::Spin), (300_000, Wait::Block), (300_000, Wait::Spin)]
        {
            let shape = Shape { payload, subscribers: 1, blocks: 1, content: Content::Numbered, wait };
            let (from, to) = UnixStream::pair().unwrap();
            for end in [&from, &to] {
                end.set_nonblocking(wait == Wait::Spin).unwrap();
            }
            let mut source = StreamSource::new(vec![from], shape);
            let writer = thread::spawn(move || source.publish(5, 1000));
            let tally = StreamSink::new(to, shape).receive(5, 1000);
            assert!(tally.is_complete(Content::Numbered, 1000), "{shape:?}: {tally:?}");
            writer.join().unwrap();
        }
    }

    #[test]
    fn a_stream_that_ends_early_leaves_the_tally_incomplete() {
        let shape =
            Shape { payload: 64, subscribers: 1, blocks: 1, content: Content::Numbered, wait: Wait::Block };
        let (from, to) = UnixStream::pair().unwrap();
        StreamSource::new(vec![from], shape).publish(0, 3);
        assert_eq!(StreamSink::new(to, shape).receive(0, 4).messages, 3);
    }
}

//! [`PacketSocket`]: packets with descriptors, over a Unix socket of type `SOCK_SEQPACKET`.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::peers::protocol::{CodecError, MAX_FILES, MAX_PACKET, Message};

/// A descriptor on its way to one or several processes.
pub(crate) type File = Arc<OwnedFd>;

/// Maximum number of packets that wait for a process that does not receive. A process that finds a new host
/// announces everything that it has at once, and so needs thousands.
const MAX_WAITING: usize = 16 << 10;

/// Approximate maximum of their total size in bytes.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// Maximum number of their descriptors.
const MAX_WAITING_FILES: usize = 4096;

/// Maximum number of descriptors to send before the other process has received the earlier ones. The system
/// counts the descriptors in flight of all processes of a user, and refuses more than a process may open
/// (`RLIMIT_NOFILE`). So a process that is stopped must not use them up.
const MAX_IN_FLIGHT: usize = 32;

/// How long to wait before sending again to a socket that [pauses](PacketSocket::is_paused).
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// The next call that receives reports once that the other process has closed its end before it had received
/// everything. What that process has sent before comes after this.
const UNREAD: Errno = Errno::CONNRESET;

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The other process has closed the connection, or has ended.
    #[error("the other process has closed the connection")]
    Closed,
    /// The other process does not receive the messages sent to it.
    #[error("the other process does not receive what it is sent")]
    Unresponsive,
    /// The other process sent something that is not a message, or a message that makes no sense at this
    /// point; the text says which.
    #[error("the other process has violated the protocol: {0}")]
    Violation(String),
    /// The other process is refused; the text says why.
    #[error("the other process is refused: {0}")]
    Refused(String),
    /// The operating system refused to send or receive.
    #[error("the system refused: {0}")]
    System(String),
}

impl From<CodecError> for Broken {
    fn from(error: CodecError) -> Self {
        Self::Violation(error.to_string())
    }
}

impl From<Errno> for Broken {
    fn from(error: Errno) -> Self {
        match error {
            Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => Self::Closed,
            error => Self::System(error.to_string()),
        }
    }
}

/// One end of a connection. Neither sending nor receiving waits.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Vec<File>)>,
    waiting_bytes: usize,
    waiting_files: usize,
    /// Descriptors sent since the other process was last known to have received everything.
    in_flight: usize,
    /// Whether the next packet waits until fewer descriptors are in flight.
    is_paused: bool,
    /// Whether the other process can no longer receive. What it has sent may not have been received yet.
    is_deaf: bool,
    buffer: Box<[u8]>,
    /// The only process from which packets are accepted. `None` to accept them from any process.
    only_from: Option<i32>,
}

impl PacketSocket {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// If the system refuses to make the socket non-blocking.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self, Broken> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_files: 0,
            in_flight: 0,
            is_paused: false,
            is_deaf: false,
            buffer: vec![0; MAX_PACKET + 1].into(),
            only_from: None,
        })
    }

    /// Takes an end of a pair of sockets whose other end belongs to the process `pid`. Packets of other
    /// processes, such as those that inherit it from that process, are violations of the protocol.
    ///
    /// The system must [name the sender](set_socket_passcred) of all packets: set this before anybody can
    /// send one.
    ///
    /// # Errors
    /// If the system refuses to make the socket non-blocking.
    pub(crate) fn of_process(socket: OwnedFd, pid: i32) -> Result<Self, Broken> {
        Ok(Self { only_from: Some(pid), ..Self::new(socket)? })
    }

    /// Sends a message, or keeps it until the socket is writable. Drops it if the other process has closed
    /// its end: [`receive`](Self::receive) reports that, after the last packets of that process.
    ///
    /// # Errors
    /// [`Broken`], but never [`Broken::Closed`].
    pub(crate) fn send<M: Message>(&mut self, message: &M, files: Vec<File>) -> Result<(), Broken> {
        debug_assert!(message.may_have(files.len()), "{message:?}, {} descriptors", files.len());
        if self.is_deaf {
            return Ok(());
        }
        if self.waiting.len() >= MAX_WAITING
            || self.waiting_bytes >= MAX_WAITING_BYTES
            || self.waiting_files >= MAX_WAITING_FILES
        {
            return Err(Broken::Unresponsive);
        }
        let bytes = message.encode()?;
        self.waiting_bytes += bytes.len();
        self.waiting_files += files.len();
        self.waiting.push_back((bytes, files));
        self.flush()
    }

    /// Sends waiting messages, as far as the other process receives them.
    ///
    /// # Errors
    /// [`Broken`], but never [`Broken::Closed`]: see [`send`](Self::send).
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        self.is_paused = false;
        while let Some((bytes, files)) = self.waiting.front() {
            if !files.is_empty() && self.in_flight + files.len() > MAX_IN_FLIGHT {
                if !has_received_all(&self.socket) {
                    self.is_paused = true;
                    return Ok(());
                }
                self.in_flight = 0;
            }
            let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut with = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() && !with.push(SendAncillaryMessage::ScmRights(&borrowed)) {
                return Err(Broken::System(format!("{} descriptors in one packet", borrowed.len())));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut with, flags) {
                Ok(_) => {
                    self.waiting_bytes -= bytes.len();
                    self.waiting_files -= files.len();
                    self.in_flight += files.len();
                    self.waiting.pop_front();
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // Too many descriptors of this user are in flight, perhaps to other processes.
                Err(Errno::TOOMANYREFS) => {
                    self.is_paused = true;
                    return Ok(());
                }
                Err(error) => match Broken::from(error) {
                    Broken::Closed => {
                        self.stop_sending();
                        return Ok(());
                    }
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn stop_sending(&mut self) {
        self.is_deaf = true;
        self.waiting.clear();
        (self.waiting_bytes, self.waiting_files) = (0, 0);
    }

    /// Whether messages wait for the socket to be writable.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && !self.is_paused
    }

    /// Whether messages wait until fewer descriptors are in flight. No event says when: call
    /// [`flush`](Self::flush) after a [while](RETRY).
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Receives the next message, if one has arrived. Descriptors that do not belong to it are closed. If
    /// this process has no room for the message's descriptors, the message comes without them. If the other
    /// process has closed its end, its last messages still arrive, even if it has not received everything.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) fn receive<M: Message>(&mut self) -> Result<Option<(M, Vec<File>)>, Broken> {
        if let Some(pid) = self.only_from {
            match sender(&self.socket)? {
                Some(sender) if sender != pid => {
                    return Err(Broken::Violation(format!("a packet of process {sender}, not of {pid}")));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
        // One more than allowed, to detect the excess; the system closes any beyond.
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES + 1), ScmCredentials(1))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut self.buffer)], &mut with, flags) {
                Err(Errno::INTR | UNREAD) => {}
                Err(Errno::AGAIN) => return Ok(None),
                received => break received?,
            }
        };
        let mut files = Vec::new();
        for message in with.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received.map(Arc::new));
            }
        }
        if files.len() > MAX_FILES {
            return Err(Broken::Violation(format!("more than {MAX_FILES} descriptors in one packet")));
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(CodecError::TooLong(received.bytes).into());
        }
        if received.bytes == 0 {
            return Err(Broken::Closed);
        }
        let bytes = &self.buffer[..received.bytes];
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Ok(Some((M::decode_alone(bytes)?, Vec::new())));
        }
        Ok(Some((M::decode(bytes, files.len())?, files)))
    }
}

/// Whether the other process has received all that was sent.
fn has_received_all(socket: &OwnedFd) -> bool {
    let mut unreceived: libc::c_int = 0;
    // SAFETY: `SIOCOUTQ`, which has the same number, writes an integer to this place.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unreceived) };
    // Without an answer, only the system's own limit counts.
    asked != 0 || unreceived == 0
}

/// The process that has sent the next packet. `None` if no packet has arrived.
fn sender(socket: &OwnedFd) -> Result<Option<i32>, Broken> {
    // rustix cannot represent the IDs of processes outside of this namespace. The space is for credentials
    // only: they come first, and descriptors that do not fit stay with the packet.
    const SPACE: usize = 32;
    // SAFETY: a number.
    let needed = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
    debug_assert!(needed <= SPACE);
    #[repr(align(8))]
    struct Space([u8; SPACE]);
    let (mut space, mut byte) = (Space([0; SPACE]), 0_u8);
    loop {
        let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: a plain record of the system, for which zeros are valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut io;
        header.msg_iovlen = 1;
        header.msg_control = space.0.as_mut_ptr().cast();
        header.msg_controllen = needed as _;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header leads to valid places for one byte and `needed` bytes, which outlive the call.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        if received < 0 {
            match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL) {
                Errno::INTR | UNREAD => continue,
                Errno::AGAIN => return Ok(None),
                error => return Err(error.into()),
            }
        }
        if received == 0 {
            return Err(Broken::Closed);
        }
        // SAFETY: the system has filled the header. The message that it points to, if there is one, lies in
        // `space`, which is aligned for it.
        let found = unsafe { libc::CMSG_FIRSTHDR(&raw const header).as_ref() };
        let is_credentials = |found: &&libc::cmsghdr| {
            (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
        };
        let Some(found) = found.filter(is_credentials) else {
            return Err(Broken::Violation("a packet without its sender's number".to_owned()));
        };
        // SAFETY: credentials are followed by this record, which may be unaligned.
        let sender = unsafe { libc::CMSG_DATA(found).cast::<libc::ucred>().read_unaligned() };
        return Ok(Some(sender.pid));
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::peers::protocol::{ChannelNumber, Request, SeatId};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn file() -> File {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    /// Waits for the end. Processes that other tests start may have copies of the other end for a moment.
    fn end_of(socket: &mut PacketSocket) -> Option<Broken> {
        loop {
            match socket.receive::<Request>() {
                Ok(None) => std::thread::yield_now(),
                received => return received.err(),
            }
        }
    }

    /// Sends bytes with descriptors, as a hostile process may.
    fn send_raw(socket: &OwnedFd, bytes: &[u8], files: usize) {
        let file = file();
        let files = vec![file.as_fd(); files];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || with.push(SendAncillaryMessage::ScmRights(&files)));
        sendmsg(socket, &[IoSlice::new(bytes)], &mut with, SendFlags::NOSIGNAL).unwrap();
    }

    #[test]
    fn messages_arrive_in_order_with_their_descriptors_then_the_end() {
        let (one, other) = pair();
        let (mut one, mut other) = (PacketSocket::new(one).unwrap(), PacketSocket::new(other).unwrap());
        assert!(other.receive::<Request>().unwrap().is_none());
        one.send(&Request::Annex { seat: SeatId(1) }, vec![file()]).unwrap();
        one.send(&Request::Left { seat: SeatId(1) }, Vec::new()).unwrap();
        let (first, files) = other.receive().unwrap().unwrap();
        assert_eq!((first, files.len()), (Request::Annex { seat: SeatId(1) }, 1));
        drop(one);
        let (second, files) = other.receive().unwrap().unwrap();
        assert_eq!((second, files.len()), (Request::Left { seat: SeatId(1) }, 0));
        assert_eq!(end_of(&mut other), Some(Broken::Closed));
    }

    /// The system reports first that the other process has left packets unread.
    #[test]
    fn the_last_messages_arrive_from_a_process_that_has_closed_its_end() {
        for (unread, waits, is_named) in
            [(0, false, false), (1, false, false), (1, true, false), (1, false, true), (1, true, true)]
        {
            let (one, other) = pair();
            let mut other = PacketSocket::new(other).unwrap();
            let mut one = if is_named {
                rustix::net::sockopt::set_socket_passcred(&one, true).unwrap();
                PacketSocket::of_process(one, rustix::process::getpid().as_raw_nonzero().get()).unwrap()
            } else {
                PacketSocket::new(one).unwrap()
            };
            let left = |seat| Request::Left { seat: SeatId(seat) };
            (0..unread).for_each(|seat| one.send(&left(seat), Vec::new()).unwrap());
            while waits && !one.is_waiting() {
                one.send(&left(0), Vec::new()).unwrap();
            }
            other.send(&Request::Annex { seat: SeatId(1) }, vec![file()]).unwrap();
            other.send(&left(2), Vec::new()).unwrap();
            drop(other);
            let file = file();
            for _ in 0..3 {
                one.send(&Request::Annex { seat: SeatId(3) }, vec![Arc::clone(&file)]).unwrap();
            }
            // Nothing waits any more, once nobody has a copy of the other end.
            while one.is_waiting() || Arc::strong_count(&file) > 1 {
                one.flush().unwrap();
            }
            let (first, files) = one.receive().unwrap().unwrap();
            assert_eq!((first, files.len()), (Request::Annex { seat: SeatId(1) }, 1));
            assert_eq!(one.receive().unwrap().map(|(last, _)| last), Some(left(2)));
            assert_eq!(end_of(&mut one), Some(Broken::Closed));
        }
        // Nobody has tried to send.
        let (one, other) = pair();
        let (mut one, mut other) = (PacketSocket::new(one).unwrap(), PacketSocket::new(other).unwrap());
        one.send(&Request::Announced, Vec::new()).unwrap();
        other.send(&Request::Announced, Vec::new()).unwrap();
        drop(other);
        assert_eq!(one.receive().unwrap().map(|(last, _)| last), Some(Request::Announced));
        assert_eq!(end_of(&mut one), Some(Broken::Closed));
    }

    #[test]
    fn packets_that_are_not_messages_end_the_connection() {
        let left = Request::Left { seat: SeatId(1) }.encode().unwrap();
        let cases: [(&[u8], usize); 7] = [
            (b"nonsense", 0),
            (&left, 1),
            (&left, MAX_FILES),
            (&left, MAX_FILES + 1),
            (&left, 16),
            (&Request::Annex { seat: SeatId(1) }.encode().unwrap(), 16),
            (&vec![0; MAX_PACKET + 2], 0),
        ];
        for (bytes, files) in cases {
            let (one, other) = pair();
            let mut other = PacketSocket::new(other).unwrap();
            send_raw(&one, bytes, files);
            let received = other.receive::<Request>();
            assert!(
                matches!(received, Err(Broken::Violation(_))),
                "{} bytes, {files}: {received:?}",
                bytes.len()
            );
        }
    }

    #[test]
    fn long_messages_that_wait_are_bounded_by_their_bytes() {
        let (one, _other) = pair();
        let mut one = PacketSocket::new(one).unwrap();
        let why = "w".repeat(40_000);
        let mut sent = 0;
        while one.send(&Request::Declined { seat: SeatId(1), why: why.clone() }, Vec::new()).is_ok() {
            sent += why.len();
        }
        assert!(one.waiting.len() < MAX_WAITING && sent < MAX_WAITING_BYTES + (1 << 20), "{sent} bytes");
    }

    /// The system counts those of all processes of a user.
    #[test]
    fn few_descriptors_are_on_their_way_to_a_process_that_does_not_receive() {
        let (one, other) = pair();
        let (mut one, mut other) = (PacketSocket::new(one).unwrap(), PacketSocket::new(other).unwrap());
        let file = file();
        let annex = |seat| Request::Annex { seat: SeatId(seat) };
        let mut given_up = None;
        for seat in 0.. {
            if let Err(error) = one.send(&annex(seat), vec![Arc::clone(&file)]) {
                given_up = Some((seat, error));
                break;
            }
            assert_eq!(one.is_paused(), seat >= MAX_IN_FLIGHT as u64);
        }
        let Some((sent, Broken::Unresponsive)) = given_up else { panic!("{given_up:?}") };
        assert!(!one.is_waiting(), "it does not wait for the socket to be writable");
        assert_eq!(Arc::strong_count(&file), 1 + MAX_WAITING_FILES);
        // All arrive in order.
        let mut received = 0;
        while received < sent {
            one.flush().unwrap();
            while let Some((next, files)) = other.receive::<Request>().unwrap() {
                assert_eq!((next, files.len()), (annex(received), 1));
                received += 1;
            }
        }
        assert!(!one.is_paused());
    }

    #[test]
    fn sending_never_waits_and_a_process_that_does_not_receive_is_given_up() {
        let (one, other) = pair();
        let mut one = PacketSocket::new(one).unwrap();
        let message = Request::ClosePublisher { channel: ChannelNumber(1) };
        let mut sent = 0;
        let given_up = loop {
            match one.send(&message, Vec::new()) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(given_up, Broken::Unresponsive);
        assert!(one.is_waiting() && sent >= MAX_WAITING);
        // What was sent before still arrives.
        let mut other = PacketSocket::new(other).unwrap();
        let mut received = 0;
        while received < sent {
            one.flush().unwrap();
            while let Some((next, _)) = other.receive::<Request>().unwrap() {
                assert_eq!(next, message);
                received += 1;
            }
        }
        assert!(!one.is_waiting());
    }
}

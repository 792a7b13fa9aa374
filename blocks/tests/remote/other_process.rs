//! This program, running once more as another process, and the socket between the two.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::tracee::Tracee;

/// Set if standard input is the socket to the process that has started this one.
const SOCKET: &str = "BLOCKCAST_TEST_SOCKET";

/// Maximum number of descriptors in one message.
const FILES: usize = 4;

/// One end of the conversation between two processes: short texts, with descriptors.
pub struct Socket(OwnedFd);

impl Socket {
    /// The socket to the process that has started this one, if one has.
    pub fn of_this_process() -> Option<Self> {
        std::env::var_os(SOCKET)?;
        let socket = std::io::stdin().as_fd().try_clone_to_owned();
        Some(Self(socket.expect("a descriptor is left")))
    }

    pub fn send(&self, text: &str, files: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(with.push(SendAncillaryMessage::ScmRights(files)), "there is space for them");
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut with, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(text.len()));
    }

    /// Receives the next message. `None` if the other process has ended.
    pub fn receive(&self) -> Option<(String, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 256];
        let received =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut with, RecvFlags::CMSG_CLOEXEC);
        // A process that is killed with unread messages resets the connection.
        let len = received.map_or(0, |received| received.bytes);
        let files = with.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let files = files.flatten().collect();
        (len > 0).then(|| (String::from_utf8(text[..len].to_vec()).expect("text"), files))
    }

    /// Receives the message `text`.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let [] = self.receive_files(text);
    }

    /// Receives the message `text` with this number of descriptors.
    #[track_caller]
    pub fn receive_files<const COUNT: usize>(&self, text: &str) -> [OwnedFd; COUNT] {
        let (received, files) = self.receive().expect("the other process has ended");
        assert_eq!(received, text);
        files.try_into().expect("as many descriptors")
    }
}

/// This program, running as another process. Killed when dropped.
pub struct OtherProcess {
    child: Child,
    pub socket: Socket,
}

impl OtherProcess {
    /// Runs the test of this name in another process.
    pub fn start(test: &str) -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("descriptors are left");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--nocapture", "--exact", test])
            .env(SOCKET, "")
            .stdin(theirs)
            // Only the test itself prints there.
            .stdout(Stdio::null())
            .spawn()
            .expect("this program runs");
        Self { child, socket: Socket(ours) }
    }

    /// Kills the process, and returns when it has ended. It must not have ended before.
    pub fn kill(mut self) {
        use std::os::unix::process::ExitStatusExt as _;

        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it was started");
        assert_eq!(status.signal(), Some(9), "the other process ended itself: {status}");
    }

    /// Like [`kill`](Self::kill), while a thread of the process has stopped.
    pub fn kill_stopped(mut self, thread: Tracee) {
        self.child.kill().expect("it runs");
        thread.wait_for_death();
        self.child.wait().expect("it was started");
    }

    /// Waits until the process ends.
    pub fn end(mut self) -> ExitStatus {
        self.child.wait().expect("it was started")
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Measures how long it takes until a thread that sleeps runs again because another process has woken it, and
//! compares that with the machine's own futex in the same run.
//!
//! ```text
//! cargo run --release -p blockcast-blocks --example wake_up
//! ```
//! Two processes take turns: each wakes the other one, and sleeps until that wakes it. The time is from
//! before the message is published until the other thread has received it. The ways alternate, many times,
//! and the table shows the medians: with both processes on one processor, and with each on its own. There,
//! each pauses before it wakes the other one, which has gone to sleep by then.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use blockcast_blocks::{
    AnnexTerms, Bell, Bytes, Channel, ChannelConfig, Payload, PublisherId, Reader, ReaderOptions,
    ReceiveError, SegmentFiles, Signal, Trust, Writer, channel, park,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::thread::{CpuSet, futex, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Rounds of one way before it is the next one's turn.
const ROUNDS: u32 = 500;
/// How often each way has its turn.
const TURNS: usize = 20;

/// Long enough for a thread that has nothing else to do to go to sleep.
const PAUSE: Duration = Duration::from_micros(50);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How the two processes wake each other.
#[derive(Clone, Copy)]
enum Way {
    /// The machine's own: `FUTEX_WAKE` and `FUTEX_WAIT` on words that both can write.
    Futex,
    /// A thread that waits for a message.
    Thread,
    /// A waker that is not the thread's own, as tasks have: by the bell and the thread that answers it.
    Bell,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Futex, "the machine's futex"),
    (Way::Thread, "a thread that waits for a message"),
    (Way::Bell, "a task, by the bell of its process"),
];

/// One side of the conversation.
struct Side {
    is_first: bool,
    /// If not 0, how long to pause before waking the other side.
    pause: Duration,
    /// The lines that this side and the other side write.
    own: &'static Line,
    other: &'static Line,
    writer: Writer,
    reader: Reader,
    waker: Waker,
}

/// The line that one side writes.
#[repr(C, align(128))]
struct Line {
    word: AtomicU32,
    /// When it woke the other side, in nanoseconds.
    time: AtomicU64,
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Side {
    /// Takes part in some rounds. Returns how many nanoseconds each wake-up of this side took.
    fn take_turns(&mut self, way: Way) -> Outcome<Vec<u64>> {
        let mut times = Vec::with_capacity(ROUNDS as usize);
        for _ in 0..ROUNDS {
            if self.is_first {
                self.wake(way)?;
            }
            self.sleep(way)?;
            times.push(now() - self.other.time.load(Ordering::Relaxed));
            if !self.is_first {
                self.wake(way)?;
            }
        }
        Ok(times)
    }

    fn wake(&mut self, way: Way) -> Outcome<()> {
        let began = Instant::now();
        while began.elapsed() < self.pause {
            std::hint::spin_loop();
        }
        self.own.time.store(now(), Ordering::Relaxed);
        if let Way::Futex = way {
            self.own.word.fetch_add(1, Ordering::SeqCst);
            futex::wake(&self.own.word, futex::Flags::empty(), 1)?;
        } else {
            let mut loan = self.writer.loan(8, None)?;
            loan[..8].copy_from_slice(&[7; 8]);
            loan.publish(8)?;
        }
        Ok(())
    }

    fn sleep(&mut self, way: Way) -> Outcome<()> {
        match way {
            Way::Futex => {
                let Line { word: own, .. } = self.own;
                let Line { word: other, .. } = self.other;
                // The first side is one ahead while it sleeps.
                let expected = own.load(Ordering::SeqCst).wrapping_add(u32::from(!self.is_first));
                while other.load(Ordering::SeqCst) != expected {
                    match futex::wait(other, futex::Flags::empty(), expected.wrapping_sub(1), None) {
                        Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                return Ok(());
            }
            Way::Thread => {
                park::until(None, |cx| self.reader.poll_ready(cx));
            }
            Way::Bell => {
                let mut cx = Context::from_waker(&self.waker);
                while self.reader.poll_ready(&mut cx) == Poll::Pending {
                    thread::park();
                }
            }
        }
        let received = self.reader.receive()?;
        assert_eq!(received.bytes(), [7; 8]);
        Ok(())
    }
}

/// Wakes a thread as any executor does.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some("other") {
        let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
        return converse(&socket, false).map(|_| ());
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut other = Ended(Command::new(std::env::current_exe()?).arg("other").stdin(theirs).spawn()?);
    let times = converse(&ours, true)?;
    if !other.0.wait()?.success() {
        return Err("the other process failed".into());
    }
    let rounds = ROUNDS as usize * TURNS;
    println!(
        "until another process runs again, median of {rounds} rounds   one processor       two processors"
    );
    let medians = times.map(|ways| {
        ways.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2] as f64 / 1000.0
        })
    });
    for (index, (_, name)) in WAYS.iter().enumerate() {
        print!("{name:53}");
        for ways in medians {
            print!("   {:6.1} µs {:5.2} x", ways[index], ways[index] / ways[0]);
        }
        println!();
    }
    Ok(())
}

/// The other process, which does not outlive this one.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sets up one side, and measures all ways.
fn converse(socket: &OwnedFd, is_first: bool) -> Outcome<[[Vec<u64>; 3]; 2]> {
    let words = if is_first {
        let file = memfd_create("words", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, 4096)?;
        send(socket, &[file.as_fd()])?;
        file
    } else {
        let [file] = receive(socket)?;
        file
    };
    // SAFETY: a new mapping.
    let words = unsafe {
        mmap(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &words, 0)
    }?;
    // SAFETY: mapped for as long as the process runs, and only accessed as atomics.
    let [one, two] = unsafe { &*words.cast::<[Line; 2]>() };
    let (own, other) = if is_first { (one, two) } else { (two, one) };

    let writer = channel(config())?;
    let (remote, bell) = if is_first {
        attach(socket, writer.channel())?;
        open(socket)?
    } else {
        let opened = open(socket)?;
        attach(socket, writer.channel())?;
        opened
    };
    let reader = remote.join(&Bytes::schema(), ReaderOptions::default(), Signal::new())?;
    // Ends with the process.
    thread::spawn(move || answer(&bell, &remote));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut side = Side { is_first, pause: Duration::ZERO, own, other, writer, reader, waker };
    let last = thread::available_parallelism()?.get() - 1;
    let mut times = [const { [const { Vec::new() }; 3] }; 2];
    for _ in 0..TURNS {
        for (apart, ways) in [false, true].into_iter().zip(&mut times) {
            pin(if apart && !is_first { last } else { 0 })?;
            side.pause = if apart { PAUSE } else { Duration::ZERO };
            meet(socket)?;
            for ((way, _), times) in WAYS.iter().zip(ways) {
                times.extend(side.take_turns(*way)?);
            }
        }
    }
    assert_eq!(side.reader.receive().err(), Some(ReceiveError::Empty));
    meet(socket)?;
    Ok(times)
}

/// Keeps this thread on one processor.
fn pin(processor: usize) -> Outcome<()> {
    let mut processors = CpuSet::new();
    processors.set(processor);
    Ok(sched_setaffinity(None, &processors)?)
}

fn config() -> ChannelConfig {
    ChannelConfig::new(PublisherId::new(1), Bytes::schema())
}

/// Attaches the other process to our channel.
fn attach(socket: &OwnedFd, channel: &Channel) -> Outcome<()> {
    let SegmentFiles { control, arena } = channel.share()?;
    // Nobody waits for our bell: the subscriber keeps up.
    let (bell, subscribers_bell) = Bell::pair()?;
    send(socket, &[control.as_fd(), arena.as_fd(), subscribers_bell.as_fd()])?;
    let [annex] = receive(socket)?;
    channel.attach(annex, AnnexTerms::default(), bell)?;
    meet(socket)
}

/// Opens the other process's channel. Returns it with the bell that rings for it.
fn open(socket: &OwnedFd) -> Outcome<(Arc<Channel>, Bell)> {
    let [control, arena, bell] = receive(socket)?;
    let files = SegmentFiles { control, arena: Arc::new(arena) };
    let bell = Bell::from_fd(bell)?;
    // SAFETY: the other process is this program. It keeps the promises.
    let opened = unsafe {
        Channel::open_remote(files, config(), &AnnexTerms::default(), Trust::Checked, bell.clone())
    };
    let (channel, annex) = opened?;
    send(socket, &[annex.as_fd()])?;
    meet(socket)?;
    Ok((channel, bell))
}

/// Answers the bell.
fn answer(bell: &Bell, channel: &Channel) {
    while poll(&mut [PollFd::new(bell, PollFlags::IN)], None).is_ok() {
        bell.drain();
        channel.bell_rang();
    }
}

/// Waits until the other side is here, too.
fn meet(socket: &OwnedFd) -> Outcome<()> {
    let mut file = std::fs::File::from(socket.try_clone()?);
    file.write_all(b"x")?;
    file.read_exact(&mut [0])?;
    Ok(())
}

fn send(socket: &OwnedFd, files: &[BorrowedFd<'_>]) -> Outcome<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    with.push(SendAncillaryMessage::ScmRights(files));
    sendmsg(socket, &[std::io::IoSlice::new(b"f")], &mut with, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive<const COUNT: usize>(socket: &OwnedFd) -> Outcome<[OwnedFd; COUNT]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0];
    recvmsg(socket, &mut [std::io::IoSliceMut::new(&mut text)], &mut with, RecvFlags::CMSG_CLOEXEC)?;
    let files = with.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    files.flatten().collect::<Vec<_>>().try_into().map_err(|_| "descriptors are missing".into())
}

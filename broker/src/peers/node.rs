//! [`Node`]: the part of one process in the channels that it shares with others.
//!
//! A node offers the channels of its broker's publishers, attaches the annexes of other processes to them,
//! and opens the channels that others offer. It speaks with the host in [`Request`]s and [`Notice`]s. It
//! answers the bells of these channels. It watches the pidfd of every process with which it shares one, so
//! that a death is noticed even if the host is gone.
//!
//! A node belongs to the thread that runs it. Client and host both have one; the host's own talks to the
//! [registry](super::registry) without a socket.

mod bells;
mod copies;
mod inspection;
mod publishers;
mod stalls;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use blockcast_blocks::OpenError;

use crate::peers::link::{Command, Commands};
use crate::peers::poller::{Poller, Token};
use crate::peers::protocol::{
    ChannelNumber, FileId, MAX_TEXT, Message as _, Notice, PeerId, Request, SeatId,
};
use crate::peers::socket::{Broken, File};
use crate::peers::wall::Wall;
use bells::Bells;
use inspection::Question;
use publishers::Published;
use stalls::StallWatch;
use subscriptions::{Interest, RemoteSeat};

/// Numbers the connections to hosts that a node has had. Numbers of processes and seats are valid within one
/// of them.
pub(crate) type Session = u64;

/// The first number that a wall gives to bells and to the processes with which it shares channels. The host's
/// other node never counts as far.
const WALL_NUMBERS: u64 = 1 << 32;

/// A request on its way to the host.
pub(crate) type Outgoing = (Request, Vec<File>);

/// The part of one process in the channels that it shares with others.
#[derive(Debug)]
pub(crate) struct Node {
    poller: Arc<Poller>,
    commands: Commands,
    session: Session,
    /// Whether there is a host.
    is_connected: bool,
    /// Whether the host knows everything that this process has.
    is_known: bool,
    /// This process's publishers.
    published: BTreeMap<ChannelNumber, Published>,
    /// The topics to which this process subscribes.
    interests: BTreeMap<String, Interest>,
    /// The channels of other processes.
    seats: BTreeMap<(Session, SeatId), RemoteSeat>,
    /// Publishers that this process has left while there was no host, by their number and the annex. Every
    /// host learns of them: its predecessor may have ended before the publishers were announced.
    departed: VecDeque<(u64, FileId)>,
    /// Topics to which components of this process may publish again after a restart.
    expected: BTreeSet<String>,
    /// The processes with which this one shares channels, by the number of their token.
    processes: BTreeMap<u64, Watched>,
    next_process: u64,
    bells: Bells,
    next_request: u64,
    /// The questions to the host, in order. The first one has been sent.
    questions: VecDeque<Question>,
    /// Copies the messages of the channels that others offer, if this is the [wall](super::wall) of a host.
    wall: Option<Wall>,
    stalls: StallWatch,
    out: Vec<Outgoing>,
}

/// A process that is watched until it ends.
#[derive(Debug)]
struct Watched {
    peer: (Session, PeerId),
    pidfd: OwnedFd,
    /// Seats that the two processes share.
    seats: usize,
}

impl Node {
    /// A node that has a host. `commands` come from the process's own threads.
    pub(crate) fn new(poller: Arc<Poller>, commands: Commands) -> Self {
        Self {
            bells: Bells::new(Arc::clone(&poller), 0),
            poller,
            commands,
            session: 0,
            is_connected: true,
            is_known: true,
            published: BTreeMap::new(),
            interests: BTreeMap::new(),
            seats: BTreeMap::new(),
            departed: VecDeque::new(),
            expected: BTreeSet::new(),
            processes: BTreeMap::new(),
            next_process: 0,
            next_request: 0,
            questions: VecDeque::new(),
            wall: None,
            stalls: StallWatch::default(),
            out: Vec::new(),
        }
    }

    /// The wall of a host. It shares the poller and the commands of the host's other node.
    pub(crate) fn wall(poller: Arc<Poller>, commands: Commands, wall: Wall) -> Self {
        let mut node = Self::new(Arc::clone(&poller), commands);
        (node.wall, node.next_process) = (Some(wall), WALL_NUMBERS);
        node.bells = Bells::new(poller, WALL_NUMBERS);
        node
    }

    /// Takes the requests to send.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.out)
    }

    /// Whether the node is no longer needed, because no channel is shared.
    pub(crate) fn is_idle(&self) -> bool {
        self.published.is_empty() && self.interests.is_empty() && self.seats.is_empty()
    }

    /// Executes a command, except those that the caller executes.
    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Publish { number, channel, topic, files, reply } => {
                self.publish(number, &channel, topic, files, reply);
            }
            Command::Unpublish { number } => self.unpublish(number),
            Command::Subscribe { ticket, topic, reply } => self.subscribe(ticket, &topic, reply),
            Command::Unsubscribe { ticket, topic } => self.unsubscribe(ticket, &topic),
            Command::Released { session, seat } => self.release(session, seat),
            Command::Expect { topic, is_expected } => self.say_expected(topic, is_expected),
            Command::Inspect { selection, reply } => self.inspect(selection, reply),
            // Their caller executes these.
            Command::Report { .. } | Command::Child(_) | Command::Listen(_) | Command::Stop { .. } => {}
        }
    }

    /// Handles a notice of the host.
    ///
    /// # Errors
    /// [`Broken::Violation`] if no correct host sends it.
    pub(crate) fn notice(&mut self, notice: Notice, files: Vec<File>) -> Result<(), Broken> {
        if files.len() < notice.files() {
            return self.lacks_room(notice);
        }
        let mut files = files.into_iter();
        let mut file = || files.next().ok_or_else(|| Broken::Violation("a descriptor is missing".to_owned()));
        match notice {
            Notice::Refused { .. } | Notice::Welcome { .. } => {
                return Err(Broken::Violation("a second greeting".to_owned()));
            }
            Notice::Job | Notice::Finish | Notice::Cancel | Notice::Count => {
                return Err(Broken::Violation("a notice for components of the host".to_owned()));
            }
            Notice::Opened { channel } => self.opened(channel, Ok(())),
            Notice::OpenRefused { channel, why } => self.opened(channel, Err(why)),
            Notice::Attach { seat, channel, subscriber, terms } => {
                let (annex, bell, pidfd) = (file()?, file()?, file()?);
                self.attach(seat, channel, &subscriber, terms, (annex, bell, pidfd));
            }
            Notice::Left { seat } => self.detach(seat),
            Notice::Subscribed { request, seats } => self.subscribed(request, &seats),
            Notice::SubscribeRefused { request, why } => self.subscribe_refused(request, why),
            Notice::Channel { seat, topic, publisher, owner, terms } => {
                let files = [file()?, file()?, file()?, file()?];
                self.take_seat(seat, &topic, publisher, &owner, terms, files);
            }
            Notice::Attached { seat } => self.join(seat),
            Notice::LeftBefore { channel, annex } => self.detach_former(channel, annex),
            Notice::Late { seat } => self.publisher_is_late(seat),
            Notice::Expect { topic, is_expected } => self.expect(&topic, is_expected),
            Notice::Failed { seat, why, is_error } => self.seat_failed((self.session, seat), why, is_error),
            Notice::Ended { seat } => self.publisher_ended(seat),
            Notice::Known => self.is_known = true,
            Notice::Topics { request, topics, is_last } => self.learned(request, topics, is_last),
            Notice::Report { query, channels } => self.report(query, &channels),
        }
        Ok(())
    }

    /// Handles a notice that has come without its files, because this process or the host has no room for
    /// them.
    fn lacks_room(&mut self, notice: Notice) -> Result<(), Broken> {
        let why = "this process or its host has no file descriptor left (RLIMIT_NOFILE)".to_owned();
        match notice {
            Notice::Channel { seat, topic, .. } => self.cannot_join(seat, &topic, why),
            Notice::Attach { seat, .. } => self.send(Request::NotAttached { seat, why }),
            _ => return Err(Broken::Violation("a descriptor is missing".to_owned())),
        }
        Ok(())
    }

    /// Call this when a bell has rung: wakes everyone who waits for the other process of its channel.
    pub(crate) fn bell_rang(&mut self, token: u64) {
        self.bells.rang(token);
    }

    /// Call this when the host is gone. Channels that are shared go on; nobody can join.
    pub(crate) fn disconnected(&mut self) {
        (self.is_connected, self.is_known) = (false, false);
        self.out.clear();
        // This tells the waiting threads that there is no answer.
        self.questions.clear();
        self.fail_openings(&OpenError::Disconnected);
        self.fail_interests(&OpenError::Disconnected);
        self.expect_nothing();
    }

    /// Call this when there is a host again: it learns of everything that this process has.
    pub(crate) fn reconnected(&mut self) {
        self.session += 1;
        self.is_connected = true;
        self.say_expected_again();
        self.republish();
        self.resubscribe();
        self.leave_former();
        self.send(Request::Announced);
    }

    /// Whether there is a host that knows everything that this process has.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Call this when the pidfd of a process has become readable: the process has ended.
    pub(crate) fn process_ended(&mut self, token: u64) {
        let Some(watched) = self.processes.remove(&token) else { return };
        self.poller.remove(watched.pidfd.as_fd());
        self.detach_process(watched.peer);
        self.end_publishers_of(watched.peer);
    }

    /// Like [`process_ended`](Self::process_ended), for a process of the current host by its number. Does
    /// nothing if no channel is shared with it.
    pub(crate) fn peer_ended(&mut self, peer: PeerId) {
        let peer = (self.session, peer);
        let found = self.processes.iter().find(|(_, watched)| watched.peer == peer);
        if let Some((&token, _)) = found {
            self.process_ended(token);
        }
    }

    /// Watches a process because of one more seat.
    fn watch(&mut self, peer: PeerId, pidfd: &File) -> std::io::Result<()> {
        let peer = (self.session, peer);
        if let Some(watched) = self.processes.values_mut().find(|watched| watched.peer == peer) {
            watched.seats += 1;
            return Ok(());
        }
        let (token, pidfd) = (self.next_process, pidfd.as_fd().try_clone_to_owned()?);
        self.poller.add(&pidfd, Token::Process(token))?;
        self.next_process += 1;
        self.processes.insert(token, Watched { peer, pidfd, seats: 1 });
        Ok(())
    }

    /// Reverts one [`watch`](Self::watch).
    fn unwatch(&mut self, peer: (Session, PeerId)) {
        let Some((&token, watched)) = self.processes.iter_mut().find(|(_, watched)| watched.peer == peer)
        else {
            return;
        };
        watched.seats -= 1;
        if watched.seats == 0
            && let Some(watched) = self.processes.remove(&token)
        {
            self.poller.remove(watched.pidfd.as_fd());
        }
    }

    fn send(&mut self, request: Request) {
        self.send_with(request, Vec::new());
    }

    fn send_with(&mut self, request: Request, files: Vec<File>) {
        if self.is_connected {
            self.out.push((request, files));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nobody answers any more.
        self.disconnected();
    }
}

/// Returns our own descriptor of a file that others may share.
pub(super) fn owned(file: File) -> std::io::Result<OwnedFd> {
    Arc::try_unwrap(file).or_else(|shared| shared.try_clone())
}

/// Identifies a memfd among the open files. Other files are not queried, since they may take long to answer.
fn file_id(file: &File) -> Option<FileId> {
    rustix::fs::fcntl_get_seals(file).ok()?;
    let stat = rustix::fs::fstat(file).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Formats a reason that is short enough for a packet.
fn reason(error: &dyn std::fmt::Display) -> String {
    blockcast_blocks::text::line_within(&error.to_string(), MAX_TEXT).into_owned()
}

//! The thread of a process that is connected to a host, and how it connects.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use blockcast_blocks::shield::event;
use blockcast_blocks::text;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::sync::watch;

use crate::control::shared::Shared;
use crate::peers::error::ConnectError;
use crate::peers::identity::{Credentials, has_ended, pidfd_of_peer};
use crate::peers::job::Job;
use crate::peers::link::{Command, CommandReceiver, Commands};
use crate::peers::node::{Node, owned};
use crate::peers::options::ConnectOptions;
use crate::peers::poller::{Poller, Token};
use crate::peers::protocol::{MAX_TEXT, Notice, Request, Versions};
use crate::peers::registry::host_number;
use crate::peers::socket::{Broken, File, PacketSocket, RETRY};

/// How long to pause before trying again to connect to a host that is busy.
const PAUSE: Duration = Duration::from_millis(5);

/// How long to wait before the first attempt to connect to a new host.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// How long to wait between two attempts at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that the host has accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: PacketSocket,
    pub(crate) welcome: Welcome,
}

/// What the host tells a process first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Welcome {
    /// The first number of this process's publishers.
    pub(crate) first_publisher: u64,
    /// The [number](host_number) of the host.
    pub(crate) host_number: u32,
    /// How long the host lets a publisher wait for subscribing processes.
    pub(crate) host_patience: Duration,
}

impl Welcome {
    /// `None` if the notice is another one.
    fn of(notice: &Notice) -> Option<Self> {
        let &Notice::Welcome { peer, first_publisher, patience } = notice else { return None };
        let host_patience = Duration::from_millis(patience);
        Some(Self { first_publisher, host_number: host_number(peer, first_publisher), host_patience })
    }

    /// Makes the broker's numbers fit those of the host.
    pub(crate) fn apply(&self, shared: &Shared) {
        shared.set_next_publisher(self.first_publisher);
        shared.join_host(self.host_number);
    }
}

/// Connects to the host at `path` and introduces this process.
pub(crate) fn greet(path: &Path, options: &ConnectOptions) -> Result<Accepted, ConnectError> {
    let deadline = Instant::now() + options.get_patience();
    let mut socket = open_socket(path, options, deadline)?;
    let has_ended = has_ended(&socket);
    let deadline = if has_ended { deadline.min(Instant::now() + LONGEST_PAUSE) } else { deadline };
    say_hello(&mut socket, options)?;
    let welcome = await_welcome(&mut socket, deadline).map_err(|error| match error {
        // Either a forked child of a dead host still has its socket, or a stopped host uses a socket whose
        // creator has ended.
        ConnectError::Unresponsive if has_ended => ConnectError::NoHost(path.to_owned()),
        error => error,
    })?;
    Ok(Accepted { socket, welcome })
}

/// Introduces this process to the host that started it to run a component. Returns the component's job too.
pub(crate) fn greet_parent(
    socket: OwnedFd,
    options: &ConnectOptions,
) -> Result<(Accepted, Job), ConnectError> {
    let deadline = Instant::now() + options.get_patience();
    let mut socket = PacketSocket::new(socket)?;
    say_hello(&mut socket, options)?;
    let welcome = await_welcome(&mut socket, deadline)?;
    let (job, files) = await_notice(&mut socket, deadline)?;
    let (Notice::Job, Some(file)) = (&job, files.into_iter().next()) else {
        return Err(Broken::Violation(format!("{job:?} instead of a job")).into());
    };
    let job = owned(file).and_then(Job::from_file).map_err(|error| system("read the job", &error))?;
    Ok((Accepted { socket, welcome }, job))
}

/// Waits for the host's first notice.
fn await_welcome(socket: &mut PacketSocket, deadline: Instant) -> Result<Welcome, ConnectError> {
    let notice = await_notice(socket, deadline)?.0;
    match (Welcome::of(&notice), notice) {
        (Some(welcome), _) => Ok(welcome),
        (None, Notice::Refused { ours: theirs, theirs: ours, why }) => {
            let why = text::line(&why).into_owned();
            Err(ConnectError::Refused { ours, theirs, why })
        }
        (None, other) => Err(Broken::Violation(format!("{other:?} before its greeting")).into()),
    }
}

fn await_notice(socket: &mut PacketSocket, deadline: Instant) -> Result<(Notice, Vec<File>), ConnectError> {
    loop {
        if let Some(notice) = socket.receive()? {
            return Ok(notice);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectError::Unresponsive);
        }
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&*socket, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(system("wait for the host", &error.into())),
        }
    }
}

fn say_hello(socket: &mut PacketSocket, options: &ConnectOptions) -> Result<(), ConnectError> {
    let name = text::line_within(options.get_name(), MAX_TEXT).into_owned();
    Ok(socket.send(&Request::Hello { versions: Versions::current(), name }, Vec::new())?)
}

/// Connects, and waits while the host is busy.
fn open_socket(
    path: &Path,
    options: &ConnectOptions,
    deadline: Instant,
) -> Result<PacketSocket, ConnectError> {
    loop {
        match connect_once(path, options) {
            Err(ConnectError::Unresponsive) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// Connects without waiting.
fn connect_once(path: &Path, options: &ConnectOptions) -> Result<PacketSocket, ConnectError> {
    let failed = |action: &'static str| move |error: Errno| system(action, &error.into());
    let address = SocketAddrUnix::new(path).map_err(failed("use the path of the socket"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(failed("create a socket"))?;
    connect(&socket, &address).map_err(|error| match error {
        // A socket that a dead host has left refuses.
        Errno::NOENT | Errno::CONNREFUSED => ConnectError::NoHost(path.to_owned()),
        // The host does not accept fast enough.
        Errno::AGAIN | Errno::INTR => ConnectError::Unresponsive,
        error => system("connect", &error.into()),
    })?;
    let host = Credentials::of_peer(&socket).map_err(failed("identify the host"))?;
    if !options.trusts_host_of(host.uid) {
        return Err(ConnectError::ForeignHost { path: path.to_owned(), uid: host.uid });
    }
    Ok(PacketSocket::new(socket)?)
}

fn system(action: &str, error: &io::Error) -> ConnectError {
    ConnectError::System { action: action.to_owned(), reason: error.to_string() }
}

/// The state of the thread of a connected process.
#[derive(Debug)]
pub(crate) struct ClientThread {
    poller: Arc<Poller>,
    node: Node,
    /// The connection to the host, while there is one.
    socket: Option<PacketSocket>,
    commands: Commands,
    is_connected: Arc<AtomicBool>,
    is_stopping: bool,
    /// How to connect again.
    again: Reconnection,
    /// The threads that wait until all reports are sent.
    unsent: Vec<mpsc::Sender<()>>,
}

/// Where a process finds its host again.
#[derive(Debug)]
pub(crate) enum Whereabouts {
    /// At this path.
    Path(PathBuf),
    /// Nowhere: the host has started the process, and gives it orders.
    Parent(watch::Sender<Orders>),
}

/// The host's orders to a process that runs one of its components.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    pub(crate) is_to_finish: bool,
    pub(crate) is_to_end: bool,
    /// The host has ended, or has given up the process.
    pub(crate) is_lost: bool,
    /// How often the host has asked for the counters.
    pub(crate) counts: u64,
}

/// How a client connects again after its host has ended.
#[derive(Debug)]
struct Reconnection {
    host_at: Whereabouts,
    options: ConnectOptions,
    shared: Arc<Shared>,
    /// The pidfd of the host. Its socket may have copies in forked children.
    host: Option<OwnedFd>,
    /// When to try next while there is no connection, or the deadline for the host's answer to the hello.
    at: Option<Instant>,
    /// How long to wait before the next attempt.
    pause: Duration,
    /// Whether the host has not answered the hello yet.
    is_greeting: bool,
}

impl Reconnection {
    /// Waits before the next attempt. The pauses grow until a host has accepted this process again, since a
    /// host may take long to start, and may refuse.
    fn pause(&mut self) {
        self.at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl ClientThread {
    pub(crate) fn new(
        socket: PacketSocket,
        commands: Commands,
        is_connected: Arc<AtomicBool>,
        (host_at, options, shared): (Whereabouts, ConnectOptions, Arc<Shared>),
    ) -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        poller.add(commands.event(), Token::Commands)?;
        let node = Node::new(Arc::clone(&poller), commands.clone());
        let (host, at, pause, is_greeting) = (None, None, FIRST_PAUSE, false);
        let again = Reconnection { host_at, options, shared, host, at, pause, is_greeting };
        let (is_stopping, unsent) = (false, Vec::new());
        let mut thread =
            Self { poller, node, socket: None, commands, is_connected, is_stopping, again, unsent };
        thread.watch(socket)?;
        Ok(thread)
    }

    /// Watches the connection and the process at its other end.
    fn watch(&mut self, socket: PacketSocket) -> io::Result<()> {
        self.poller.add(&socket, Token::Host)?;
        // Without a pidfd of the accepting process, the end of the connection has to suffice.
        self.again.host = if has_ended(&socket) { None } else { pidfd_of_peer(&socket).ok() };
        if let Some(host) = &self.again.host {
            self.poller.add(host, Token::HostProcess)?;
        }
        self.socket = Some(socket);
        Ok(())
    }

    /// Serves the process until nobody needs the connection any more.
    pub(crate) fn run(mut self, _receiver: &CommandReceiver) {
        while !(self.is_stopping && self.node.is_idle()) {
            let retry = self.socket.as_ref().filter(|socket| socket.is_paused());
            let retry = retry.map(|_| Instant::now() + RETRY);
            let ready = match self
                .poller
                .wait([self.again.at, retry, self.node.next_deadline()].into_iter().flatten().min())
            {
                Ok(ready) => ready,
                Err(error) => {
                    event(|| tracing::error!(%error, "a process can no longer wait for others"));
                    return;
                }
            };
            for token in ready {
                self.serve(token);
            }
            self.connect_again();
            self.node.tick(Instant::now());
            self.send_all();
        }
    }

    fn serve(&mut self, token: Token) {
        match token {
            Token::Commands => {
                self.commands.event().reset();
                while let Some(command) = self.commands.next() {
                    match command {
                        Command::Stop { reply } => {
                            self.is_stopping = true;
                            // The thread that asked may no longer wait.
                            let _ = reply.send(());
                        }
                        Command::Report { report, sent } => self.report(&report, sent),
                        command => self.node.command(command),
                    }
                }
            }
            Token::Bell(bell) => self.node.bell_rang(bell),
            Token::Host => self.receive_all(),
            Token::HostProcess => self.lose(&Broken::Closed),
            Token::Process(process) => self.node.process_ended(process),
            // Tokens of a host.
            Token::Listener | Token::Connection(_) | Token::ConnectionProcess(_) => {}
        }
    }

    fn receive_all(&mut self) {
        loop {
            let Some(socket) = &mut self.socket else { return };
            let received = match socket.receive() {
                Ok(None) => return,
                Ok(Some((notice, _))) if self.again.is_greeting => self.greeted(notice),
                Ok(Some((notice, files))) => match self.again.host_at.order(&notice) {
                    true => Ok(()),
                    false => self.node.notice(notice, files),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = received {
                return self.lose(&error);
            }
            let is_known = self.node.is_known();
            if is_known {
                self.again.pause = FIRST_PAUSE;
            }
            // Ordering: Relaxed; nothing depends on it.
            self.is_connected.store(is_known, Ordering::Relaxed);
        }
    }

    fn send_all(&mut self) {
        for (request, files) in self.node.take_outgoing() {
            let Some(socket) = &mut self.socket else { return };
            if let Err(error) = socket.send(&request, files) {
                return self.lose(&error);
            }
        }
        let Some(socket) = &mut self.socket else { return };
        let flushed = socket.flush().and_then(|()| {
            let watched = self.poller.watch_writable(&*socket, Token::Host, socket.is_waiting());
            watched.map_err(|error| Broken::System(error.to_string()))
        });
        match flushed {
            Err(error) => self.lose(&error),
            Ok(()) if self.socket.as_ref().is_some_and(PacketSocket::is_waiting) => {}
            // They may no longer wait.
            Ok(()) => self.unsent.drain(..).for_each(|sent| {
                let _ = sent.send(());
            }),
        }
    }

    fn report(&mut self, report: &Request, sent: mpsc::Sender<()>) {
        let Some(socket) = &mut self.socket else { return };
        match socket.send(report, Vec::new()) {
            Ok(()) => self.unsent.push(sent),
            Err(error) => self.lose(&error),
        }
    }

    /// Handles the loss of the connection: shared channels continue, but nobody can join.
    fn lose(&mut self, why: &Broken) {
        let Some(socket) = self.socket.take() else { return };
        self.poller.remove(&socket);
        if let Some(host) = self.again.host.take() {
            self.poller.remove(&host);
        }
        // This tells the waiting threads that there is no host.
        self.unsent.clear();
        match &self.again.host_at {
            Whereabouts::Path(_) => self.again.pause(),
            Whereabouts::Parent(orders) => orders.send_modify(|orders| orders.is_lost = true),
        }
        let why = why.to_string();
        if std::mem::take(&mut self.again.is_greeting) {
            event(|| tracing::debug!(why, "a new host does not take this process back"));
            return;
        }
        // Ordering: Relaxed; nothing depends on it.
        self.is_connected.store(false, Ordering::Relaxed);
        event(|| tracing::warn!(why, "the connection to the host is lost"));
        self.node.disconnected();
    }

    /// Tries to connect again if it is time.
    fn connect_again(&mut self) {
        if self.again.at.take_if(|at| *at <= Instant::now()).is_none() || self.is_stopping {
            return;
        }
        if self.socket.is_some() {
            // It has accepted the connection but does not answer.
            return self.lose(&Broken::Unresponsive);
        }
        let Reconnection { host_at: Whereabouts::Path(path), options, .. } = &self.again else {
            return;
        };
        let socket = connect_once(path, options).and_then(|mut socket| {
            say_hello(&mut socket, options)?;
            Ok(socket)
        });
        let connected =
            socket.and_then(|socket| self.watch(socket).map_err(|error| system("watch the host", &error)));
        self.again.is_greeting = connected.is_ok();
        match connected {
            Ok(()) => {
                let patience = self.again.options.get_patience();
                let ended = self.socket.as_ref().is_some_and(has_ended);
                let patience = if ended { patience.min(LONGEST_PAUSE) } else { patience };
                self.again.at = Some(Instant::now() + patience);
            }
            Err(_) => self.again.pause(),
        }
    }

    /// Handles a new host's answer to the hello.
    fn greeted(&mut self, notice: Notice) -> Result<(), Broken> {
        let Some(welcome) = Welcome::of(&notice) else {
            return Err(Broken::Refused(format!("{notice:?}")));
        };
        self.again.is_greeting = false;
        self.again.at = None;
        welcome.apply(&self.again.shared);
        event(|| tracing::info!("connected to a new host"));
        self.node.reconnected();
        Ok(())
    }
}

impl Whereabouts {
    /// Passes on an order of the host. Returns `false` if the notice is not an order.
    fn order(&self, notice: &Notice) -> bool {
        let Self::Parent(orders) = self else { return false };
        let change: fn(&mut Orders) = match notice {
            Notice::Finish => |orders| orders.is_to_finish = true,
            Notice::Cancel => |orders| orders.is_to_end = true,
            Notice::Count => |orders| orders.counts += 1,
            _ => return false,
        };
        orders.send_modify(change);
        true
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::socketpair;

    use super::*;

    /// A client, and the host's end of its connection.
    fn client() -> (ClientThread, OwnedFd) {
        let broker = crate::Broker::new();
        let flags = SocketFlags::CLOEXEC;
        let (socket, host) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let again =
            (Whereabouts::Path("/nowhere".into()), ConnectOptions::new(), Arc::clone(broker.shared()));
        let (commands, is_connected) = (Commands::new().unwrap(), Arc::default());
        let socket = PacketSocket::new(socket).unwrap();
        (ClientThread::new(socket, commands, is_connected, again).unwrap(), host)
    }

    #[test]
    fn a_client_that_no_host_takes_back_waits_longer_each_time() {
        let (mut thread, _host) = client();
        let mut waited = Vec::new();
        thread.lose(&Broken::Closed);
        for round in 0..10 {
            waited.push(thread.again.pause);
            if round % 2 == 0 {
                // A host that accepts the connection but does not answer the hello.
                let flags = SocketFlags::CLOEXEC;
                let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
                thread.watch(PacketSocket::new(pair.0).unwrap()).unwrap();
                thread.again.is_greeting = true;
            }
            thread.again.at = Some(Instant::now());
            thread.connect_again();
            assert!(thread.socket.is_none() && thread.again.at.is_some(), "it tries again");
        }
        assert!(waited.is_sorted() && waited[4] > 8 * waited[0], "{waited:?}");
        assert_eq!(waited.last(), Some(&LONGEST_PAUSE));
    }
}

//! The thread of a process that serves its topics to others, or whose components run in other processes.

mod components;
mod inspector;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blockcast_blocks::shield::event;
use blockcast_blocks::{Bell, Trust, text};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Signal, pidfd_send_signal};

use crate::control::shared::Shared;
use crate::peers::identity::{Credentials, label, own_pidfd, pidfd_of_peer};
use crate::peers::link::{Command, CommandReceiver, Commands};
use crate::peers::node::Node;
use crate::peers::options::ServeOptions;
use crate::peers::place::Place;
use crate::peers::poller::{Poller, Token};
use crate::peers::protocol::{Message as _, Notice, PeerId, Request, Versions};
use crate::peers::registry::{Newcomer, Registry, Stalled, host_number};
use crate::peers::socket::{Broken, File, PacketSocket, RETRY};
use crate::peers::wall::Wall;
use components::Child;
use inspector::HostInspector;

/// How long to accept no connections after the system has refused one, such as for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of connections that have not introduced themselves. Beyond it, the oldest is disconnected.
const MAX_SILENT: usize = 64;

/// Packets of one process, or connections, that are handled before others have their turn.
const TURN: usize = 64;

/// The state of a host's thread.
#[derive(Debug)]
pub(crate) struct HostThread {
    poller: Arc<Poller>,
    node: Node,
    registry: Registry<File>,
    /// This process, in the registry.
    own: PeerId,
    /// Copies the messages of walled publishers.
    wall: Node,
    /// The wall, in the registry.
    wall_id: PeerId,
    place: Option<Place>,
    options: ServeOptions,
    inspector: HostInspector,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    accepts_again: Option<Instant>,
    /// Connections that wait until fewer descriptors are in flight.
    paused: BTreeSet<u64>,
    commands: Commands,
    /// Number of [`Children`](crate::peers::children::Children) in use, which may add processes.
    users: u32,
    is_stopping: bool,
    /// Number of processes killed because they stalled a publisher.
    killed: Arc<AtomicU64>,
}

/// A process that has connected.
#[derive(Debug)]
struct Connection {
    socket: PacketSocket,
    credentials: Credentials,
    pidfd: File,
    /// Its number, once it has introduced itself.
    peer: Option<PeerId>,
    /// The component that it runs, if this process started it for that.
    child: Option<Child>,
}

impl HostThread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: Option<Place>,
        options: ServeOptions,
        commands: Commands,
        killed: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        poller.add(commands.event(), Token::Commands)?;
        if let Some(place) = &place {
            poller.add(place.listener(), Token::Listener)?;
        }
        let mut registry = Registry::new(&options, random(), create_bell);
        let own_label = label(options.get_name(), Credentials::own().pid);
        let newcomer = |label: String| {
            Ok::<_, io::Error>(Newcomer {
                grants: None,
                limits: options.get_limits().clone(),
                topics: u32::MAX,
                trust: options.trust_in_host(),
                label,
                component: None,
                pidfd: Arc::new(own_pidfd()?),
            })
        };
        let (own, first_publisher) = registry.admit(newcomer(own_label.clone())?);
        shared.join_host(host_number(own, first_publisher));
        let node = Node::new(Arc::clone(&poller), commands.clone());
        let wall_id = registry.admit_wall(newcomer(format!("{own_label} (copies)"))?);
        let copies = Wall::new(Arc::downgrade(&shared));
        let wall = Node::wall(Arc::clone(&poller), commands.clone(), copies);
        let (connections, inspector) = (BTreeMap::new(), HostInspector(shared));
        let (next_connection, accepts_again, users, is_stopping) = (0, None, 0, false);
        Ok(Self {
            poller,
            node,
            registry,
            own,
            wall,
            wall_id,
            place,
            options,
            inspector,
            connections,
            next_connection,
            accepts_again,
            paused: BTreeSet::new(),
            commands,
            users,
            is_stopping,
            killed,
        })
    }

    /// Serves until the host is no longer needed.
    pub(crate) fn run(mut self, _receiver: &CommandReceiver) {
        while !(self.is_stopping && self.node.is_idle() && self.wall.is_idle()) {
            let retry = (!self.paused.is_empty()).then(|| Instant::now() + RETRY);
            let stalls = [self.node.next_deadline(), self.wall.next_deadline()];
            let deadlines = [self.registry.next_deadline(), self.accepts_again, retry];
            let deadlines = deadlines.into_iter().chain(stalls);
            let deadline = deadlines.into_iter().flatten().min();
            let ready = match self.poller.wait(deadline) {
                Ok(ready) => ready,
                Err(error) => {
                    event(|| tracing::error!(%error, "a host can no longer wait for other processes"));
                    return;
                }
            };
            for token in ready {
                self.serve(token);
                self.deliver();
            }
            std::mem::take(&mut self.paused).into_iter().for_each(|number| self.flush(number));
            let now = Instant::now();
            self.registry.tick(now);
            self.node.tick(now);
            self.wall.tick(now);
            if self.accepts_again.take_if(|again| *again <= now).is_some()
                && let Some(place) = &self.place
            {
                // If this fails, nobody can connect any more. Existing connections continue.
                let _ = self.poller.add(place.listener(), Token::Listener);
            }
            self.deliver();
        }
    }

    fn serve(&mut self, token: Token) {
        match token {
            Token::Commands => {
                self.commands.event().reset();
                while let Some(command) = self.commands.next() {
                    match command {
                        Command::Child(command) => self.child_command(*command),
                        Command::Listen(listen) => self.listen(*listen),
                        Command::Stop { reply } => {
                            self.stop_serving();
                            // The thread that asked may no longer wait.
                            let _ = reply.send(());
                        }
                        // Each node ignores the seats and channels of the other: they share none.
                        Command::Released { session, seat } => {
                            self.wall.command(Command::Released { session, seat });
                            self.node.command(Command::Released { session, seat });
                        }
                        Command::Unpublish { number } => {
                            self.wall.command(Command::Unpublish { number });
                            self.node.command(Command::Unpublish { number });
                        }
                        command => self.node.command(command),
                    }
                }
            }
            Token::Bell(bell) => {
                self.node.bell_rang(bell);
                self.wall.bell_rang(bell);
            }
            Token::Listener => self.accept_all(),
            Token::Connection(number) => self.receive_all(number),
            Token::ConnectionProcess(number) => self.connection_ended(number),
            Token::Process(process) => {
                self.node.process_ended(process);
                self.wall.process_ended(process);
            }
            // Tokens of a client.
            Token::Host | Token::HostProcess => {}
        }
    }

    /// Stops accepting connections. Shared channels continue.
    fn stop_serving(&mut self) {
        if let Some(place) = self.place.take() {
            self.poller.remove(place.listener());
        }
        let others = self.connections.iter().filter(|(_, connection)| connection.child.is_none());
        let others: Vec<_> = others.map(|(&number, _)| number).collect();
        others.into_iter().for_each(|number| self.disconnect(number, &Broken::Closed));
        self.stop_unless_needed();
    }

    /// Unlinks the broker unless the host is still needed. Then nobody can join any more.
    fn stop_unless_needed(&mut self) {
        if self.is_stopping || self.place.is_some() || self.users > 0 {
            return;
        }
        self.is_stopping = true;
        self.inspector.0.unlink();
        self.node.disconnected();
        self.wall.disconnected();
    }

    fn accept_all(&mut self) {
        for _ in 0..TURN {
            let Some(place) = &self.place else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(place.listener(), flags) {
                Ok(socket) => self.accept(socket),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    let error = error.to_string();
                    event(|| tracing::warn!(error, "the system refuses to accept a connection"));
                    self.poller.remove(place.listener());
                    self.accepts_again = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }

    fn accept(&mut self, socket: OwnedFd) {
        let introduced = (|| {
            let credentials = Credentials::of_peer(&socket)?;
            let pidfd = Arc::new(pidfd_of_peer(&socket)?);
            let socket = PacketSocket::new(socket)?;
            Ok::<_, Broken>(Connection { socket, credentials, pidfd, peer: None, child: None })
        })();
        let connection = match introduced {
            Ok(connection) => connection,
            Err(error) => {
                let error = error.to_string();
                event(|| tracing::warn!(error, "a process that connects cannot be identified"));
                return;
            }
        };
        self.make_room();
        self.watch(connection);
    }

    /// Serves a new connection. Returns its number.
    fn watch(&mut self, connection: Connection) -> u64 {
        let number = self.next_connection;
        self.next_connection += 1;
        let watched = self
            .poller
            .add(&connection.socket, Token::Connection(number))
            .and_then(|()| self.poller.add(&connection.pidfd, Token::ConnectionProcess(number)));
        self.connections.insert(number, connection);
        if let Err(error) = watched {
            self.disconnect(number, &Broken::System(error.to_string()));
        }
        number
    }

    /// Disconnects the oldest connection that has not introduced itself, if there are many.
    fn make_room(&mut self) {
        // Several may have said hello meanwhile.
        for _ in 0..MAX_SILENT {
            let is_silent = |connection: &Connection| connection.peer.is_none() && connection.child.is_none();
            let mut silent = self.connections.iter().filter(|(_, connection)| is_silent(connection));
            // The numbers grow.
            let Some((&oldest, _)) = silent.next().filter(|_| silent.count() + 1 >= MAX_SILENT) else {
                return;
            };
            self.receive_all(oldest);
            if self.connections.get(&oldest).is_some_and(|connection| connection.peer.is_none()) {
                self.disconnect(oldest, &Broken::Unresponsive);
            }
        }
    }

    /// Handles packets of a connection. If more wait than its turn allows, the poller reports it again.
    fn receive_all(&mut self, number: u64) {
        for _ in 0..TURN {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let handled = match connection.socket.receive() {
                Ok(None) => break,
                Ok(Some((request, files))) => self.receive(number, request, files),
                Err(error) => Err(error),
            };
            self.deliver();
            if let Err(error) = handled {
                return self.disconnect(number, &error);
            }
        }
        self.flush(number);
    }

    fn receive(&mut self, number: u64, request: Request, files: Vec<File>) -> Result<(), Broken> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let Some(peer) = connection.peer else { return self.introduce(number, request) };
        let Some(request) = connection.child_reports(request) else { return Ok(()) };
        if files.len() < request.files() {
            return self
                .registry
                .refuse(peer, &request, NO_ROOM)
                .map_err(|violation| Broken::Violation(violation.to_string()));
        }
        let handled = self.registry.request(peer, request, files, Instant::now(), &self.inspector);
        handled.map_err(|violation| Broken::Violation(violation.to_string()))
    }

    /// Handles the first request of a process.
    fn introduce(&mut self, number: u64, request: Request) -> Result<(), Broken> {
        let others = self.connections.values().filter(|connection| connection.child.is_none());
        let introduced = others.filter(|connection| connection.peer.is_some()).count();
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let Request::Hello { versions: theirs, name } = request else {
            return Err(Broken::Violation("a request before the hello".to_owned()));
        };
        let ours = Versions::current();
        let (uid, limit) = (connection.credentials.uid, self.options.get_limits().peers as usize);
        // Nobody is refused before the hello: closing the connection could overtake the answer.
        let terms = match &connection.child {
            Some(child) => Some(child.terms()),
            None => {
                let grants = self.options.grants_of(connection.credentials).cloned();
                grants.map(|grants| (grants, self.options.get_limits().clone(), u32::MAX))
            }
        };
        let admitted = match terms {
            None => Err(format!("user {uid} may not connect")),
            Some(_) if connection.child.is_none() && introduced >= limit => {
                Err(format!("{limit} processes are connected, and no more may be"))
            }
            Some(terms) => difference(ours, theirs).map_or(Ok(terms), |why| Err(why.to_owned())),
        };
        let (grants, limits, topics) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                let refused = format!("{why} (host: {ours}; process: {theirs})");
                // If this fails, the process sees the end of the connection.
                let _ = connection.socket.send(&Notice::Refused { ours, theirs, why }, Vec::new());
                return Err(Broken::Refused(refused));
            }
        };
        let name = connection.child.as_ref().map_or(&*name, |child| &child.name);
        let label = label(name, connection.credentials.pid);
        event(|| tracing::info!(process = label, "process connected"));
        let (grants, pidfd) = (Some(grants), Arc::clone(&connection.pidfd));
        let is_walled = connection.child.as_ref().is_some_and(|child| child.is_walled);
        let trust = if is_walled { Trust::Walled } else { self.options.trust_in(connection.credentials) };
        let component = connection.child.as_ref().and_then(|child| child.component);
        let newcomer = Newcomer { grants, limits, topics, trust, label, component, pidfd };
        let (peer, first_publisher) = self.registry.admit(newcomer);
        connection.peer = Some(peer);
        let patience = u64::try_from(self.options.get_patience().as_millis()).unwrap_or(u64::MAX);
        connection.socket.send(&Notice::Welcome { peer, first_publisher, patience }, Vec::new())?;
        connection.employ()
    }

    /// Exchanges requests and notices until none is left.
    fn deliver(&mut self) {
        loop {
            let requests = self.node.take_outgoing().into_iter().map(|request| (self.own, request));
            let copies = self.wall.take_outgoing().into_iter().map(|request| (self.wall_id, request));
            let requests: Vec<_> = requests.chain(copies).collect();
            let is_done = requests.is_empty();
            for (from, (request, files)) in requests {
                let handled = self.registry.request(from, request, files, Instant::now(), &self.inspector);
                debug_assert!(handled.is_ok(), "the host's own node: {handled:?}");
            }
            let notices = self.registry.take_outgoing();
            for stall in self.registry.take_stalled() {
                self.end_stalled(&stall);
            }
            if is_done && notices.is_empty() {
                return;
            }
            for outgoing in notices {
                if outgoing.to == self.wall_id {
                    self.tell_wall(outgoing.notice, outgoing.files);
                    continue;
                }
                if outgoing.to == self.own {
                    let handled = self.node.notice(outgoing.notice, outgoing.files);
                    debug_assert!(handled.is_ok(), "the host's own registry: {handled:?}");
                    continue;
                }
                let to =
                    self.connections.iter_mut().find(|(_, connection)| connection.peer == Some(outgoing.to));
                let Some((&number, connection)) = to else { continue };
                match connection.socket.send(&outgoing.notice, outgoing.files) {
                    Ok(()) => self.watch_writable(number),
                    Err(error) => self.disconnect(number, &error),
                }
            }
        }
    }

    fn tell_wall(&mut self, notice: Notice, files: Vec<File>) {
        let handled = match (notice, <[File; 4]>::try_from(files)) {
            (Notice::Channel { seat, topic, publisher, owner, terms }, Ok(files)) => {
                // The topic exists as long as the publisher whose channel this is.
                let schema = self.registry.schema_of(&topic).cloned();
                self.wall.take_walled_seat(seat, (topic, schema), &publisher, &owner, terms, files);
                Ok(())
            }
            (notice, files) => self.wall.notice(notice, files.map_or_else(|files| files, Vec::from)),
        };
        debug_assert!(handled.is_ok(), "the host's own registry: {handled:?}");
    }

    /// Kills a process whose subscriber holds a publisher back, if that is allowed.
    fn end_stalled(&self, stall: &Stalled) {
        let connection = |peer| self.connections.values().find(|connection| connection.peer == Some(peer));
        let Some(subscriber) = connection(stall.subscriber) else { return };
        let (pid, victim) = (subscriber.credentials.pid, subscriber.credentials.uid);
        let may_kill = [self.own, self.wall_id].contains(&stall.reporter)
            || connection(stall.reporter).is_some_and(|one| [0, victim].contains(&one.credentials.uid));
        let topic = &*text::line(&stall.topic);
        if !may_kill {
            event(|| {
                tracing::warn!(pid, topic, "a process stalls a publisher of a user who may not kill it")
            });
            return;
        }
        match pidfd_send_signal(&subscriber.pidfd, Signal::KILL) {
            Ok(()) => {
                // Ordering: Relaxed; a count.
                self.killed.fetch_add(1, Ordering::Relaxed);
                event(|| tracing::warn!(pid, topic, "killed a process that stalls a publisher"));
            }
            Err(error) => {
                let error = error.to_string();
                event(|| tracing::warn!(pid, topic, error, "cannot kill a process that stalls a publisher"));
            }
        }
    }

    fn flush(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match connection.socket.flush() {
            Ok(()) => self.watch_writable(number),
            Err(error) => self.disconnect(number, &error),
        }
    }

    fn watch_writable(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else { return };
        let socket = &connection.socket;
        if socket.is_paused() {
            self.paused.insert(number);
        }
        let watched = self.poller.watch_writable(socket, Token::Connection(number), socket.is_waiting());
        if let Err(error) = watched {
            self.disconnect(number, &Broken::System(error.to_string()));
        }
    }

    /// Ends a connection. If the process still runs, it can use the channels that it has.
    fn disconnect(&mut self, number: u64, why: &Broken) {
        let Some(connection) = self.connections.remove(&number) else { return };
        self.poller.remove(&connection.socket);
        self.poller.remove(&connection.pidfd);
        connection.child.as_ref().inspect(|child| child.disconnected(why));
        // Remove what the process had first, so that the ends are logged in order.
        if let Some(peer) = connection.peer {
            self.registry.disconnected(peer);
        }
        let (pid, why) = (connection.credentials.pid, why.to_string());
        event(|| tracing::info!(pid, why, "process disconnected"));
    }
}

/// A number that differs between hosts.
fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}

/// Creates a bell, if enough descriptors remain for the annex that is the answer to the offer.
fn create_bell() -> Option<(File, File)> {
    let (one, other) = Bell::pair().ok()?;
    let is_scarce = inspector::leaves_fewer_than(2 * inspector::FREE_DESCRIPTORS, &other.as_fd());
    (!is_scarce).then(|| (one.into(), other.into()))
}

/// The reason for refusing a process whose descriptors do not fit.
const NO_ROOM: &str = "the host has too few file descriptors left (RLIMIT_NOFILE)";

/// Describes why two processes cannot share memory, if they cannot.
fn difference(ours: Versions, theirs: Versions) -> Option<&'static str> {
    if ours.protocol != theirs.protocol {
        Some("the versions of the protocol differ")
    } else if ours.layout != theirs.layout {
        Some("the versions of the memory layout differ")
    } else if ours.page_size != theirs.page_size {
        Some("the sizes of pages differ")
    } else if !ours.barriers || !theirs.barriers {
        Some("a process lacks memory barriers that reach others (membarrier)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;

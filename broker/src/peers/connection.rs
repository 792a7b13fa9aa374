//! [`Connection`] and [`Serving`]: how a program takes part in the topics of other processes.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use blockcast_blocks::{OpenError, Payload, register_machine_wide};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use tokio::sync::watch;

use crate::control::broker::Broker;
use crate::control::shared::Shared;
use crate::control::stats::TopicStats;
use crate::peers::client::{Accepted, ClientThread, Orders, Whereabouts, greet, greet_parent};
use crate::peers::error::{ConnectError, ServeError};
use crate::peers::host::HostThread;
use crate::peers::job::Job;
use crate::peers::link::{Command, Commands, Link, Patience};
use crate::peers::options::{ConnectOptions, ServeOptions};
use crate::peers::place::Place;
use crate::peers::protocol::Request;

/// How long to pause before trying again to connect or to serve.
const PAUSE: Duration = Duration::from_millis(5);

impl Broker {
    /// Lets other processes join this broker's topics, at the Unix socket `path`. They
    /// [connect](Connection::connect) to it, and then publish and subscribe as if they were part of this
    /// program: messages stay where their publisher built them.
    ///
    /// A thread serves them. It is not on the path of a message, except that it wakes sleepers. From now on,
    /// opening a publisher or a subscriber waits for other processes to join: see [`ServeOptions::patience`].
    ///
    /// The socket exists until the result is dropped. If this process is killed, the next host replaces it.
    ///
    /// # Errors
    /// [`ServeError`], most often because another process serves at the path.
    pub fn serve(&self, path: impl AsRef<Path>, options: ServeOptions) -> Result<Serving, ServeError> {
        self.serve_with(options, |mode| Place::take(path.as_ref(), mode))
    }

    /// Like [`serve`](Self::serve), at a Unix socket of type `SOCK_SEQPACKET` that listens already, such as
    /// one that systemd passes to a service. Its creator sets its permissions, and removes it.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn serve_at(&self, listener: OwnedFd, options: ServeOptions) -> Result<Serving, ServeError> {
        self.serve_with(options, |_| Place::adopt(listener))
    }

    fn serve_with(
        &self,
        options: ServeOptions,
        place: impl FnOnce(u32) -> Result<Place, ServeError>,
    ) -> Result<Serving, ServeError> {
        if !register_machine_wide() {
            return Err(ServeError::Barriers);
        }
        if self.shared().is_inherited() || self.shared().is_closed() {
            return Err(ServeError::Closed);
        }
        let mut place = place(options.get_mode())?;
        let path = place.path().to_owned();
        loop {
            let Some(link) = self.shared().get_link() else {
                let link = start_host(self.shared(), Some(place), options)?;
                let killed = Arc::clone(link.killed());
                return Ok(Serving { path, link, killed });
            };
            // A host may have children already.
            match link.listen(place, options.clone())? {
                Ok(()) => {
                    let killed = Arc::clone(link.killed());
                    return Ok(Serving { path, link, killed });
                }
                // That thread is about to end.
                Err(returned) => place = returned,
            }
            std::thread::yield_now();
        }
    }
}

/// Starts the thread of a host, which serves at the `place` if there is one.
///
/// # Errors
/// [`ServeError::Linked`] if the broker has a thread already, and those of the system.
pub(crate) fn start_host(
    shared: &Arc<Shared>,
    place: Option<Place>,
    options: ServeOptions,
) -> Result<Arc<Link>, ServeError> {
    let failed = |action: &str, error: std::io::Error| ServeError::System {
        action: action.to_owned(),
        reason: error.to_string(),
    };
    let commands = Commands::new().map_err(|error| failed("create an event", error))?;
    let patience = Patience { own: options.get_patience(), host: options.get_patience() };
    let link = Link::new(commands.clone(), patience, true);
    let thread =
        HostThread::new(Arc::clone(shared), place, options, commands.clone(), Arc::clone(link.killed()))
            .map_err(|error| failed("watch descriptors", error))?;
    if !shared.link(&link) {
        return Err(ServeError::Linked);
    }
    let started = std::thread::Builder::new().name("blockcast-host".to_owned()).spawn(move || {
        let receiver = commands.receive_here();
        thread.run(&receiver);
    });
    if let Err(error) = started {
        shared.unlink();
        return Err(failed("start a thread", error));
    }
    Ok(link)
}

/// A broker that serves its topics to other processes. Dropping it removes the socket, so that nobody can
/// connect or join any more. Publishers and subscribers of all processes go on.
#[must_use = "dropping it ends serving"]
pub struct Serving {
    path: PathBuf,
    link: Arc<Link>,
    killed: Arc<AtomicU64>,
}

impl Serving {
    /// Number of processes killed so far because their subscribers stalled a publisher: see
    /// [`ServeOptions::stall`].
    #[must_use]
    pub fn killed(&self) -> u64 {
        // Ordering: Relaxed; a count.
        self.killed.load(Ordering::Relaxed)
    }

    /// Path of the socket; empty if it has none in the file system.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.link.stop();
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A broker whose topics are those of all processes that are connected to the same host.
///
/// Its publishers and subscribers are like those of any broker, and so are the components that it runs.
/// Publishers and subscribers of this process meet directly. Those of different processes share the
/// publisher's memory: the messages are not copied, and no other process is on their path.
///
/// ```no_run
/// use blockcast_blocks::Bytes;
/// use blockcast_broker::Connection;
///
/// let connection = Connection::connect("/run/user/1000/blockcast.sock")?;
/// let mut subscriber = connection.subscriber::<Bytes>("greetings", Default::default())?;
/// println!("{:?}", subscriber.blocking_recv(None)?.view());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # If a process ends
/// If a process ends, even if it is killed, its publishers end: subscribers receive what it published, then
/// the end. The messages that its subscribers were attached to come free. If the host ends, publishers and
/// subscribers go on, but opening new ones fails with [`OpenError::Disconnected`] until another host serves
/// at the path. The connection is then made again, and the new host learns of all publishers and subscribers.
///
/// # Dropping it
/// Publishers and subscribers outlive the connection, and so does the thread that serves them.
pub struct Connection {
    broker: Broker,
    link: Option<Arc<Link>>,
    is_connected: Arc<AtomicBool>,
    serving: Option<Serving>,
}

impl Connection {
    /// Connects to the host that serves at `path`, with the default options. Blocks the thread until the host
    /// answers.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::connect_with(path, &ConnectOptions::default())
    }

    /// Like [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_with(path: impl AsRef<Path>, options: &ConnectOptions) -> Result<Self, ConnectError> {
        Self::connect_broker(path.as_ref(), options, Broker::new())
    }

    pub(crate) fn connect_broker(
        path: &Path,
        options: &ConnectOptions,
        broker: Broker,
    ) -> Result<Self, ConnectError> {
        let accepted = greet(path, options)?;
        let host_at = Whereabouts::Path(path.to_owned());
        Self::start(accepted, host_at, options, broker)
    }

    /// Connects a process to the host that has started it to run a component. Returns the job, and the orders
    /// that the host gives.
    pub(crate) fn to_parent(
        socket: OwnedFd,
        options: &ConnectOptions,
        broker: Broker,
    ) -> Result<(Self, Job, watch::Receiver<Orders>), ConnectError> {
        let (accepted, job) = greet_parent(socket, options)?;
        let (sender, orders) = watch::channel(Orders::default());
        let connection = Self::start(accepted, Whereabouts::Parent(sender), options, broker)?;
        Ok((connection, job, orders))
    }

    fn start(
        accepted: Accepted,
        host_at: Whereabouts,
        options: &ConnectOptions,
        broker: Broker,
    ) -> Result<Self, ConnectError> {
        let commands = Commands::new().map_err(|error| failed("create an event", error))?;
        let is_connected = Arc::new(AtomicBool::new(true));
        let again = (host_at, options.clone(), Arc::clone(broker.shared()));
        let thread = ClientThread::new(accepted.socket, commands.clone(), Arc::clone(&is_connected), again)
            .map_err(|error| failed("watch descriptors", error))?;
        let patience = Patience { own: options.get_patience(), host: accepted.welcome.host_patience };
        let link = Link::new(commands.clone(), patience, false);
        accepted.welcome.apply(broker.shared());
        // The broker is new.
        let _ = broker.shared().link(&link);
        let started = std::thread::Builder::new().name("blockcast-peer".to_owned()).spawn(move || {
            let receiver = commands.receive_here();
            thread.run(&receiver);
        });
        started.map_err(|error| failed("start a thread", error))?;
        Ok(Self { broker, link: Some(link), is_connected, serving: None })
    }

    /// Connects to the host that serves at `path`. If there is none, this process becomes the host. If
    /// several processes call this at the same time, one becomes the host and the others connect to it.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_or_serve(
        path: impl AsRef<Path>,
        options: &ConnectOptions,
        serve: &ServeOptions,
    ) -> Result<Self, ConnectError> {
        let path = path.as_ref();
        let deadline = Instant::now() + options.get_patience();
        loop {
            match Self::connect_with(path, options) {
                Err(ConnectError::NoHost(_)) => {}
                other => return other,
            }
            let broker = Broker::new();
            match broker.serve(path, serve.clone()) {
                Ok(serving) => {
                    let is_connected = Arc::new(AtomicBool::new(true));
                    return Ok(Self { broker, link: None, is_connected, serving: Some(serving) });
                }
                // Another process has the lock, and is about to listen, or to leave.
                Err(ServeError::Served(_)) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(ServeError::Served(_)) => return Err(ConnectError::Unresponsive),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a report to the host for which this process runs a component. Waits until it is sent, but no
    /// longer than `patience`.
    pub(crate) fn report_to_host(&self, report: Request, patience: Duration) {
        self.reporter().report(report, patience);
    }

    /// Sends reports to the host.
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter(self.link.as_ref().map(|link| link.commands().clone()))
    }

    /// The broker of this process, whose topics are those of all connected processes.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Whether this process is the host, after [`connect_or_serve`](Self::connect_or_serve).
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.serving.is_some()
    }

    /// Whether this process is connected to a host, as far as it knows. After a new host has taken over, this
    /// is `true` again once that host knows of all publishers and subscribers of this process.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        // Ordering: Relaxed; nothing depends on it.
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Opens a topic for publishing: see [`Broker::publisher`]. Waits until the subscribers of all connected
    /// processes have joined.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.broker.publisher(topic, options)
    }

    /// Subscribes to a topic: see [`Broker::subscriber`]. Waits until the publishers of all connected
    /// processes are joined.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.broker.subscriber(topic, options)
    }

    /// The counters of the topics that this process takes part in: see [`Broker::topics`]. Participants of
    /// other processes have the process in their name.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicStats> {
        self.broker.topics()
    }
}

/// Sends reports of a component to the host.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(Option<Commands>);

impl Reporter {
    /// Sends a report and waits until it is sent, but no longer than `patience`. Without a host, no report is
    /// needed.
    pub(crate) fn report(&self, report: Request, patience: Duration) {
        let Some(commands) = &self.0 else { return };
        let (sent, is_sent) = mpsc::channel();
        if commands.send(Command::Report { report: Box::new(report), sent }).is_ok()
            && !commands.is_own_thread()
        {
            let _ = is_sent.recv_timeout(patience);
        }
    }
}

fn failed(action: &str, error: std::io::Error) -> ConnectError {
    ConnectError::System { action: action.to_owned(), reason: error.to_string() }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.take().inspect(|link| link.stop());
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("broker", &self.broker)
            .field("is_host", &self.is_host())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

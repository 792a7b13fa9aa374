//! [`Link`]: how a broker's topics reach other processes.
//!
//! A thread of the broker talks to the other processes: see [`node`](crate::peers::node). Opening a
//! publisher or a subscriber of a linked broker sends that thread a command, and waits for its answer. The
//! thread runs no user code except wakers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use blockcast_blocks::{Channel, OpenError, Process, SegmentFiles};

use crate::control::topic::Topic;
use crate::peers::children::{ChildCommand, Listen, NotListening};
use crate::peers::error::{InspectError, ServeError};
use crate::peers::event::Event;
use crate::peers::expected::ExpectedRestarts;
use crate::peers::numbers::PublisherNumbers;
use crate::peers::options::ServeOptions;
use crate::peers::place::Place;
use crate::peers::protocol::{ChannelNumber, MAX_SCHEMA, Request, SeatId, Selection};
use crate::peers::topics::TopicPage;

/// The link of a broker, if it has one. Shared with all of its topics.
#[derive(Debug, Default)]
pub(crate) struct LinkSlot {
    link: Mutex<Option<Arc<Link>>>,
    /// The publishers of other processes, by whichever links the broker has had.
    pub(crate) numbers: PublisherNumbers,
    /// Components of this process that may be restarted.
    pub(crate) restarts: ExpectedRestarts,
}

impl LinkSlot {
    /// The broker's link, unless its connection was given up.
    pub(crate) fn get(&self) -> Option<Arc<Link>> {
        self.lock().clone()
    }

    /// Links the broker. Returns `false` if it is linked already.
    pub(crate) fn set(&self, link: &Arc<Link>) -> bool {
        {
            let mut slot = self.lock();
            if slot.is_some() {
                return false;
            }
            *slot = Some(Arc::clone(link));
        }
        self.restarts.tell(link);
        true
    }

    /// Unlinks the broker.
    pub(crate) fn clear(&self) {
        let link = self.lock().take();
        drop(link);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        // Only assigned, so it is consistent after a panic.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Identifies one of the links that the brokers of this process have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(u64);

/// Sends the answer to a waiting thread.
pub(crate) type Reply = mpsc::Sender<Result<(), OpenError>>;

/// A command from threads of this process to the thread that talks to other processes.
#[derive(Debug)]
pub(crate) enum Command {
    /// Offer a channel to other processes. Answered once their subscriptions have joined.
    Publish {
        number: ChannelNumber,
        channel: Arc<Channel>,
        topic: String,
        files: SegmentFiles,
        reply: Option<Reply>,
    },
    /// The publisher has ended, or its opening was given up.
    Unpublish { number: ChannelNumber },
    /// Join the publishers of other processes. Answered once those that exist are members of the topic.
    Subscribe { ticket: u64, topic: Arc<Topic>, reply: Option<Reply> },
    /// The subscription with this ticket has left, or was given up.
    Unsubscribe { ticket: u64, topic: String },
    /// This process no longer uses a channel of another one.
    Released { session: u64, seat: SeatId },
    /// Components of this process may publish on the topic again after a restart, or no longer.
    Expect { topic: String, is_expected: bool },
    /// Ask the host for topics.
    Inspect { selection: Selection, reply: mpsc::Sender<TopicPage> },
    /// Send a report to the host, and answer once it is sent. For processes that run a component of the host.
    Report { report: Box<Request>, sent: mpsc::Sender<()> },
    /// For hosts.
    Child(Box<ChildCommand>),
    /// For hosts that do not serve yet.
    Listen(Box<Listen>),
    /// End, once no channel is shared any more. Answered as soon as nobody can join.
    Stop { reply: mpsc::Sender<()> },
}

/// Commands on their way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Commands(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    event: Event,
    thread: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// The thread has ended.
    is_closed: bool,
}

impl Commands {
    pub(crate) fn new() -> std::io::Result<Self> {
        let (waiting, thread) = Default::default();
        Ok(Self(Arc::new(Queue { waiting, event: Event::new()?, thread })))
    }

    /// Sends a command. Returns it if the thread has ended.
    pub(crate) fn send(&self, command: Command) -> Result<(), Command> {
        {
            let mut waiting = self.lock();
            if waiting.is_closed {
                return Err(command);
            }
            waiting.commands.push_back(command);
        }
        self.0.event.set();
        Ok(())
    }

    /// The event that is set when there are commands.
    pub(crate) fn event(&self) -> &Event {
        &self.0.event
    }

    /// Takes the next command.
    pub(crate) fn next(&self) -> Option<Command> {
        self.lock().commands.pop_front()
    }

    /// Call this on the thread that executes the commands.
    pub(crate) fn receive_here(&self) -> CommandReceiver {
        // The thread is started once.
        let _ = self.0.thread.set(thread::current().id());
        CommandReceiver(self.clone())
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        self.0.thread.get() == Some(&thread::current().id())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Only changed by single calls, so it is consistent after a panic.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Once this is dropped, commands are refused: the thread has ended, for whatever reason.
#[derive(Debug)]
pub(crate) struct CommandReceiver(Commands);

impl Drop for CommandReceiver {
    fn drop(&mut self) {
        let refused = {
            let mut waiting = self.0.lock();
            waiting.is_closed = true;
            std::mem::take(&mut waiting.commands)
        };
        // This tells the waiting threads that there will be no answer.
        drop(refused);
    }
}

/// A linked broker's access to the thread that talks to other processes.
#[derive(Debug)]
pub(crate) struct Link {
    id: LinkId,
    commands: Commands,
    patience: Mutex<Patience>,
    is_host: bool,
    /// Processes that the host has killed.
    killed: Arc<AtomicU64>,
    process: Process,
    next_number: AtomicU64,
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For other processes.
    pub(crate) own: Duration,
    /// How long the host lets a publisher wait for them.
    pub(crate) host: Duration,
}

impl Link {
    /// Creates the link of a host, or of a process that is connected to one.
    pub(crate) fn new(commands: Commands, patience: Patience, is_host: bool) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Ordering: Relaxed; only uniqueness matters.
        let id = LinkId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (process, next_number) = (Process::current(), AtomicU64::new(1));
        let patience = Mutex::new(patience);
        let killed = Arc::default();
        Arc::new(Self { id, commands, patience, is_host, killed, process, next_number })
    }

    /// Whether this process is the host.
    pub(crate) fn is_host(&self) -> bool {
        self.is_host
    }

    /// Counts the processes that the host has killed.
    pub(crate) fn killed(&self) -> &Arc<AtomicU64> {
        &self.killed
    }

    /// Whether the link's thread is one of this process.
    pub(crate) fn is_own_process(&self) -> bool {
        self.process.is_current()
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    pub(crate) fn set_patience(&self, patience: Patience) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = patience;
    }

    fn patience(&self) -> Patience {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command about children, and waits for the answer. Returns `None` if the thread has ended.
    pub(crate) fn ask_about_children<T>(
        &self,
        command: impl FnOnce(mpsc::Sender<T>) -> ChildCommand,
    ) -> Option<T> {
        let (reply, answer) = mpsc::channel();
        self.commands.send(Command::Child(Box::new(command(reply)))).ok()?;
        answer.recv().ok()
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    /// Offers a publisher's channel to the other processes. When this returns, those that subscribe to the
    /// topic have joined. Blocks the thread meanwhile.
    pub(crate) fn publish(&self, topic: &Topic, channel: &Arc<Channel>) -> Result<Announced, OpenError> {
        self.check_thread()?;
        let (reply, answer) = mpsc::channel();
        let announced = self.announce(topic, channel, Some(reply))?;
        let Patience { own, host } = self.patience();
        self.wait(topic, &answer, own.saturating_add(host))?;
        Ok(announced)
    }

    /// Like [`publish`](Self::publish), but does not wait.
    pub(crate) fn announce(
        &self,
        topic: &Topic,
        channel: &Arc<Channel>,
        reply: Option<Reply>,
    ) -> Result<Announced, OpenError> {
        check_schema(topic)?;
        let files = channel.share().map_err(|error| {
            OpenError::Refused(format!("the publisher cannot be shared with other processes: {error}"))
        })?;
        let number = ChannelNumber(self.next());
        let (channel, name) = (Arc::clone(channel), topic.name().to_owned());
        let command = Command::Publish { number, channel, topic: name, files, reply };
        self.commands.send(command).map_err(|_| OpenError::Disconnected)?;
        Ok(Announced::new(number, &self.commands))
    }

    /// Joins the publishers of other processes. When this returns, their channels are members of the topic,
    /// and those that come later will be, as long as the result lives. So will those whose processes do not
    /// answer in time, once they do. Blocks the thread meanwhile.
    pub(crate) fn subscribe(&self, topic: &Arc<Topic>) -> Result<Interest, OpenError> {
        self.check_thread()?;
        let (reply, answer) = mpsc::channel();
        let interest = self.take_interest(topic, Some(reply))?;
        let Patience { own, host } = self.patience();
        self.wait(topic, &answer, own.saturating_add(host))?;
        Ok(interest)
    }

    /// Like [`subscribe`](Self::subscribe), but does not wait.
    pub(crate) fn take_interest(
        &self,
        topic: &Arc<Topic>,
        reply: Option<Reply>,
    ) -> Result<Interest, OpenError> {
        check_schema(topic)?;
        let ticket = self.next();
        let command = Command::Subscribe { ticket, topic: Arc::clone(topic), reply };
        self.commands.send(command).map_err(|_| OpenError::Disconnected)?;
        let (topic, commands) = (topic.name().to_owned(), self.commands.clone());
        Ok(Interest { link: self.id, ticket, topic, commands, process: self.process })
    }

    /// Says whether components of this process may publish on the topic again after a restart. Waits for
    /// nobody.
    pub(crate) fn expect(&self, topic: &str, is_expected: bool) {
        let topic = topic.to_owned();
        // If the thread has ended, nobody else waits for them.
        let _ = self.commands.send(Command::Expect { topic, is_expected });
    }

    /// Asks the host for topics. Blocks the thread meanwhile.
    pub(crate) fn inspect(&self, selection: Selection) -> Result<TopicPage, InspectError> {
        if self.commands.is_own_thread() {
            return Err(InspectError::OwnThread);
        }
        let (reply, answer) = mpsc::channel();
        let command = Command::Inspect { selection, reply };
        self.commands.send(command).map_err(|_| InspectError::Disconnected)?;
        answer.recv_timeout(self.patience().own).map_err(|error| match error {
            RecvTimeoutError::Timeout => InspectError::Unresponsive,
            RecvTimeoutError::Disconnected => InspectError::Disconnected,
        })
    }

    /// Serves at `place` as well. Returns the place if the thread is about to end.
    pub(crate) fn listen(
        &self,
        place: Place,
        options: ServeOptions,
    ) -> Result<Result<(), Place>, ServeError> {
        if !self.is_host {
            return Err(ServeError::Linked);
        }
        let (own, (reply, answer)) = (options.get_patience(), mpsc::channel());
        match self.commands.send(Command::Listen(Box::new(Listen { place, options, reply }))) {
            Err(Command::Listen(refused)) => return Ok(Err(refused.place)),
            Err(_) => return Err(ServeError::Linked),
            Ok(()) => {}
        }
        match answer.recv() {
            Ok(Ok(())) => {
                self.set_patience(Patience { own, host: own });
                Ok(Ok(()))
            }
            Ok(Err((place, NotListening::Ends))) => Ok(Err(place)),
            Ok(Err((_, NotListening::Serves))) => Err(ServeError::Linked),
            Ok(Err((_, NotListening::System(reason)))) => {
                Err(ServeError::System { action: "watch descriptors".to_owned(), reason })
            }
            Err(_) => Err(ServeError::Closed),
        }
    }

    /// Ends the thread, once no channel is shared any more. When this returns, nobody can join.
    pub(crate) fn stop(&self) {
        let (reply, answer) = mpsc::channel();
        if self.process.is_current()
            && self.commands.send(Command::Stop { reply }).is_ok()
            && !self.commands.is_own_thread()
        {
            // This fails only if the thread has ended or takes too long.
            let _ = answer.recv_timeout(self.patience().own);
        }
    }

    fn next(&self) -> u64 {
        // Ordering: Relaxed; only uniqueness matters.
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn check_thread(&self) -> Result<(), OpenError> {
        if self.commands.is_own_thread() {
            let why = "a waker cannot open topics of other processes: open them on another thread";
            return Err(OpenError::Refused(why.to_owned()));
        }
        Ok(())
    }

    fn wait(
        &self,
        topic: &Topic,
        answer: &mpsc::Receiver<Result<(), OpenError>>,
        patience: Duration,
    ) -> Result<(), OpenError> {
        match answer.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(OpenError::Unresponsive { topic: topic.name().to_owned() }),
            Err(RecvTimeoutError::Disconnected) => Err(OpenError::Disconnected),
        }
    }
}

/// Checks that other processes accept the length of the schema's name.
fn check_schema(topic: &Topic) -> Result<(), OpenError> {
    let len = topic.schema().name().len();
    if len > MAX_SCHEMA {
        return Err(OpenError::Refused(format!(
            "the name of the topic's schema has {len} bytes, and other processes accept {MAX_SCHEMA}"
        )));
    }
    Ok(())
}

/// A publisher that other processes know. Dropping it tells them that it has ended.
pub(crate) struct Announced {
    number: ChannelNumber,
    commands: Commands,
    process: Process,
}

impl Announced {
    pub(crate) fn new(number: ChannelNumber, commands: &Commands) -> Self {
        Self { number, commands: commands.clone(), process: Process::current() }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if self.process.is_current() {
            // If the thread has ended, nobody knows the publisher.
            let _ = self.commands.send(Command::Unpublish { number: self.number });
        }
    }
}

impl fmt::Debug for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Announced").field(&self.number).finish()
    }
}

/// Makes this process join the publishers of others, for a subscription. Dropping it reports that the
/// subscription has left.
pub(crate) struct Interest {
    link: LinkId,
    ticket: u64,
    topic: String,
    commands: Commands,
    process: Process,
}

impl Interest {
    pub(crate) fn link(&self) -> LinkId {
        self.link
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if self.process.is_current() {
            let topic = std::mem::take(&mut self.topic);
            // If the thread has ended, nobody joins publishers any more.
            let _ = self.commands.send(Command::Unsubscribe { ticket: self.ticket, topic });
        }
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interest").field(&self.topic).finish()
    }
}

/// Charged to a channel of another process, and dropped when this process no longer uses the channel.
#[derive(Debug)]
pub(crate) struct Farewell {
    session: u64,
    seat: SeatId,
    commands: Commands,
    process: Process,
}

impl Farewell {
    pub(crate) fn new(session: u64, seat: SeatId, commands: &Commands) -> Self {
        Self { session, seat, commands: commands.clone(), process: Process::current() }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if self.process.is_current() {
            let command = Command::Released { session: self.session, seat: self.seat };
            // If the thread has ended, the publisher learns it when this process ends.
            let _ = self.commands.send(command);
        }
    }
}

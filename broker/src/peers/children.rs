//! Processes that run components of a host: the host's own children, each connected by a pair of sockets.
//!
//! Code that runs such a process holds [`Children`], which keeps one thread of the host alive even if the
//! broker does not [serve](crate::Broker::serve), and one [`ChildLink`] for each process. The host reports
//! [`ChildEvent`]s to that code. The host's thread runs no user code.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use blockcast_blocks::register_machine_wide;

use crate::component::limits::ComponentLimits;
use crate::control::grants::Grants;
use crate::control::shared::Shared;
use crate::peers::connection::start_host;
use crate::peers::error::ServeError;
use crate::peers::event::Event;
use crate::peers::job::{Outcome, Tally};
use crate::peers::link::{Command, Commands, Link};
use crate::peers::options::{PeerLimits, ServeOptions};
use crate::peers::place::Place;
use crate::peers::protocol::Notice;
use crate::peers::registry::ComponentNumber;
use crate::peers::socket::File;

/// How long a host that does not serve lets publishers wait for its children.
const PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of a child's log lines that wait to be written.
const MAX_LINES: u32 = 1024;

/// A command to a host about its children.
#[derive(Debug)]
pub(crate) enum ChildCommand {
    /// Children may be added from now on. The reply is `false` if the thread is about to end.
    Open { reply: mpsc::Sender<bool> },
    /// Reverts one [`Open`](Self::Open).
    Close,
    /// Connect a process. The reply is its number.
    Add { child: Box<NewChild>, reply: mpsc::Sender<Result<u64, String>> },
    /// Send a notice to a process.
    Tell { number: u64, notice: Notice },
    /// A component has ended for good.
    EndRestarts { component: ComponentNumber },
    /// The process has ended. The reply comes once nothing refers to it any more.
    Remove { number: u64, reply: mpsc::Sender<()> },
}

/// A process that has just been started.
#[derive(Debug)]
pub(crate) struct NewChild {
    pub(crate) socket: OwnedFd,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The component's name.
    pub(crate) name: String,
    pub(crate) grants: Grants,
    /// Whether its publishers are walled, even if the host trusts others of its own user.
    pub(crate) is_walled: bool,
    /// The component, if it is restarted.
    pub(crate) component: Option<ComponentNumber>,
    /// The file with its job.
    pub(crate) job: File,
    pub(crate) events: ChildEvents,
}

/// An event in the life of a child.
#[derive(Debug)]
pub(crate) enum ChildEvent {
    /// It has said hello and was sent its job.
    Connected,
    Line {
        level: u32,
        text: String,
    },
    Tally(Tally),
    Outcome(Outcome, Tally),
    /// The connection has ended. If there is a reason, the host has given up the process.
    Disconnected(Option<String>),
}

/// Reports the events of a child.
#[derive(Clone, Debug)]
pub(crate) struct ChildEvents {
    sender: mpsc::Sender<ChildEvent>,
    event: Arc<Event>,
    lines: Arc<Lines>,
}

/// The child's log lines that wait, and those dropped since the last query.
#[derive(Debug, Default)]
struct Lines {
    waiting: AtomicU32,
    dropped: AtomicU32,
}

/// Receives the events of a child.
#[derive(Debug)]
pub(crate) struct ChildEventReceiver {
    receiver: mpsc::Receiver<ChildEvent>,
    lines: Arc<Lines>,
}

impl ChildEvents {
    /// `event` is set for every event of the child.
    pub(crate) fn new(event: Arc<Event>) -> (Self, ChildEventReceiver) {
        let (sender, receiver) = mpsc::channel();
        let lines = Arc::<Lines>::default();
        (Self { sender, event, lines: Arc::clone(&lines) }, ChildEventReceiver { receiver, lines })
    }

    pub(crate) fn report(&self, event: ChildEvent) {
        if let ChildEvent::Line { .. } = event {
            // Ordering: Relaxed; only this thread adds lines, and the count guards nothing else.
            if self.lines.waiting.load(Ordering::Relaxed) >= MAX_LINES {
                self.lines.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.lines.waiting.fetch_add(1, Ordering::Relaxed);
        }
        // The receiver may be gone.
        let _ = self.sender.send(event);
        self.event.set();
    }
}

impl ChildEventReceiver {
    pub(crate) fn next(&self) -> Option<ChildEvent> {
        let event = self.receiver.try_recv().ok()?;
        if let ChildEvent::Line { .. } = event {
            self.lines.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        Some(event)
    }

    /// Returns the number of lines dropped since the last call because too many waited.
    pub(crate) fn take_dropped(&self) -> u32 {
        self.lines.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The right to add children to a broker. While it exists, a thread serves them.
#[derive(Debug)]
pub(crate) struct Children {
    link: Arc<Link>,
}

/// Why a broker cannot have children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoChildren {
    /// The broker belongs to a connection: its host is another process.
    Client,
    Serve(ServeError),
}

impl Children {
    /// Starts the thread if the broker has none.
    pub(crate) fn of(shared: &Arc<Shared>) -> Result<Self, NoChildren> {
        if !register_machine_wide() {
            return Err(NoChildren::Serve(ServeError::Barriers));
        }
        loop {
            let link = match shared.get_link() {
                Some(link) => link,
                None => match start_host(shared, None, ServeOptions::new().patience(PATIENCE)) {
                    // Another thread was faster.
                    Err(ServeError::Linked) => continue,
                    started => started.map_err(NoChildren::Serve)?,
                },
            };
            if !link.is_host() {
                return Err(NoChildren::Client);
            }
            if link.ask_about_children(|reply| ChildCommand::Open { reply }) == Some(true) {
                return Ok(Self { link });
            }
            // That thread is about to end, and has unlinked the broker, or is about to.
            std::thread::yield_now();
        }
    }

    /// Connects a process.
    ///
    /// # Errors
    /// The reason why the host cannot connect it.
    pub(crate) fn add(&self, child: NewChild) -> Result<ChildLink, String> {
        let child = Box::new(child);
        let added = self.link.ask_about_children(|reply| ChildCommand::Add { child, reply });
        let number = added.unwrap_or_else(|| Err("the host's thread has ended".to_owned()))?;
        Ok(ChildLink { commands: self.link.commands().clone(), number })
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        if self.link.is_own_process() {
            // If the thread has ended, there are no children.
            let _ = self.link.commands().send(Command::Child(Box::new(ChildCommand::Close)));
        }
    }
}

/// A component that is restarted, each time in a new process. While this exists, subscriptions that wait for
/// restarts do not end in any process, although the component's publishers have.
#[derive(Debug)]
pub(crate) struct Restartable {
    component: ComponentNumber,
    children: Arc<Children>,
}

impl Restartable {
    pub(crate) fn new(children: &Arc<Children>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Ordering: Relaxed; a number of its own.
        let component = ComponentNumber(NEXT.fetch_add(1, Ordering::Relaxed));
        Self { component, children: Arc::clone(children) }
    }

    pub(crate) fn component(&self) -> ComponentNumber {
        self.component
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        let link = &self.children.link;
        if link.is_own_process() {
            // If the thread has ended, nobody waits for restarts.
            let command = ChildCommand::EndRestarts { component: self.component };
            let _ = link.commands().send(Command::Child(Box::new(command)));
        }
    }
}

/// The host's connection to a child.
#[derive(Debug)]
pub(crate) struct ChildLink {
    commands: Commands,
    number: u64,
}

impl ChildLink {
    /// Sends a notice to the process, if it is connected.
    pub(crate) fn tell(&self, notice: Notice) {
        let command = ChildCommand::Tell { number: self.number, notice };
        // If the thread has ended, so has the connection.
        let _ = self.commands.send(Command::Child(Box::new(command)));
    }

    /// Call this when the process has ended. When this returns, nothing of it is left in the host's own
    /// process.
    pub(crate) fn remove(&self) {
        let (reply, removed) = mpsc::channel();
        let command = ChildCommand::Remove { number: self.number, reply };
        if self.commands.send(Command::Child(Box::new(command))).is_ok() {
            // This fails only if the thread has ended, which removes everything.
            let _ = removed.recv();
        }
    }
}

/// Converts a component's limits to those of its process.
pub(crate) fn peer_limits(limits: &ComponentLimits) -> PeerLimits {
    PeerLimits {
        peers: 1,
        publishers: limits.publishers,
        subscriptions: limits.subscriptions,
        bytes: limits.publisher_bytes,
        seats: limits.subscriptions_per_topic,
        may_block: limits.back_pressure,
    }
}

/// An additional socket for a host to serve at.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) place: Place,
    pub(crate) options: ServeOptions,
    /// Returns the place if the host refuses: it [serves](NotListening::Serves) already, or is about to end.
    pub(crate) reply: mpsc::Sender<Result<(), (Place, NotListening)>>,
}

/// Why a host does not serve at a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotListening {
    Serves,
    Ends,
    System(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        let (events, receiver) = ChildEvents::new(Arc::new(Event::new().expect("a descriptor is left")));
        let line = || ChildEvent::Line { level: 0, text: String::new() };
        (0..MAX_LINES + 5).for_each(|_| events.report(line()));
        events.report(ChildEvent::Connected);
        assert_eq!((receiver.take_dropped(), receiver.take_dropped()), (5, 0));
        assert!((0..MAX_LINES).all(|_| matches!(receiver.next(), Some(ChildEvent::Line { .. }))));
        assert!(matches!(receiver.next(), Some(ChildEvent::Connected)));
        events.report(line());
        assert!(receiver.next().is_some() && receiver.take_dropped() == 0);
    }
}

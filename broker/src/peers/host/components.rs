//! The part of a [`HostThread`] that serves the processes which run components of the host.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::{Connection, HostThread};
use crate::control::grants::Grants;
use crate::peers::children::{
    ChildCommand, ChildEvent, ChildEvents, Listen, NewChild, NotListening, peer_limits,
};
use crate::peers::identity::Credentials;
use crate::peers::options::PeerLimits;
use crate::peers::poller::Token;
use crate::peers::protocol::{Notice, Request};
use crate::peers::registry::ComponentNumber;
use crate::peers::socket::{Broken, File, PacketSocket};

/// Turns in which the last packets of a process are received. All of them fit into the socket.
const LAST_TURNS: usize = 64;

/// A component that runs in a process started by this one.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    grants: Grants,
    pub(super) is_walled: bool,
    /// Its component, if that is restarted.
    pub(super) component: Option<ComponentNumber>,
    /// The job, until it is sent.
    job: Option<File>,
    events: ChildEvents,
}

impl HostThread {
    pub(super) fn child_command(&mut self, command: ChildCommand) {
        // The thread that asked may no longer wait.
        match command {
            ChildCommand::Open { reply } => {
                self.users += u32::from(!self.is_stopping);
                let _ = reply.send(!self.is_stopping);
            }
            ChildCommand::Close => {
                self.users -= 1;
                self.stop_unless_needed();
            }
            ChildCommand::Add { child, reply } => {
                let added = self.add(*child).map_err(|error| error.to_string());
                let _ = reply.send(added);
            }
            ChildCommand::EndRestarts { component } => self.registry.expect_no_restarts(component),
            ChildCommand::Tell { number, notice } => self.tell(number, &notice),
            ChildCommand::Remove { number, reply } => {
                self.connection_ended(number);
                let _ = reply.send(());
            }
        }
    }

    fn add(&mut self, child: NewChild) -> Result<u64, Broken> {
        let NewChild { socket, pid, pidfd, name, grants, is_walled, component, job, events } = child;
        let socket = PacketSocket::of_process(socket, pid)?;
        let credentials = Credentials { pid, ..Credentials::own() };
        let child = Some(Child { name, grants, is_walled, component, job: Some(job), events });
        let (pidfd, peer) = (Arc::new(pidfd), None);
        Ok(self.watch(Connection { socket, credentials, pidfd, peer, child }))
    }

    fn tell(&mut self, number: u64, notice: &Notice) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        // A process that has not said hello yet gets no notice: the run that waits for it ends it.
        if connection.peer.is_none() {
            return;
        }
        match connection.socket.send(notice, Vec::new()) {
            Ok(()) => self.watch_writable(number),
            Err(error) => self.disconnect(number, &error),
        }
    }

    /// Handles the end of the process at the other end.
    pub(super) fn connection_ended(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (peer, is_child) = (connection.peer, connection.child.is_some());
        if is_child {
            // Receive its last requests now: other processes may have copies of its socket.
            (0..LAST_TURNS).for_each(|_| self.receive_all(number));
        }
        self.disconnect(number, &Broken::Closed);
        self.deliver();
        if let (true, Some(peer)) = (is_child, peer) {
            // The run that waits for the child expects that nothing of it is left.
            self.node.peer_ended(peer);
            self.wall.peer_ended(peer);
            self.deliver();
        }
    }

    pub(super) fn listen(&mut self, listen: Listen) {
        let Listen { place, options, reply } = listen;
        let refused = if self.is_stopping {
            Some(NotListening::Ends)
        } else if self.place.is_some() {
            Some(NotListening::Serves)
        } else {
            let watched = self.poller.add(place.listener().as_fd(), Token::Listener);
            watched.err().map(|error| NotListening::System(error.to_string()))
        };
        let answer = match refused {
            Some(why) => Err((place, why)),
            None => {
                self.registry.configure(self.own, &options);
                self.place = Some(place);
                self.options = options;
                Ok(())
            }
        };
        if reply.send(answer).is_err() {
            self.stop_serving();
        }
    }
}

impl Connection {
    /// Sends the process its job, if this process started it for that.
    pub(super) fn employ(&mut self) -> Result<(), Broken> {
        let Some(child) = &mut self.child else { return Ok(()) };
        self.socket.send(&Notice::Job, child.job.take().into_iter().collect())?;
        child.events.report(ChildEvent::Connected);
        Ok(())
    }

    /// Passes on the reports of a component's process. Returns all other requests.
    pub(super) fn child_reports(&self, request: Request) -> Option<Request> {
        let Some(child) = &self.child else { return Some(request) };
        child.events.report(match request {
            Request::Log { level, text } => ChildEvent::Line { level, text },
            Request::Tally { tally } => ChildEvent::Tally(tally),
            Request::Outcome { outcome, tally } => ChildEvent::Outcome(outcome, tally),
            request => return Some(request),
        });
        None
    }
}

impl Child {
    /// Its grants and limits, and the number of topics that it may create.
    pub(super) fn terms(&self) -> (Grants, PeerLimits, u32) {
        let limits = self.grants.get_limits();
        (self.grants.clone(), peer_limits(limits), limits.topics)
    }

    pub(super) fn disconnected(&self, why: &Broken) {
        let why = Some(why).filter(|why| **why != Broken::Closed);
        self.events.report(ChildEvent::Disconnected(why.map(Broken::to_string)));
    }
}

#[cfg(test)]
mod tests {
    use crate::peers::event::Event;
    use rustix::net::sockopt::set_socket_passcred;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::Broker;
    use crate::peers::identity::own_pidfd;
    use crate::peers::job::{Job, Outcome, Tally};
    use crate::peers::link::Commands;
    use crate::peers::options::ServeOptions;
    use crate::peers::protocol::Versions;

    #[test]
    fn the_last_words_of_a_process_that_no_longer_listens_are_received() {
        let broker = Broker::new();
        let (commands, options) = (Commands::new().unwrap(), ServeOptions::new());
        let shared = Arc::clone(broker.shared());
        let mut host = HostThread::new(shared, None, options, commands, Arc::default()).unwrap();
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        let (events, received) = ChildEvents::new(Arc::new(Event::new().unwrap()));
        let grants = Grants::all();
        let job = Job::new("child", &Default::default(), false, grants.get_limits()).to_file().unwrap();
        let number = host.add(NewChild {
            socket,
            pid: Credentials::own().pid,
            pidfd: own_pidfd().unwrap(),
            name: "child".to_owned(),
            grants,
            is_walled: false,
            component: None,
            job: Arc::new(job),
            events,
        });
        let number = number.unwrap();
        let mut child = PacketSocket::new(theirs).unwrap();
        let hello = Request::Hello { versions: Versions::current(), name: String::new() };
        child.send(&hello, Vec::new()).unwrap();
        host.receive_all(number);
        // It does not read its greeting.
        let (outcome, tally) = (Outcome::Finished, Tally::default());
        child.send(&Request::Log { level: 2, text: "last".to_owned() }, Vec::new()).unwrap();
        child.send(&Request::Outcome { outcome: outcome.clone(), tally }, Vec::new()).unwrap();
        drop(child);
        // Processes that other tests start may have copies of its end for a moment.
        while !host.connections.is_empty() {
            host.tell(number, &Notice::Count);
            host.flush(number);
            host.receive_all(number);
        }
        assert!(matches!(received.next(), Some(ChildEvent::Connected)));
        assert!(matches!(received.next(), Some(ChildEvent::Line { text, .. }) if text == "last"));
        assert!(matches!(received.next(), Some(ChildEvent::Outcome(found, _)) if found == outcome));
        assert!(matches!(received.next(), Some(ChildEvent::Disconnected(None))));
        assert!(received.next().is_none());
    }
}

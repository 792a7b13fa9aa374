//! [`Registry`]: the host's view of which processes take part in which topics.
//!
//! A pure state machine: requests and departures go in, notices come out. It neither opens channels nor sends
//! anything, and knows the time only from its caller. The host's own process is one of the peers.

mod joining;
mod late;
mod offers;
mod queries;
mod restarts;
mod seats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use blockcast_blocks::{Schema, Trust, text};

use crate::control::grants::Grants;
use crate::peers::options::{PeerLimits, ServeOptions, Terms};
use crate::peers::protocol::{
    ChannelNumber, FileId, Notice, PeerId, PeerRecord, PublisherRecord, Refusal, Request, SeatId,
};
use crate::peers::wall::seat_of;
use offers::Waiting;
use queries::Query;

/// Maximum number of seats of one process, as publisher or as subscriber. Their numbers fit into one packet.
const MAX_SEATS: usize = 4096;

/// Bits of a publisher's number that count the publishers of one process.
const PUBLISHER_BITS: u32 = 40;

/// A number of 24 bits that all processes of a host can tell from their welcome. Another host has a different
/// one, except by chance.
pub(crate) fn host_number(peer: PeerId, first_publisher: u64) -> u32 {
    let number = (first_publisher >> PUBLISHER_BITS).wrapping_sub(peer.0);
    // Fits: 24 bits.
    (number & ((1 << (u64::BITS - PUBLISHER_BITS)) - 1)) as u32
}

/// A publisher: its process, and the number that the process gave it.
pub(crate) type ChannelKey = (PeerId, ChannelNumber);

/// A component that runs in processes of its own, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ComponentNumber(pub(crate) u64);

/// Whoever restarts a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Supervisor {
    /// The host, which runs it in processes of its own.
    Host(ComponentNumber),
    /// A process, which runs components itself.
    Process(PeerId),
}

/// The topics to which components have published that may publish again after a restart.
type Restarts = BTreeMap<Supervisor, BTreeSet<String>>;

/// A process has sent something that no correct process sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(String);

/// A notice on its way to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing<F> {
    pub(crate) to: PeerId,
    pub(crate) notice: Notice,
    pub(crate) files: Vec<F>,
}

/// Answers the registry's questions about topics and files.
pub(crate) trait Inspector<F> {
    /// # Errors
    /// If no other process may join this topic with this schema.
    fn inspect_topic(&self, topic: &str, schema: &Schema) -> Result<(), Refusal>;

    /// Returns the bytes of a channel's files.
    ///
    /// # Errors
    /// If they are not those of a channel that can be shared.
    fn inspect_channel(&self, control: &F, arena: &F) -> Result<u64, Refusal>;

    /// Whether the host itself has this topic.
    fn has_topic(&self, topic: &str) -> bool;

    /// Names and schemas of the host's own topics, even of those that are not shared with other processes.
    fn own_topics(&self) -> Vec<(String, Schema)>;
}

/// A process that has just connected.
#[derive(Debug)]
pub(crate) struct Newcomer<F> {
    /// `None` for the host's own process, which has no limits.
    pub(crate) grants: Option<Grants>,
    /// How far its publishers are trusted.
    pub(crate) trust: Trust,
    pub(crate) limits: PeerLimits,
    /// Number of topics that it may create.
    pub(crate) topics: u32,
    /// Its name in statistics.
    pub(crate) label: String,
    /// The component that it runs, if that is restarted.
    pub(crate) component: Option<ComponentNumber>,
    pub(crate) pidfd: F,
}

/// The processes, topics and publishers that a host knows.
#[derive(Debug)]
pub(crate) struct Registry<F> {
    /// Creates both ends of a bell. `None` if no descriptor is left.
    create_bell: fn() -> Option<(F, F)>,
    /// The terms of processes, except for what is limited for each.
    terms: Terms,
    patience: Duration,
    peers: BTreeMap<PeerId, Peer<F>>,
    /// The peer that copies the messages of others.
    wall: Option<PeerId>,
    topics: BTreeMap<String, Topic>,
    channels: BTreeMap<ChannelKey, Channel<F>>,
    seats: BTreeMap<SeatId, Seat<F>>,
    restarts: Restarts,
    /// The seats whose publisher's process was asked to attach an annex, by deadline.
    attaching: BTreeSet<(Instant, SeatId)>,
    /// Questions whose answers wait for reports of other processes.
    queries: BTreeMap<u64, Query>,
    next_peer: u64,
    /// Distinguishes this host's publishers from those that joined a former one.
    salt: u64,
    next_seat: u64,
    next_query: u64,
    stalled: Vec<Stalled>,
    out: Vec<Outgoing<F>>,
}

/// A process whose subscribers hold a publisher back for longer than they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stalled {
    pub(crate) subscriber: PeerId,
    /// The publisher's process, which reports it.
    pub(crate) reporter: PeerId,
    pub(crate) topic: String,
}

#[derive(Debug)]
struct Peer<F> {
    grants: Option<Grants>,
    trust: Trust,
    limits: PeerLimits,
    /// Number of topics that it may create, and that it has created. Some of them may no longer exist.
    topics: u32,
    created: BTreeSet<String>,
    label: String,
    component: Option<ComponentNumber>,
    pidfd: F,
    /// Bytes of its publishers' channels.
    bytes: u64,
    publishers: u32,
    subscriptions: u32,
    seats: usize,
    /// Number of channels offered to it that are not attached yet, and of withdrawn offers.
    offered: usize,
    /// Withdrawn offers that it has not answered, and so may not have received yet.
    withdrawn: BTreeSet<SeatId>,
    /// Offers and answers that wait until fewer channels are offered.
    waiting: VecDeque<Waiting>,
    /// Offers of its channels that wait until it sends something, while it is late.
    held: Vec<SeatId>,
    /// Publishers that it left before this host knew them, by their number and the annex.
    departed: Vec<(u64, FileId)>,
    /// Whether it has missed a deadline. Then nobody waits for it until it sends something.
    is_late: bool,
    /// Number of requests for its counters that it has not answered.
    reports_owed: u32,
}

#[derive(Debug)]
struct Topic {
    schema: Schema,
    channels: BTreeSet<ChannelKey>,
    subscribers: BTreeSet<PeerId>,
}

#[derive(Debug)]
struct Channel<F> {
    topic: String,
    publisher: PublisherRecord,
    control: F,
    arena: F,
    bytes: u64,
    audience: Audience,
    seats: BTreeSet<SeatId>,
    /// While the publisher is being opened: the seats that have not joined, and until when it waits for them.
    awaited: Option<(BTreeSet<SeatId>, Instant)>,
}

/// The processes to offer a channel to.
#[derive(Clone, Debug)]
enum Audience {
    /// Every other process that subscribes to its topic.
    Subscribers,
    /// The wall alone.
    Wall,
    /// Every process that subscribes, except the one whose messages are copied.
    SubscribersExcept(PeerRecord),
}

impl Audience {
    /// Whether a subscribing process is offered a channel of this `owner`.
    fn includes(&self, owner: PeerId, subscriber: PeerId) -> bool {
        match self {
            Self::Subscribers => subscriber != owner,
            Self::Wall => false,
            Self::SubscribersExcept(origin) => subscriber != origin.id,
        }
    }
}

#[derive(Debug)]
struct Seat<F> {
    channel: ChannelKey,
    subscriber: PeerId,
    state: SeatState,
    /// While it is [offered](SeatState::Offered): the end of the bell for the publisher's process.
    bell: Option<F>,
    /// Whether it is one of the subscribing process's [`offered`](Peer::offered).
    counts: bool,
    /// While it is [attaching](SeatState::Attaching): when to stop waiting for the publisher's process.
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeatState {
    /// The subscribing process was not offered the channel yet.
    Waiting,
    /// The subscribing process was offered the channel.
    Offered,
    /// The publisher's process was given the annex.
    Attaching,
    Attached,
    Joined,
}

impl<F: Clone> Registry<F> {
    /// Numbers publishers from a place on that depends on `salt`. `create_bell` returns both ends of a bell,
    /// or `None` if no descriptor is left.
    pub(crate) fn new(options: &ServeOptions, salt: u64, create_bell: fn() -> Option<(F, F)>) -> Self {
        Self {
            create_bell,
            terms: options.terms(),
            patience: options.get_patience(),
            peers: BTreeMap::new(),
            wall: None,
            topics: BTreeMap::new(),
            channels: BTreeMap::new(),
            seats: BTreeMap::new(),
            restarts: Restarts::new(),
            attaching: BTreeSet::new(),
            queries: BTreeMap::new(),
            next_peer: 0,
            salt,
            next_seat: 0,
            next_query: 0,
            stalled: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Serves with these options from now on. `own` is the host's own process.
    pub(crate) fn configure(&mut self, own: PeerId, options: &ServeOptions) {
        (self.terms, self.patience) = (options.terms(), options.get_patience());
        for own in [Some(own), self.wall].into_iter().flatten() {
            if let Some(own) = self.peers.get_mut(&own) {
                (own.limits, own.trust) = (options.get_limits().clone(), options.trust_in_host());
            }
        }
    }

    /// The terms by which this process takes part in channels of others.
    fn terms(&self, subscriber: PeerId) -> Terms {
        let peer = self.peers.get(&subscriber);
        peer.map_or(self.terms, |peer| self.terms.with_limits(&peer.limits))
    }

    /// Takes the notices to send.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Outgoing<F>> {
        std::mem::take(&mut self.out)
    }

    /// Takes the reports about processes that stall publishers.
    pub(crate) fn take_stalled(&mut self) -> Vec<Stalled> {
        std::mem::take(&mut self.stalled)
    }

    /// Adds a process. Returns its number, and the first number of its publishers.
    pub(crate) fn admit(&mut self, newcomer: Newcomer<F>) -> (PeerId, u64) {
        let Newcomer { grants, limits, topics, trust, label, component, pidfd } = newcomer;
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let peer = Peer {
            grants,
            trust,
            limits,
            topics,
            created: BTreeSet::new(),
            label,
            component,
            pidfd,
            bytes: 0,
            publishers: 0,
            subscriptions: 0,
            seats: 0,
            offered: 0,
            withdrawn: BTreeSet::new(),
            waiting: VecDeque::new(),
            held: Vec::new(),
            departed: Vec::new(),
            is_late: false,
            reports_owed: 0,
        };
        self.peers.insert(id, peer);
        // Numbers repeat once the host has served 2^24 processes, long after the first of them has ended.
        // Those of two hosts are the same with a probability of 2^-24 for each pair of processes.
        (id, (id.0.wrapping_add(self.salt) << PUBLISHER_BITS) + 1)
    }

    /// Adds the [wall](crate::peers::wall), which takes the seats of all publishers that are walled.
    pub(crate) fn admit_wall(&mut self, newcomer: Newcomer<F>) -> PeerId {
        let (wall, _) = self.admit(newcomer);
        self.wall = Some(wall);
        wall
    }

    /// The schema of a topic that processes share.
    pub(crate) fn schema_of(&self, topic: &str) -> Option<&Schema> {
        self.topics.get(topic).map(|topic| &topic.schema)
    }

    /// Handles a request, which comes with as many files as it takes.
    ///
    /// # Errors
    /// If no correct process sends it. The process must be disconnected.
    pub(crate) fn request(
        &mut self,
        from: PeerId,
        request: Request,
        files: Vec<F>,
        now: Instant,
        inspector: &dyn Inspector<F>,
    ) -> Result<(), Violation> {
        let mut files = files.into_iter();
        self.has_answered(from);
        match request {
            Request::Hello { .. } => Err(Violation("a second hello".to_owned())),
            Request::OpenPublisher { channel, topic, schema, publisher } => {
                let key = (from, channel);
                if self.channels.contains_key(&key) {
                    return Err(Violation(format!("a second publisher of number {}", channel.0)));
                }
                let (Some(control), Some(arena)) = (files.next(), files.next()) else {
                    return Err(Violation("a publisher without files".to_owned()));
                };
                let opened =
                    self.open_publisher(key, topic, schema, publisher, (control, arena), now, inspector);
                if let Err(why) = opened {
                    self.send(from, Notice::OpenRefused { channel, why });
                }
                Ok(())
            }
            Request::ClosePublisher { channel } => {
                self.close_channel((from, channel));
                Ok(())
            }
            Request::Subscribe { request, topic, schema } => {
                if self.topics.get(&topic).is_some_and(|topic| topic.subscribers.contains(&from)) {
                    return Err(Violation(format!("a second subscription to {:?}", text::line(&topic))));
                }
                match self.subscribe(from, topic.clone(), schema, inspector) {
                    Ok(seats) => self.wait(from, Waiting::Subscribed { request, topic, seats }),
                    Err(why) => self.send(from, Notice::SubscribeRefused { request, why }),
                }
                Ok(())
            }
            Request::Unsubscribe { topic } => {
                self.unsubscribe(from, &topic);
                Ok(())
            }
            Request::Annex { seat } => {
                let annex = files.next().ok_or_else(|| Violation("a seat without an annex".to_owned()))?;
                self.take_annex(from, seat, annex, now)
            }
            Request::Declined { seat, why } => self.decline(from, seat, &why),
            Request::Attached { seat } => self.attached(from, seat),
            Request::NotAttached { seat, why } => self.not_attached(from, seat, why),
            Request::Joined { seat } => self.joined(from, seat),
            Request::Left { seat } => self.left(from, seat),
            Request::Announced => {
                self.send(from, Notice::Known);
                Ok(())
            }
            Request::Topics { request, selection } => self.query(from, request, &selection, now, inspector),
            Request::Stalled { seat } => self.note_stalled(from, seat),
            Request::Report { query, counters } => {
                self.reported(from, query, counters);
                Ok(())
            }
            Request::LeftBefore { publisher, annex } => {
                self.left_before(from, publisher, annex);
                Ok(())
            }
            Request::Expect { topic, is_expected } => {
                self.expect_process(from, &topic, is_expected, inspector);
                Ok(())
            }
            Request::Log { .. } | Request::Tally { .. } | Request::Outcome { .. } => {
                Err(Violation("a report of a process that runs no component of the host".to_owned()))
            }
        }
    }

    /// Refuses a request that has come without its files, for which the host has no room.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub(crate) fn refuse(&mut self, from: PeerId, request: &Request, why: &str) -> Result<(), Violation> {
        match *request {
            Request::OpenPublisher { channel, .. } => {
                self.send(from, Notice::OpenRefused { channel, why: Refusal::Limit(why.to_owned()) });
                Ok(())
            }
            Request::Annex { seat } => self.annex_failed(from, seat, why),
            _ => Err(Violation("a request without its files".to_owned())),
        }
    }

    /// Removes a process that was disconnected. It may still run, and use the channels that it has.
    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.waiting.clear();
        }
        let own = self.channels.range((peer, ChannelNumber(0))..=(peer, ChannelNumber(u64::MAX)));
        let own: Vec<_> = own.map(|(&key, _)| key).collect();
        for key in own {
            self.abandon_channel(key);
        }
        let seats = self.seats.iter().filter(|(_, seat)| seat.subscriber == peer);
        let seats: Vec<_> = seats.map(|(&id, _)| id).collect();
        for seat in seats {
            self.remove_seat(seat);
        }
        let subscribed = self.topics.iter().filter(|(_, topic)| topic.subscribers.contains(&peer));
        let subscribed: Vec<_> = subscribed.map(|(name, _)| name.clone()).collect();
        for topic in subscribed {
            self.unsubscribe(peer, &topic);
        }
        self.forget_supervisor(Supervisor::Process(peer));
        self.peers.remove(&peer);
        self.forget_queries(peer);
        self.out.retain(|outgoing| outgoing.to != peer);
    }

    /// Lets publishers continue that have waited long enough for other processes.
    pub(crate) fn tick(&mut self, now: Instant) {
        let mut opened = Vec::new();
        for (&key, channel) in &mut self.channels {
            if let Some((seats, _)) = channel.awaited.take_if(|(_, deadline)| *deadline <= now) {
                opened.push((key, seats));
            }
        }
        for ((peer, channel), seats) in opened {
            seats.into_iter().for_each(|seat| self.is_late(seat));
            self.send(peer, Notice::Opened { channel });
        }
        self.stop_waiting_to_attach(now);
        self.answer_late_queries(now);
    }

    /// When to call [`tick`](Self::tick) next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let opening = self.channels.values().filter_map(|channel| Some(channel.awaited.as_ref()?.1));
        let attaching = self.attaching.first().map(|&(deadline, _)| deadline);
        opening.chain(attaching).chain(self.queries.values().map(|query| query.deadline)).min()
    }

    fn topic(&mut self, name: &str, schema: Schema) -> &mut Topic {
        let new = || Topic { schema, channels: BTreeSet::new(), subscribers: BTreeSet::new() };
        self.topics.entry(name.to_owned()).or_insert_with(new)
    }

    fn forget_unused(&mut self, name: &str) {
        let unused = |topic: &Topic| topic.channels.is_empty() && topic.subscribers.is_empty();
        if self.topics.get(name).is_some_and(unused) {
            self.topics.remove(name);
        }
    }

    /// Counts a topic if it is new, for the process that is about to create it.
    fn count_topic(
        &mut self,
        from: PeerId,
        topic: &str,
        inspector: &dyn Inspector<F>,
    ) -> Result<(), Refusal> {
        let topics = &self.topics;
        let exists = |topic: &str| topics.contains_key(topic) || inspector.has_topic(topic);
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.topics != u32::MAX) else {
            return Ok(());
        };
        if exists(topic) {
            return Ok(());
        }
        peer.created.retain(|created| exists(created));
        if peer.created.len() >= peer.topics as usize {
            return Err(Refusal::Limit(format!("a process may create {} topics", peer.topics)));
        }
        peer.created.insert(topic.to_owned());
        Ok(())
    }

    fn check_schema(&self, topic: &str, schema: &Schema) -> Result<(), Refusal> {
        match self.topics.get(topic) {
            Some(topic) if topic.schema != *schema => Err(Refusal::SchemaMismatch((&topic.schema).into())),
            _ => Ok(()),
        }
    }

    /// Returns the processes to offer a new channel to.
    fn audience_of(&self, key: ChannelKey) -> Audience {
        if Some(key.0) == self.wall {
            // It may have ended meanwhile.
            let origin = self.seats.get(&seat_of(key.1)).map(|seat| self.record(seat.channel.0));
            return origin.map_or(Audience::Subscribers, Audience::SubscribersExcept);
        }
        match self.peers.get(&key.0).map(|peer| peer.trust) {
            Some(Trust::Walled) if self.wall.is_some() => Audience::Wall,
            _ => Audience::Subscribers,
        }
    }

    fn send(&mut self, to: PeerId, notice: Notice) {
        self.send_with(to, notice, Vec::new());
    }

    fn send_with(&mut self, to: PeerId, notice: Notice, files: Vec<F>) {
        if self.peers.contains_key(&to) {
            self.out.push(Outgoing { to, notice, files });
        }
    }

    fn record(&self, id: PeerId) -> PeerRecord {
        PeerRecord { id, label: self.peers.get(&id).map_or_else(String::new, |peer| peer.label.clone()) }
    }
}

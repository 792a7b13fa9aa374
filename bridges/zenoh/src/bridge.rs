//! [`Bridge`], and the thread that decides which topics it carries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Instant;

use blockcast_bridge_core::{Origin, Role, Rules, Token};
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use crate::echo::Echo;
use crate::error::BridgeError;
use crate::farewells::Farewells;
use crate::incoming::{self, IncomingTopic};
use crate::options::BridgeOptions;
use crate::others::Others;
use crate::outgoing::Outgoing;
use crate::seldom::Seldom;
use crate::sending::end_all;
use crate::source::{LocalTopic, Source};
use crate::stats::{BridgeStats, Counters};

/// Carries topics between a broker and others, over zenoh. Dropping it [closes](Self::close) it.
pub struct Bridge {
    control: Control,
    origin: Origin,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What all parts of a bridge share.
pub(crate) struct Context {
    pub(crate) session: Session,
    pub(crate) source: Source,
    pub(crate) options: BridgeOptions,
    pub(crate) origin: Origin,
    pub(crate) counters: Arc<Counters>,
    pub(crate) control: Control,
    pub(crate) farewells: Arc<Farewells>,
}

/// Tells the bridge's thread what has happened.
#[derive(Clone)]
pub(crate) struct Control(mpsc::Sender<Event>);

enum Event {
    /// Something may have changed.
    Look,
    /// A bridge elsewhere has a topic, or no longer.
    Token(Token, SampleKind),
    Close,
}

impl Control {
    pub(crate) fn look(&self) {
        self.send(Event::Look);
    }

    fn send(&self, event: Event) {
        // Otherwise the bridge is closed.
        let _ = self.0.send(event);
    }
}

impl Context {
    pub(crate) fn declare_token(&self, token: &Token) -> Result<LivelinessToken, BridgeError> {
        let key = token.to_key();
        let declared = self.session.liveliness().declare_token(key.clone()).wait();
        declared.map_err(|error| BridgeError::zenoh(format!("declare the token {key}"), error))
    }
}

impl Bridge {
    /// Starts to carry the topics that the rules name, between `source`, which is a broker or a connection to
    /// a host, and all bridges that `session` reaches. Returns at once: topics are found in the background.
    ///
    /// Lets glibc's allocator keep up to 8 MiB of freed memory per thread, unless the program or its
    /// environment has set a limit. Otherwise, it gives back what zenoh frees after each large message, and
    /// gets it again page by page.
    ///
    /// # Errors
    /// [`BridgeError`].
    pub fn new(
        source: impl Into<Source>,
        session: Session,
        rules: Rules,
        options: BridgeOptions,
    ) -> Result<Self, BridgeError> {
        keep_freed_memory();
        let (sender, events) = mpsc::channel();
        let control = Control(sender);
        let counters = Arc::new(Counters::default());
        let source = source.into();
        // Other bridges of this broker have the same, and ignore what this one sends.
        let origin = Origin::new(source.broker().identity());
        let tell = control.clone();
        let tokens =
            session.liveliness().declare_subscriber(Token::ALL).history(true).callback(move |sample| {
                match Token::from_key(sample.key_expr().as_str()) {
                    Ok(token) => tell.send(Event::Token(token, sample.kind())),
                    Err(error) => tracing::debug!(%error, "another program uses the keys of bridges"),
                }
            });
        let tokens = tokens.wait().map_err(|error| BridgeError::zenoh("look for other bridges", error))?;
        let echo = Echo::new(&session, origin, options.round_trips)?;
        let context = Context {
            session,
            source,
            options,
            origin,
            counters: Arc::clone(&counters),
            control: control.clone(),
            farewells: Arc::default(),
        };
        let worker = Worker {
            context,
            rules,
            _tokens: tokens,
            echo,
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            announced: BTreeMap::new(),
            others: Others::default(),
            gone: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("blockcast-bridge".to_owned());
        let thread = thread
            .spawn(move || worker.run(&events))
            .map_err(|error| BridgeError::Thread(error.to_string()))?;
        Ok(Self { control, origin, counters, thread: Some(thread) })
    }

    /// Identifies this bridge's broker to others.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> BridgeStats {
        self.counters.get()
    }

    /// Stops carrying topics, and tells the other bridges: to their subscribers, this broker's publishers
    /// have ended. What was published before is sent first. The session stays open. Returns once everything
    /// has stopped, which takes a fraction of a second, or a few seconds if zenoh is slow, with what it has
    /// done in the end.
    pub fn close(mut self) -> BridgeStats {
        self.end();
        self.stats()
    }

    fn end(&mut self) {
        self.control.send(Event::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes glibc's allocator keep twice this size, as documented in `mallopt(3)`: once a large block is freed,
/// it takes the program to need such blocks again (`M_MMAP_THRESHOLD`), and trims its heaps less
/// (`M_TRIM_THRESHOLD`). Other allocators ignore it.
fn keep_freed_memory() {
    const LARGE: usize = 4 << 20;
    let mut large = Vec::<u8>::new();
    // Never written, so this costs two system calls and no memory. Without room for it, nothing changes.
    let _ = large.try_reserve_exact(LARGE);
    drop(std::hint::black_box(large));
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("origin", &self.origin)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The bridge's thread.
struct Worker {
    context: Context,
    rules: Rules,
    _tokens: Subscriber<()>,
    echo: Echo,
    /// By the topics' names, as the following.
    outgoing: BTreeMap<String, Outgoing>,
    incoming: BTreeMap<String, IncomingTopic>,
    /// Topics with subscribers here, of which other bridges know.
    announced: BTreeMap<String, (Token, LivelinessToken)>,
    /// What other bridges have.
    others: Others,
    /// Publishers' tokens that are gone, and since when. The bridge may have lost the connection only.
    gone: BTreeMap<Token, Instant>,
    /// What has failed, and for which topics.
    failures: BTreeMap<(String, &'static str), Seldom>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        end_all(self.outgoing.values_mut().filter_map(Outgoing::take_sending));
        incoming::end_all(std::mem::take(&mut self.incoming).into_values());
    }
}

impl Worker {
    fn run(mut self, events: &Receiver<Event>) {
        loop {
            self.look();
            let mut event = events.recv_timeout(self.context.options.interval);
            // All that is there, before looking again.
            loop {
                match event {
                    Ok(Event::Close) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(Event::Token(token, kind)) => self.hear(token, kind),
                    Ok(Event::Look) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                }
                event = events.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
        }
    }

    /// Another bridge has a topic, or no longer.
    fn hear(&mut self, token: Token, kind: SampleKind) {
        let origin = token.origin;
        if origin == self.context.origin {
            return;
        }
        match kind {
            SampleKind::Put => {
                self.gone.remove(&token);
                self.others.insert(token);
            }
            SampleKind::Delete => {
                if self.others.remove(&token) && token.role == Role::Publisher {
                    self.gone.insert(token, Instant::now());
                }
            }
        }
        self.context.counters.peers.store(self.others.peers() as u64, Ordering::Relaxed);
    }

    /// Looks what has changed, and acts on it.
    fn look(&mut self) {
        if let Some(topics) = self.context.source.topics() {
            self.carry(&topics);
        }
        self.echo.ask(&self.context.session, &self.context.counters);
        let linger = self.context.options.linger;
        self.context.farewells.repeat(&self.context.session, linger);
        for (token, _) in self.gone.extract_if(.., |_, since| since.elapsed() >= linger) {
            let affected = self.incoming.values().filter(|incoming| incoming.has_key(&token.key));
            affected.for_each(|incoming| incoming.close(token.origin));
        }
        let counters = &self.context.counters;
        let sending = self.outgoing.values().filter(|outgoing| outgoing.is_sending()).count();
        counters.sending.store(sending as u64, Ordering::Relaxed);
        counters.receiving.store(self.incoming.len() as u64, Ordering::Relaxed);
    }

    fn carry(&mut self, topics: &[LocalTopic]) {
        let is_there = |name: &String| topics.iter().any(|topic| topic.name == *name);
        let gone = self.incoming.extract_if(.., |name, _| !is_there(name));
        incoming::end_all(gone.map(|(_, incoming)| incoming));
        self.announced.retain(|name, _| is_there(name));
        self.failures.retain(|(name, _), _| is_there(name));
        let context = &self.context;
        self.outgoing.retain(|name, outgoing| is_there(name) || outgoing.update(context, false));
        for topic in topics {
            let (Some(rule), Some(key)) = (self.rules.rule(&topic.name), self.rules.key(&topic.name)) else {
                continue;
            };
            let direction = rule.get_direction();
            let accepts_others = rule.get_schema() == Some(&topic.schema);
            if direction.is_out() {
                self.send(topic, &key);
            }
            if direction.is_in() {
                self.receive(topic, &key, accepts_others);
            }
        }
    }

    /// It is tried again at the next look.
    fn fail(&mut self, topic: &LocalTopic, what: &'static str, error: &BridgeError) {
        self.failures.entry((topic.name.clone(), what)).or_default().warn(&topic.name, what, error);
    }

    fn send(&mut self, topic: &LocalTopic, key: &str) {
        self.outgoing.retain(|name, outgoing| *name != topic.name || outgoing.is_of(topic));
        if topic.has_publishers && !self.outgoing.contains_key(&topic.name) {
            match Outgoing::new(&self.context, topic, key) {
                Ok(outgoing) => {
                    self.outgoing.insert(topic.name.clone(), outgoing);
                }
                Err(error) => self.fail(topic, "a topic cannot be sent", &error),
            }
        }
        if let Some(outgoing) = self.outgoing.get_mut(&topic.name)
            && !outgoing.update(&self.context, topic.has_publishers)
        {
            self.outgoing.remove(&topic.name);
        }
    }

    fn receive(&mut self, topic: &LocalTopic, key: &str, accepts_others: bool) {
        if !topic.has_subscribers {
            self.incoming.remove(&topic.name);
            self.announced.remove(&topic.name);
            return;
        }
        let token = Token {
            origin: self.context.origin,
            role: Role::Subscriber,
            fingerprint: topic.schema.fingerprint(),
            key: key.to_owned(),
        };
        if self.announced.get(&topic.name).is_none_or(|(announced, _)| *announced != token) {
            match self.context.declare_token(&token) {
                Ok(declared) => {
                    self.announced.insert(topic.name.clone(), (token.clone(), declared));
                }
                Err(error) => self.fail(topic, "a topic cannot be announced", &error),
            }
        }
        self.incoming.retain(|name, incoming| *name != topic.name || incoming.is_of(topic));
        // Once it is received, it stays so as long as there are subscribers: what is missing after others
        // come back is only known if what came before is remembered.
        let is_offered = |other: &Token| {
            other.role == Role::Publisher && other.fingerprint == token.fingerprint && other.key == token.key
        };
        if !self.incoming.contains_key(&topic.name) && (accepts_others || self.others.iter().any(is_offered))
        {
            match IncomingTopic::new(&self.context, topic, key, accepts_others) {
                Ok(incoming) => {
                    self.incoming.insert(topic.name.clone(), incoming);
                }
                Err(error) => self.fail(topic, "a topic cannot be received", &error),
            }
        }
    }
}

//! Hosts that are killed while processes ask them for something: at random times, and after single
//! instructions.
//!
//! Meanwhile and afterwards, messages flow. The next host learns of everything that the processes have.
//!
//! `BLOCKCAST_KILLS` is the number of kills per test, 10 unless it is set.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use blockcast_broker::{Broker, Connection};
use blockcast_publisher::Publisher;
use blockcast_subscriber::{Overflow, RecvError, Subscriber, SubscriberOptions};

use crate::support::{
    Folder, Numbers, Other, This, connect, connect_options, deadline, publish, publisher, receive,
    serve_options, subscriber, until,
};
use crate::tracee::{Advance, Tracee};

/// Maximum number of instructions after a system call.
const MOST: u64 = 2000;

/// How long a host is traced after it has answered.
const AFTERWARDS: Duration = Duration::from_millis(3);

fn kills() -> u64 {
    std::env::var("BLOCKCAST_KILLS").map_or(10, |kills| kills.parse().expect("a number"))
}

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % limit
    }
}

/// A question of a process to the host that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Connect,
    Publish,
    Unpublish,
    Subscribe,
    Unsubscribe,
    Inspect,
}

impl Question {
    const ALL: [Self; 6] =
        [Self::Connect, Self::Publish, Self::Unpublish, Self::Subscribe, Self::Unsubscribe, Self::Inspect];
}

/// The answer of the host to a process. It is kept until the next host serves.
#[derive(Default)]
struct Answer {
    connection: Option<Connection>,
    publisher: Option<Publisher<Numbers>>,
    subscriber: Option<Subscriber<Numbers>>,
}

/// A process that was prepared for its question.
struct Asker {
    question: Question,
    has: Answer,
}

impl Asker {
    fn prepare(question: Question, connection: &Connection) -> Self {
        let mut has = Answer::default();
        match question {
            Question::Unpublish => has.publisher = Some(publisher(connection.broker(), "late")),
            Question::Unsubscribe => has.subscriber = overtakable(connection),
            _ => {}
        }
        Self { question, has }
    }

    /// Asks. Without a host, every question is refused.
    fn ask(mut self, connection: &Connection, path: &Path) -> Answer {
        let has = &mut self.has;
        match self.question {
            Question::Connect => has.connection = Connection::connect_with(path, &connect_options()).ok(),
            Question::Publish => {
                has.publisher = connection.publisher("late", crate::support::few_blocks()).ok()
            }
            Question::Subscribe => has.subscriber = overtakable(connection),
            Question::Unpublish => has.publisher = None,
            Question::Unsubscribe => has.subscriber = None,
            Question::Inspect => drop(connection.host_topics()),
        }
        self.has
    }
}

/// A subscriber that holds nobody back, if there is a host.
fn overtakable(connection: &Connection) -> Option<Subscriber<Numbers>> {
    connection.subscriber("numbers", SubscriberOptions::new().overflow(Overflow::DropOldest)).ok()
}

/// A process that serves until it is killed or told to end.
fn be_host(mut this: This) {
    let broker = Broker::new();
    let serving = broker.serve(&this.path, serve_options()).expect("nobody else serves");
    this.talk.say("serving");
    this.talk.expect("end");
    drop(serving);
}

/// Receives all numbers until the end. Returns how many it has received and lost.
fn receive_all(mut numbers: Subscriber<Numbers>, received: &AtomicU64) -> (u64, u64) {
    let (mut count, mut lost) = (0, 0);
    loop {
        match numbers.blocking_recv_ref(deadline()) {
            Ok(message) => {
                assert_eq!(message.view(), [count + lost; 3]);
                count += 1;
                received.store(count, Ordering::Relaxed);
            }
            Err(RecvError::Lost(more)) => lost += more,
            Err(RecvError::Ended) => return (count, lost),
            Err(other) => panic!("{other}"),
        }
    }
}

/// A process with subscribers that lose nothing and that may, and one of a topic whose publishers come and
/// go.
fn be_witness(mut this: This) {
    let connection = this.connect();
    let mut late = subscriber(connection.broker(), "late");
    let reliable = subscriber(connection.broker(), "numbers");
    let overtakable = overtakable(&connection).expect("it opens");
    let received = Arc::new(AtomicU64::new(0));
    let reliable = thread::spawn({
        let received = Arc::clone(&received);
        move || receive_all(reliable, &received)
    });
    let overtakable = thread::spawn(|| receive_all(overtakable, &AtomicU64::new(0)));
    this.talk.say("ready");
    loop {
        let said = this.talk.hear();
        match said.parse() {
            Ok(number) => {
                receive(&mut late, number..number + 1);
                this.talk.say("received");
            }
            Err(_) if said == "count" => this.talk.say(&received.load(Ordering::Relaxed).to_string()),
            Err(_) => break,
        }
    }
    let (reliable, overtakable) = (reliable.join().expect("no panic"), overtakable.join().expect("no panic"));
    this.talk.say(&format!("{} {} {} {}", reliable.0, reliable.1, overtakable.0, overtakable.1));
}

/// Publishes all the time, in small bursts, and receives in the same process. Returns how many.
fn publish_until(
    mut numbers: Publisher<Numbers>,
    mut here: Subscriber<Numbers>,
    (stops, published): (&AtomicBool, &AtomicU64),
) -> u64 {
    for number in 0.. {
        if stops.load(Ordering::Relaxed) {
            drop(numbers);
            assert_eq!(here.blocking_recv_ref(deadline()).err(), Some(RecvError::Ended));
            return number;
        }
        publish(&mut numbers, number..number + 1);
        receive(&mut here, number..number + 1);
        published.store(number + 1, Ordering::Relaxed);
        if number % 16 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
    }
    unreachable!("numbers do not end")
}

/// Open descriptors and mappings of channels in this process.
fn resources() -> (usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd").expect("a Linux process").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a Linux process");
    (files, maps.lines().filter(|line| line.contains("memfd:blockcast")).count())
}

/// The process with the publisher, which starts all others.
struct Stage {
    test: &'static str,
    folder: Folder,
    host: Option<Other>,
    connection: Connection,
    witness: Other,
    /// Receives from publishers that come and go. Another one stays, so that the topic does not end.
    late: Subscriber<Numbers>,
    _silent: Publisher<Numbers>,
    next_late: u64,
    published: Arc<AtomicU64>,
    random: Random,
    /// What this process had open before the first round. Another thread may have had one thing more open for
    /// a moment, but what each round leaves behind adds up.
    most: (usize, usize),
}

/// The time at which a host is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Random,
    /// This many instructions after this many system calls begin or end.
    After {
        calls: u64,
        instructions: u64,
    },
}

impl Stage {
    fn start_host(&mut self) {
        let mut host = Other::start(self.test, "host", &self.folder.socket());
        host.talk.expect("serving");
        self.host = Some(host);
    }

    /// Kills the host while a process asks. Returns the answer, and how many system calls of the host
    /// began or ended meanwhile.
    fn kill(&mut self, question: Question, moment: Moment) -> (Answer, u64) {
        let host = self.host.take().expect("one serves");
        let asker = Asker::prepare(question, &self.connection);
        let (answered, path) = (OnceLock::new(), self.folder.socket());
        let (connection, random) = (&self.connection, &mut self.random);
        let mut calls = 0;
        let answer = thread::scope(|scope| {
            let tracee = matches!(moment, Moment::After { .. }).then(|| {
                let tracee = Tracee::seize(host.thread("blockcast-host")).expect("it was permitted before");
                tracee.interrupt();
                tracee
            });
            let asking = scope.spawn(|| {
                let answer = asker.ask(connection, &path);
                answered.get_or_init(Instant::now);
                answer
            });
            match (moment, tracee) {
                (Moment::After { calls: most, instructions }, Some(tracee)) => {
                    // The host may have something left to do, or answers nothing.
                    let is_over = || answered.get().is_some_and(|at: &Instant| at.elapsed() > AFTERWARDS);
                    let mut stops = true;
                    while stops && calls < most {
                        stops = tracee.advance(Advance::SystemCall, is_over);
                        calls += u64::from(stops);
                    }
                    for _ in 0..instructions {
                        stops = stops && tracee.advance(Advance::Instruction, is_over);
                    }
                    host.kill_traced(tracee);
                }
                _ => {
                    thread::sleep(Duration::from_micros(random.below(3000)));
                    host.kill();
                }
            }
            asking.join().expect("it does not panic")
        });
        (answer, calls)
    }

    /// Kills the host, and checks that nobody else notices more than that nobody joins.
    fn round(&mut self, question: Question, moment: Moment) -> u64 {
        let what = format!("{question:?}, {moment:?}");
        let (answer, calls) = self.kill(question, moment);
        until("the connection is lost", || !self.connection.is_connected());
        if let Some(mut late) = answer.publisher {
            // It was opened, so all have joined it.
            assert_eq!(late.subscriber_count(), 2, "{what}");
            self.publish_late(&mut late);
        }
        let published = self.published.load(Ordering::Relaxed);
        until("messages go on without a host", || {
            self.witness.talk.say("count");
            self.witness.talk.hear().parse::<u64>().expect("a number") > published
        });
        self.start_host();
        until("the connection is made again", || self.connection.is_connected());
        // A process that comes now finds everything.
        let third = connect(&self.folder.socket());
        let mut numbers = subscriber(third.broker(), "numbers");
        until("the publisher is offered", || {
            numbers.backlog();
            numbers.subscription().readers().count() == 1
        });
        let mut late = publisher(third.broker(), "late");
        until("subscribers of all processes have joined", || late.subscriber_count() == 2);
        self.publish_late(&mut late);
        assert!(numbers.blocking_recv_ref(deadline()).is_ok(), "{what}");
        drop((answer.connection, answer.subscriber, late, numbers, third));
        until(&format!("all who came have left, {what}"), || {
            let stats = self.connection.broker().topic("numbers").expect("it has a publisher");
            stats.publishers.len() == 1 && stats.publishers[0].subscribers.len() == 3
        });
        let (files, maps) = self.most;
        until(&format!("at most {files} descriptors and {maps} mappings are left, {what}"), || {
            assert_eq!(self.late.try_recv_ref().err(), Some(RecvError::Empty), "all was received");
            let left = resources();
            left.0 <= files && left.1 <= maps
        });
        calls
    }

    /// Publishes one message, which subscribers of two processes receive.
    fn publish_late(&mut self, late: &mut Publisher<Numbers>) {
        let number = self.next_late;
        self.next_late += 1;
        publish(late, number..number + 1);
        receive(&mut self.late, number..number + 1);
        self.witness.talk.say(&number.to_string());
        self.witness.talk.expect("received");
    }

    /// Plays all rounds. Returns how many messages were published, and how many were lost by one that may.
    fn run(test: &'static str, rounds: impl FnOnce(&mut Self)) -> (u64, u64) {
        let folder = Folder::new();
        let mut host = Other::start(test, "host", &folder.socket());
        host.talk.expect("serving");
        let connection = connect(&folder.socket());
        let late = subscriber(connection.broker(), "late");
        let silent = publisher(connection.broker(), "late");
        let mut witness = Other::start(test, "witness", &folder.socket());
        witness.talk.expect("ready");
        let here = subscriber(connection.broker(), "numbers");
        let numbers = publisher(connection.broker(), "numbers");
        assert_eq!(numbers.subscriber_count(), 3);
        let (stops, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let publishing = thread::spawn({
            let (stops, published) = (Arc::clone(&stops), Arc::clone(&published));
            move || publish_until(numbers, here, (&stops, &published))
        });
        let (host, random, next_late) = (Some(host), Random(std::process::id().into()), 0);
        let published_here = Arc::clone(&published);
        let mut stage = Self {
            test,
            folder,
            host,
            connection,
            witness,
            late,
            _silent: silent,
            next_late,
            published: published_here,
            random,
            most: resources(),
        };
        rounds(&mut stage);
        stops.store(true, Ordering::Relaxed);
        let published = publishing.join().expect("no panic");
        stage.witness.talk.say("end");
        let said = stage.witness.talk.hear();
        let counts: Vec<u64> = said.split(' ').map(|count| count.parse().expect("a number")).collect();
        assert_eq!(counts[..2], [published, 0], "received and lost by one that loses nothing");
        assert_eq!(counts[2] + counts[3], published, "received and lost by one that may");
        stage.witness.end();
        let mut host = stage.host.take().expect("one serves");
        host.talk.say("end");
        host.end();
        assert_eq!(stage.folder.entries(), 0, "nothing is left in the file system");
        (published, counts[3])
    }
}

/// Plays the part of this process. In the stage, calls `rounds`, and reports the result.
fn play(test: &'static str, how: &str, rounds: impl FnOnce(&mut Stage)) {
    match This::get() {
        None => {
            let folder = Folder::new();
            let mut stage = Other::start(test, "stage", &folder.socket());
            println!("{}", stage.talk.hear());
            stage.end();
        }
        Some(this) if this.role == "host" => be_host(this),
        Some(this) if this.role == "witness" => be_witness(this),
        Some(mut this) => {
            let (published, lost) = Stage::run(test, rounds);
            this.talk.say(&format!("kills: host every {how} {} {published} {lost}", kills()));
        }
    }
}

#[test]
fn hosts_are_killed_at_random_times() {
    const NAME: &str = "host_kills::hosts_are_killed_at_random_times";
    play(NAME, "timed", |stage| {
        for kill in 0..kills() {
            stage.round(Question::ALL[kill as usize % Question::ALL.len()], Moment::Random);
        }
    });
}

/// Returns why nothing can be single-stepped here, if that is so.
fn obstacle(test: &str) -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some(
            "a single-stepped thread may never finish an atomic operation on this processor".to_owned(),
        );
    }
    let folder = Folder::new();
    let mut host = Other::start(test, "host", &folder.socket());
    host.talk.expect("serving");
    match Tracee::seize(host.thread("blockcast-host")) {
        Ok(tracee) => host.kill_traced(tracee),
        Err(error) => return Some(format!("ptrace is not permitted: {error}")),
    }
    None
}

#[test]
fn hosts_are_killed_after_any_instruction() {
    const NAME: &str = "host_kills::hosts_are_killed_after_any_instruction";
    if This::get().is_none()
        && let Some(obstacle) = obstacle(NAME)
    {
        writeln!(std::io::stderr(), "{NAME}: skipped: {obstacle}").expect("standard error is open");
        return;
    }
    play(NAME, "stepped", |stage| {
        // The system calls of each question, as far as they are known.
        let mut known = [0; Question::ALL.len()];
        for kill in 0..kills() {
            let index = kill as usize % known.len();
            let calls = if known[index] == 0 { u64::MAX } else { stage.random.below(known[index] + 1) };
            let instructions = if calls == u64::MAX { 0 } else { 1 + stage.random.below(MOST) };
            let seen = stage.round(Question::ALL[index], Moment::After { calls, instructions });
            known[index] = known[index].max(seen);
        }
    });
}

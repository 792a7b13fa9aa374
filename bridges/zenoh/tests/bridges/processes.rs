//! Brokers in two processes, which are stopped, killed and started again.

use std::slice::from_ref;

use blockcast_publisher::Publisher;

use crate::support::{
    Counting, Folder, Numbers, Other, Side, This, all, patient, port, publish, publisher, session,
    subscriber, test_name, until,
};

/// Publishes the numbers that the other process names, one order after another: `FIRST END`, `wait`, or
/// `end`.
fn publish_on_demand(this: &mut This) {
    let listening = session(from_ref(&this.place), &[]);
    let side = Side::new(&listening, all(), patient().back_pressure(true));
    let mut numbers: Option<Publisher<Numbers>> = Some(publisher(&side.broker, "numbers"));
    this.talk.say("ready");
    loop {
        let order = this.talk.hear();
        match order.as_str() {
            "port" => {
                this.talk.say(&port(&listening).to_string());
                continue;
            }
            "wait" => side.sends(1),
            "end" => drop(numbers.take()),
            "exit" => return,
            range => {
                let (first, end) = range.split_once(' ').expect("two numbers");
                let range = first.parse().expect("a number")..end.parse().expect("a number");
                publish(numbers.as_mut().expect("before the end"), range);
            }
        }
        this.talk.say("done");
    }
}

fn order(other: &mut Other, order: &str) {
    other.talk.say(order);
    assert_eq!(other.talk.hear(), "done");
}

/// A publisher in another process, and a subscriber here.
struct Pair {
    other: Other,
    side: Side,
    counting: Counting,
}

impl Pair {
    fn new(test: &str, place: &str) -> Self {
        let mut other = Other::start(test, "publisher", place);
        assert_eq!(other.talk.hear(), "ready");
        let mut place = place.to_owned();
        if let Some(address) = place.strip_suffix(":0") {
            other.talk.say("port");
            place = format!("{address}:{}", other.talk.hear());
        }
        let side = Side::new(&session(&[], &[place]), all(), patient());
        let counting = Counting::new(subscriber(&side.broker, "numbers"));
        order(&mut other, "wait");
        Self { other, side, counting }
    }

    /// Receives until it knows what became of all numbers before this one.
    #[track_caller]
    fn reach(&mut self, end: u64) {
        while self.counting.next.is_none_or(|next| next < end) {
            assert!(self.counting.step(), "the publisher has not ended");
        }
        assert_eq!(self.counting.next, Some(end));
    }
}

#[test]
fn messages_pass_between_two_processes_over_loopback() {
    const NAME: &str = "messages_pass_between_two_processes_over_loopback";
    if let Some(mut this) = This::get() {
        return publish_on_demand(&mut this);
    }
    let mut pair = Pair::new(test_name!(NAME), "tcp/127.0.0.1:0");
    order(&mut pair.other, "0 5000");
    pair.reach(5000);
    order(&mut pair.other, "end");
    while pair.counting.step() {}
    assert_eq!(pair.counting.next, Some(5000));
    pair.other.talk.say("exit");
    pair.other.end();
}

/// The publisher's process is stopped for longer than zenoh keeps a silent link.
#[test]
fn traffic_resumes_after_the_publishing_process_was_stopped() {
    const NAME: &str = "traffic_resumes_after_the_publishing_process_was_stopped";
    if let Some(mut this) = This::get() {
        return publish_on_demand(&mut this);
    }
    let folder = Folder::new();
    let mut pair = Pair::new(test_name!(NAME), &folder.endpoint("one"));
    order(&mut pair.other, "0 100");
    pair.reach(100);
    pair.other.stop();
    until("zenoh has given up the link", || pair.side.bridge.stats().peers == 0);
    pair.other.go_on();
    until("the link is back", || pair.side.bridge.stats().peers == 1);
    order(&mut pair.other, "wait");
    order(&mut pair.other, "100 200");
    order(&mut pair.other, "end");
    while pair.counting.step() {}
    assert_eq!(pair.counting.next, Some(200));
    pair.other.talk.say("exit");
    pair.other.end();
}

/// The subscriber's process is stopped while much more is published than the link holds. The publisher goes
/// on.
#[test]
fn traffic_resumes_after_the_subscribing_process_was_stopped() {
    const NAME: &str = "traffic_resumes_after_the_subscribing_process_was_stopped";
    const MANY: u64 = 100_000;
    if let Some(mut this) = This::get() {
        let side = Side::new(&session(&[], from_ref(&this.place)), all(), patient());
        let mut counting = Counting::new(subscriber(&side.broker, "numbers"));
        this.talk.say("ready");
        assert!(counting.step(), "the first message");
        this.talk.say("received");
        while counting.next.is_some_and(|next| next <= MANY) {
            assert!(counting.step(), "the publisher has not ended");
        }
        this.talk.say("resumed");
        while counting.step() {}
        let total = counting.received + counting.lost;
        return this.talk.say(&format!("{} {total}", counting.next.expect("a message")));
    }
    let folder = Folder::new();
    let place = folder.endpoint("one");
    let side = Side::new(&session(from_ref(&place), &[]), all(), patient());
    let mut numbers = publisher(&side.broker, "numbers");
    let mut other = Other::start(test_name!(NAME), "subscriber", &place);
    assert_eq!(other.talk.hear(), "ready");
    side.sends(1);
    publish(&mut numbers, 0..1);
    assert_eq!(other.talk.hear(), "received");
    other.stop();
    publish(&mut numbers, 1..MANY);
    other.go_on();
    // Zenoh may give up the link before it resumes.
    let end = publish_until(&mut numbers, MANY, || assert_eq!(other.talk.hear(), "resumed"));
    drop(numbers);
    assert_eq!(other.talk.hear(), format!("{end} {end}"));
    other.end();
}

/// Publishes numbers from the first one on until `done` returns. Returns the number that would come next.
pub fn publish_until(numbers: &mut Publisher<Numbers>, first: u64, done: impl FnOnce() + Send) -> u64 {
    std::thread::scope(|scope| {
        let done = scope.spawn(done);
        let mut next = first;
        while !done.is_finished() {
            publish(numbers, next..next + 1);
            next += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        done.join().expect("it is done");
        next
    })
}

#[test]
fn a_killed_publisher_ends_elsewhere_and_another_one_takes_over() {
    const NAME: &str = "a_killed_publisher_ends_elsewhere_and_another_one_takes_over";
    if let Some(mut this) = This::get() {
        return publish_on_demand(&mut this);
    }
    let folder = Folder::new();
    let place = folder.endpoint("one");
    // Otherwise a burst may be too much for either side.
    let options = patient().linger(std::time::Duration::from_millis(100)).back_pressure(true);
    let mut other = Other::start(test_name!(NAME), "publisher", &place);
    assert_eq!(other.talk.hear(), "ready");
    let side = Side::new(&session(&[], from_ref(&place)), all(), options);
    let mut first = Counting::new(subscriber(&side.broker, "numbers"));
    order(&mut other, "wait");
    order(&mut other, "0 100");
    while first.next != Some(100) {
        assert!(first.step());
    }
    other.kill();
    // Killed processes leave their sockets.
    let _ = std::fs::remove_file(place.split_once('/').expect("a path follows").1);
    assert!(!first.step(), "the end");
    let mut other = Other::start(test_name!(NAME), "publisher", &place);
    assert_eq!(other.talk.hear(), "ready");
    let mut second = Counting::new(subscriber(&side.broker, "numbers"));
    order(&mut other, "wait");
    order(&mut other, "0 100");
    while second.next != Some(100) {
        assert!(second.step());
    }
    assert_eq!(second.lost, 0);
    other.talk.say("exit");
    other.end();
}

#[test]
fn a_killed_subscriber_holds_nobody_up_and_another_one_takes_over() {
    const NAME: &str = "a_killed_subscriber_holds_nobody_up_and_another_one_takes_over";
    if let Some(mut this) = This::get() {
        let side = Side::new(&session(&[], from_ref(&this.place)), all(), patient());
        let mut counting = Counting::new(subscriber(&side.broker, "numbers"));
        while counting.received < 100 {
            assert!(counting.step(), "the publisher has not ended");
        }
        this.talk.say("received");
        while counting.step() {}
        return;
    }
    let folder = Folder::new();
    let place = folder.endpoint("one");
    let side = Side::new(&session(from_ref(&place), &[]), all(), patient());
    let mut numbers = publisher(&side.broker, "numbers");
    let mut next = 0;
    for _ in 0..3 {
        let mut other = Other::start(test_name!(NAME), "subscriber", &place);
        next = publish_until(&mut numbers, next, || assert_eq!(other.talk.hear(), "received"));
        other.kill();
        publish(&mut numbers, next..next + 1000);
        next += 1000;
        until("the link is gone", || side.bridge.stats().peers == 0);
    }
}

//! Publishers of components that are restarted.

use super::*;

const TOPIC: &str = "numbers";

impl Host {
    /// Admits a process that runs a component which is restarted.
    fn admit_run(&mut self, component: u64) -> PeerId {
        let run = newcomer("run", Some(Grants::all()), Trust::Checked);
        self.registry.admit(Newcomer { component: Some(ComponentNumber(component)), ..run }).0
    }

    fn end_restarts(&mut self, component: u64) -> Vec<Outgoing<File>> {
        self.registry.expect_no_restarts(ComponentNumber(component));
        self.registry.take_outgoing()
    }

    fn subscribe(&mut self, from: PeerId) -> Vec<Outgoing<File>> {
        self.send(from, subscribe(TOPIC, "numbers"), &[]).expect("a correct request")
    }
}

fn expect(subscriber: PeerId, is_expected: bool) -> Outgoing<File> {
    to(subscriber, Notice::Expect { topic: TOPIC.to_owned(), is_expected })
}

/// What is said about restarts.
fn expectations(notices: Vec<Outgoing<File>>) -> Vec<Outgoing<File>> {
    notices.into_iter().filter(|outgoing| matches!(outgoing.notice, Notice::Expect { .. })).collect()
}

#[test]
fn subscribers_expect_a_component_from_its_first_publisher_until_it_has_ended_for_good() {
    let mut host = Host::new(&ServeOptions::new());
    let [early, late] = ["early", "late"].map(|label| host.admit(label, Some(Grants::all())));
    let first = host.admit_run(7);
    assert_eq!(expectations(host.subscribe(early)), []);
    // They know before they can join the publisher, and so before it can end.
    let opened = host.open(first, 1, TOPIC);
    assert_eq!(opened[0], expect(early, true));
    assert!(matches!(opened[1].notice, Notice::Channel { .. }) && opened.len() == 2, "{opened:?}");
    assert_eq!(expectations(host.open(first, 2, TOPIC)), [], "they know already");
    host.registry.disconnected(first);
    assert_eq!(expectations(host.registry.take_outgoing()), []);
    assert_eq!(host.subscribe(late)[0], expect(late, true), "although no publisher is there");
    let second = host.admit_run(7);
    assert_eq!(expectations(host.open(second, 1, TOPIC)), []);
    host.registry.disconnected(second);
    host.registry.take_outgoing();
    assert_eq!(host.end_restarts(7), [expect(early, false), expect(late, false)]);
    assert_eq!(host.end_restarts(7), []);
    assert!(host.registry.restarts.is_empty());
}

#[test]
fn a_topic_is_expected_while_one_of_several_components_may_come_back() {
    let mut host = Host::new(&ServeOptions::new());
    let subscriber = host.admit("subscriber", Some(Grants::all()));
    host.subscribe(subscriber);
    let (one, other) = (host.admit_run(1), host.admit_run(2));
    assert_eq!(expectations(host.open(one, 1, TOPIC)), [expect(subscriber, true)]);
    assert_eq!(expectations(host.open(other, 1, TOPIC)), []);
    assert_eq!(host.end_restarts(1), []);
    assert_eq!(host.end_restarts(2), [expect(subscriber, false)]);
    // Others are never expected.
    let plain = host.admit("plain", Some(Grants::all()));
    assert_eq!(expectations(host.open(plain, 1, TOPIC)), []);
}

#[test]
fn a_process_that_subscribes_again_learns_again_what_to_expect() {
    let mut host = Host::new(&ServeOptions::new());
    let subscriber = host.admit("subscriber", Some(Grants::all()));
    let run = host.admit_run(1);
    host.open(run, 1, TOPIC);
    let unsubscribe = || Request::Unsubscribe { topic: TOPIC.to_owned() };
    for _ in 0..2 {
        assert_eq!(expectations(host.subscribe(subscriber)), [expect(subscriber, true)]);
        let left = host.send(subscriber, unsubscribe(), &[]).expect("a correct request");
        assert_eq!(expectations(left), [expect(subscriber, false)]);
    }
    host.registry.disconnected(run);
    assert_eq!(host.end_restarts(1), []);
    assert_eq!(expectations(host.subscribe(subscriber)), []);
}

#[test]
fn a_component_that_publishes_on_any_number_of_topics_is_remembered_for_those_that_exist() {
    let mut host = Host::new(&ServeOptions::new());
    let run = host.admit_run(1);
    for number in 0..100 {
        host.open(run, number, &format!("topic {number}"));
        host.send(run, Request::ClosePublisher { channel: ChannelNumber(number) }, &[]).expect("it is open");
    }
    assert_eq!(host.registry.restarts[&Supervisor::Host(ComponentNumber(1))].len(), 1);
    let refused = host.send(run, open(1, "unsealed", "numbers"), &["control", "arena"]);
    assert!(refused.is_ok() && !host.registry.is_expected("unsealed", PeerId(u64::MAX)));
}

#[test]
fn a_process_that_restarts_components_itself_is_expected_until_it_says_otherwise_or_leaves() {
    let mut host = Host::new(&ServeOptions::new());
    let [one, other, subscriber] =
        ["one", "other", "subscriber"].map(|label| host.admit(label, Some(Grants::all())));
    let say = |host: &mut Host, from, is_expected| {
        let request = Request::Expect { topic: TOPIC.to_owned(), is_expected };
        host.send(from, request, &[]).expect("a correct request")
    };
    assert_eq!(say(&mut host, one, true), [], "nobody subscribes");
    assert_eq!(expectations(host.subscribe(subscriber)), [expect(subscriber, true)]);
    assert_eq!(expectations(host.subscribe(one)), [], "it knows its own components");
    assert_eq!(say(&mut host, other, true), [expect(one, true)]);
    assert_eq!(say(&mut host, one, true), []);
    assert_eq!(say(&mut host, one, false), []);
    assert_eq!(say(&mut host, one, true), []);
    host.registry.disconnected(other);
    assert_eq!(expectations(host.registry.take_outgoing()), [expect(one, false)]);
    host.registry.disconnected(one);
    assert_eq!(expectations(host.registry.take_outgoing()), [expect(subscriber, false)]);
    assert!(host.registry.restarts.is_empty());
    // One that was not expected.
    let plain = host.admit("plain", Some(Grants::all()));
    assert_eq!(say(&mut host, plain, false), []);
    assert!(host.registry.restarts.is_empty());
}

#[test]
fn a_process_is_expected_only_on_topics_to_which_it_may_publish_and_on_few() {
    let mut host = Host::new(&ServeOptions::new());
    host.limits.publishers = 4;
    let process = host.admit("process", Some(Grants::new().publish("topic *")));
    let say = |host: &mut Host, topic: &str| {
        let request = Request::Expect { topic: topic.to_owned(), is_expected: true };
        assert_eq!(host.send(process, request, &[]), Ok(vec![]));
        host.registry.is_expected(topic, PeerId(u64::MAX))
    };
    assert!(!say(&mut host, TOPIC));
    // Topics that nobody takes part in are forgotten for others.
    assert!((0..100).all(|number| say(&mut host, &format!("topic {number}"))));
    assert!(host.registry.restarts[&Supervisor::Process(process)].len() <= 4);
    let subscriber = host.admit("subscriber", Some(Grants::all()));
    for number in 200..204 {
        let subscribe = subscribe(&format!("topic {number}"), "numbers");
        host.send(subscriber, subscribe, &[]).expect("a correct request");
        let request = Request::Expect { topic: format!("topic {number}"), is_expected: true };
        host.send(process, request, &[]).expect("a correct request");
    }
    assert!(!say(&mut host, "topic 300"), "four topics exist");
}

//! What processes ask about topics.

use super::*;

/// The topics of an answer, and whether it is the last.
fn answered(notice: Notice) -> (Vec<HostTopic>, bool) {
    match notice {
        Notice::Topics { topics, is_last, .. } => (topics, is_last),
        other => panic!("{other:?}"),
    }
}

fn names(topics: &[HostTopic]) -> Vec<&str> {
    topics.iter().map(|topic| topic.name.as_str()).collect()
}

#[test]
fn a_process_learns_only_of_the_topics_that_it_is_granted() {
    let (mut host, [_, camera, robot]) = three();
    host.open(camera, 1, "images");
    host.open(camera, 2, "secrets");
    let guest = host.admit("guest", Some(Grants::new().subscribe("im*").publish("own")));
    let asked = host.send(guest, ask_all(1, ""), &[]).expect("a correct request");
    assert_eq!(asked, [to(camera, Notice::Report { query: 0, channels: vec![ChannelNumber(1)] })]);
    // Nobody answers for another process.
    assert_eq!(host.send(robot, report(0, 1), &[]), Ok(vec![]));
    let (topics, is_last) = answered(host.send(camera, report(0, 1), &[]).unwrap().remove(0).notice);
    assert_eq!((names(&topics), is_last), (vec!["images", "own"], true));
    assert_eq!((topics[0].published(), topics[0].publishers[0].process.as_str()), (5, "a"));
    let named = |name: &str| Request::Topics { request: 2, selection: Selection::Named(name.to_owned()) };
    assert_eq!(answered(host.ask(guest, named("secrets"), &[])), (vec![], true));
    assert_eq!(names(&answered(host.ask(guest, named("own"), &[])).0), ["own"]);
    // A late or invented report is ignored.
    assert_eq!(host.send(camera, report(0, 1), &[]), Ok(vec![]));
    assert_eq!(host.send(camera, report(77, 1), &[]), Ok(vec![]));
}

#[test]
fn a_process_that_does_not_report_is_waited_for_once_and_not_for_ever() {
    let (mut host, [_, camera, robot]) = three();
    host.open(camera, 1, "images");
    assert_eq!(host.send(robot, ask_all(1, ""), &[]).unwrap().len(), 1);
    let deadline = host.registry.next_deadline().expect("a report is awaited");
    host.registry.tick(deadline - Duration::from_nanos(1));
    assert_eq!(host.registry.take_outgoing(), []);
    // Who asks again before the answer is not a correct process.
    assert!(host.send(robot, ask_all(2, ""), &[]).is_err());
    host.registry.tick(deadline);
    let (topics, _) = answered(host.registry.take_outgoing().remove(0).notice);
    assert_eq!(topics.iter().find(|topic| topic.name == "images").unwrap().publishers[0].counters, None);
    assert_eq!(host.registry.next_deadline(), None);
    // Its end answers, too.
    assert_eq!(host.send(robot, ask_all(3, ""), &[]).unwrap().len(), 1);
    host.registry.disconnected(camera);
    assert_eq!(host.registry.take_outgoing().iter().filter(|outgoing| outgoing.to == robot).count(), 1);
    // Nobody is answered who has left.
    host.open(robot, 1, "images");
    let asked = host.admit("asks", Some(Grants::all()));
    assert_eq!(host.send(asked, ask_all(1, ""), &[]).unwrap().len(), 1);
    host.registry.disconnected(asked);
    assert_eq!(host.registry.next_deadline(), None);
}

#[test]
fn a_process_that_never_reports_is_not_asked_any_number_of_times() {
    let (mut host, [_, camera, robot]) = three();
    host.open(camera, 1, "images");
    let mut asked = 0;
    for request in 0..100 {
        let sent = host.send(robot, ask_all(request, ""), &[]).expect("it has the last answer");
        asked += sent.iter().filter(|outgoing| outgoing.to == camera).count();
        host.now += Duration::from_secs(10);
        host.registry.tick(host.now);
        let late = host.registry.take_outgoing();
        assert_eq!(sent.iter().chain(&late).filter(|outgoing| outgoing.to == robot).count(), 1);
    }
    assert_eq!(asked, 8);
    // Once it answers, it is asked again.
    assert_eq!(host.send(camera, report(0, 1), &[]), Ok(vec![]));
    let sent = host.send(robot, ask_all(100, ""), &[]).expect("it has the last answer");
    assert_eq!(sent.iter().map(|outgoing| outgoing.to).collect::<Vec<_>>(), [camera]);
}

#[test]
fn any_number_of_topics_comes_in_packets_that_are_not_too_long() {
    let (mut host, [_, camera, robot]) = three();
    for number in 0..700 {
        host.open(camera, number, &format!("topic/{number:03}/{}", "x".repeat(200)));
    }
    let long = "y".repeat(60_000);
    let publisher = PublisherRecord { number: 700, name: String::new(), history: 0, relay: false };
    let schema = SchemaRecord::from(&Schema::named(long));
    let topic = format!("z{}", "z".repeat(254));
    let open = Request::OpenPublisher { channel: ChannelNumber(700), topic, schema, publisher };
    host.send(camera, open, &["control", "arena"]).expect("a correct request");
    let (mut after, mut all, mut pages) = (String::new(), 0, 0);
    loop {
        let asked = host.send(robot, ask_all(pages, &after), &[]).expect("a correct request");
        let Notice::Report { query, channels } = asked[0].notice.clone() else { panic!("{asked:?}") };
        let reader = SubscriberCounters { name: "s".repeat(500), received: 1, lost: 1, behind: 1 };
        let readers = vec![reader; 8];
        let counters = PublisherCounters { subscribers: readers, ..PublisherCounters::default() };
        let counters = channels.into_iter().map(|channel| (channel, counters.clone())).collect();
        let answer = host.send(camera, Request::Report { query, counters }, &[]).unwrap().remove(0).notice;
        assert!(answer.encode().is_ok());
        let (topics, is_last) = answered(answer);
        // The host's own topic has no participants.
        for topic in topics.iter().filter(|topic| topic.name != "own") {
            let publisher = &topic.publishers[0];
            let counters = publisher.counters.as_ref().expect("it has reported");
            assert_eq!(counters.subscribers.len() + counters.omitted as usize, 8);
            assert!(counters.subscribers.iter().all(|reader| reader.name.len() <= 128));
        }
        all += topics.len();
        pages += 1;
        if is_last {
            break;
        }
        after = topics.last().expect("a page has a topic").name.clone();
    }
    assert_eq!(all, 702, "in {pages} packets");
}

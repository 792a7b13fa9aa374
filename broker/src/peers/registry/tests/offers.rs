//! The channels that processes are offered, by the wall too, and processes that do not answer.

use super::*;

/// The publisher's process is stopped: it neither attaches an annex nor says anything.
#[test]
fn a_publisher_that_does_not_attach_subscribers_delays_them_once() {
    let (mut host, [own, a, b]) = three();
    host.open(a, 1, "topic");
    host.open(own, 2, "topic");
    let mut answers = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    let seats = vec![SeatId(0), SeatId(1)];
    assert_eq!(answers.pop(), Some(to(b, Notice::Subscribed { request: 1, seats: seats.clone() })));
    assert_eq!(host.take_seat(b, own, seats[0]), []);
    host.send(b, Request::Annex { seat: seats[1] }, &["annex"]).unwrap();
    let deadline = host.registry.next_deadline().expect("the publisher has to answer");
    host.registry.tick(deadline - Duration::from_nanos(1));
    assert_eq!(host.registry.take_outgoing(), []);
    host.registry.tick(deadline);
    assert_eq!(host.registry.take_outgoing(), [to(b, Notice::Late { seat: seats[1] })]);
    assert_eq!(host.registry.next_deadline(), None);
    // The next subscriber does not wait for it, and is offered the publisher later.
    let c = host.admit("c", Some(Grants::all()));
    let mut answers = host.send(c, subscribe("topic", "numbers"), &[]).unwrap();
    let awaited = vec![SeatId(2)];
    assert_eq!(answers.pop(), Some(to(c, Notice::Subscribed { request: 1, seats: awaited })));
    assert_eq!(offered(&answers), [(c, SeatId(2))]);
    // When the process goes on, both join it, and it is waited for again.
    let mut attached = host.send(a, Request::Attached { seat: seats[1] }, &[]).unwrap();
    assert_eq!(attached.pop(), Some(to(b, Notice::Attached { seat: seats[1] })));
    assert_eq!(offered(&attached), [(c, SeatId(3))]);
    assert_eq!(host.send(b, Request::Joined { seat: seats[1] }, &[]), Ok(vec![]));
    assert_eq!(host.take_seat(c, a, SeatId(3)), []);
    let d = host.admit("d", Some(Grants::all()));
    let mut answers = host.send(d, subscribe("topic", "numbers"), &[]).unwrap();
    let awaited = vec![SeatId(4), SeatId(5)];
    assert_eq!(answers.pop(), Some(to(d, Notice::Subscribed { request: 1, seats: awaited })));
}

#[test]
fn a_subscribing_process_that_does_not_answer_delays_publishers_once() {
    let (mut host, [_, a, b]) = three();
    host.ask(b, subscribe("topic", "numbers"), &[]);
    let opened = |number| to(a, Notice::Opened { channel: ChannelNumber(number) });
    let first = offered(&host.open(a, 1, "topic"));
    host.now = host.registry.next_deadline().expect("it waits");
    host.registry.tick(host.now);
    assert_eq!(host.registry.take_outgoing(), [opened(1)]);
    let second = host.open(a, 2, "topic");
    assert!(second.contains(&opened(2)), "{second:?}");
    // It goes on, and joins both.
    host.take_seat(b, a, first[0].1);
    host.take_seat(b, a, offered(&second)[0].1);
    let third = host.open(a, 3, "topic");
    assert!(!third.contains(&opened(3)), "{third:?}");
    assert_eq!(host.take_seat(b, a, offered(&third)[0].1), [opened(3)]);
}

/// A stopped publisher's process takes no part of what others may have on their way.
#[test]
fn a_subscriber_joins_others_while_many_publishers_of_a_process_do_not_answer() {
    let (mut host, [own, a, b]) = three();
    for number in 0..20 {
        host.open(a, number, "topic");
    }
    host.open(own, 1, "other");
    let first = offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap());
    for (_, seat) in &first {
        host.send(b, Request::Annex { seat: *seat }, &["annex"]).unwrap();
    }
    let sent = host.send(b, subscribe("other", "numbers"), &[]).unwrap();
    assert_eq!((first.len(), sent), (8, vec![]), "they wait");
    host.registry.tick(host.registry.next_deadline().expect("the process has to answer"));
    let sent = host.registry.take_outgoing();
    let seat = offered(&sent)[0].1;
    assert_eq!((offered(&sent).len(), host.registry.seats[&seat].channel.0), (1, own));
    assert_eq!(sent.iter().filter(|out| matches!(out.notice, Notice::Subscribed { .. })).count(), 2);
    assert_eq!(host.take_seat(b, own, seat), []);
    // All of the others come once it answers.
    let mut sent = host.send(a, Request::Announced, &[]).unwrap();
    let mut joined = 0;
    while let Some((_, seat)) = offered(&sent).first().copied() {
        sent.remove(0);
        host.send(b, Request::Annex { seat }, &["annex"]).unwrap();
        sent.extend(host.send(a, Request::Attached { seat }, &[]).unwrap());
        sent.retain(|out| matches!(out.notice, Notice::Channel { .. }));
        joined += 1;
    }
    assert_eq!(joined, 12);
}

/// However many publishers a topic has: few packets are on their way at a time.
#[test]
fn a_process_is_offered_few_channels_at_a_time_and_in_the_end_all() {
    let (mut host, [_, a, b]) = three();
    for number in 0..100 {
        host.open(a, number, "topic");
    }
    let mut sent = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    let (mut open, mut joined) = (VecDeque::new(), BTreeSet::new());
    let subscribed = loop {
        open.extend(offered(&sent));
        assert!(open.len() <= 8, "{} at a time", open.len());
        if let Some(Outgoing { notice: Notice::Subscribed { seats, .. }, .. }) = sent.last() {
            break seats.clone();
        }
        let (_, seat) = open.pop_front().expect("some are always on their way");
        let attach = host.send(b, Request::Annex { seat }, &["annex"]).unwrap();
        assert_eq!(attach.len(), 1, "{attach:?}");
        sent = host.send(a, Request::Attached { seat }, &[]).unwrap();
        host.send(b, Request::Joined { seat }, &[]).unwrap();
        joined.insert(seat);
    };
    for (_, seat) in open {
        host.take_seat(b, a, seat);
        joined.insert(seat);
    }
    assert_eq!((joined.len(), joined), (100, subscribed.into_iter().collect()));
}

/// Otherwise it could take the seats of both subscriptions, and receive every message twice.
#[test]
fn offers_that_are_not_answered_end_with_their_subscription() {
    let (mut host, [_, a, b]) = three();
    for number in 0..40 {
        host.open(a, number, "topic");
    }
    let first = offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap());
    host.send(b, Request::Annex { seat: first[0].1 }, &["annex"]).unwrap();
    let next = host.send(a, Request::Attached { seat: first[0].1 }, &[]).unwrap();
    assert_eq!(offered(&next).len(), 1, "one more is offered");
    let withdrawn = host.send(b, Request::Unsubscribe { topic: "topic".to_owned() }, &[]).unwrap();
    let failed = |outgoing: &Outgoing<File>| matches!(outgoing.notice, Notice::Failed { .. });
    assert!(withdrawn.len() == 8 && withdrawn.iter().all(failed), "{withdrawn:?}");
    assert_eq!(host.registry.seats.len(), 1, "the one that was taken");
    // The answer to an offer crosses with its withdrawal.
    assert_eq!(host.send(b, Request::Annex { seat: first[1].1 }, &["annex"]), Ok(vec![]));
    // Nobody knows whether it has received the others.
    assert_eq!(offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap()).len(), 1);
    for (_, seat) in &first[2..] {
        let next = host.send(b, Request::Declined { seat: *seat, why: String::new() }, &[]).unwrap();
        assert_eq!(offered(&next).len(), 1);
        assert_eq!(host.send(b, Request::Annex { seat: *seat }, &["annex"]), Ok(vec![]), "it has answered");
    }
}

/// The host has descriptors of each offer until it is received. Otherwise a process that is stopped would use
/// them up, or one that subscribes again and again.
#[test]
fn a_process_that_does_not_receive_is_offered_few_channels_whatever_happens_to_them() {
    let (mut host, [_, a, b]) = three();
    host.ask(b, subscribe("topic", "numbers"), &[]);
    let mut offers = Vec::new();
    for number in 0..20 {
        offers.extend(offered(&host.open(a, number, "topic")));
        host.send(a, Request::ClosePublisher { channel: ChannelNumber(number) }, &[]).unwrap();
    }
    assert_eq!(offers.len(), 8);
    host.open(a, 20, "topic");
    for _ in 0..20 {
        host.send(b, Request::Unsubscribe { topic: "topic".to_owned() }, &[]).unwrap();
        offers.extend(offered(&host.send(b, subscribe("topic", "numbers"), &[]).unwrap()));
    }
    assert_eq!(offers.len(), 8);
    // It goes on, and joins the publisher that is left.
    let seat = offers[7].1;
    let next = host.send(b, Request::Declined { seat, why: String::new() }, &[]).unwrap();
    let [(to, seat)] = offered(&next)[..] else { panic!("{next:?}") };
    assert_eq!(to, b);
    host.take_seat(b, a, seat);
}

#[test]
fn only_the_wall_joins_a_walled_publisher_and_offers_its_copies_to_the_others() {
    let (mut host, [own, a, b]) = three();
    let wall = host.registry.admit_wall(newcomer("host (copies)", None, Trust::Checked));
    let walled = host.registry.admit(newcomer("walled", Some(Grants::all()), Trust::Walled)).0;
    for peer in [own, a, walled] {
        host.ask(peer, subscribe("topic", "numbers"), &[]);
    }
    let offers = host.open(walled, 7, "topic");
    let [(to_wall, seat)] = offered(&offers)[..] else { panic!("{offers:?}") };
    assert_eq!(to_wall, wall);
    let attach = host.send(wall, Request::Annex { seat }, &["annex"]).unwrap();
    assert_eq!(attach[0].to, walled);
    host.send(walled, Request::Attached { seat }, &[]).unwrap();
    // The original is open once the copies are.
    let offers = host.open(wall, copies_of(seat).0, "topic");
    let seats = offered(&offers);
    assert_eq!(seats.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [own, a], "not to its own process");
    let owner = offers.iter().find_map(|offer| match &offer.notice {
        Notice::Channel { owner, .. } => Some(owner.clone()),
        _ => None,
    });
    assert_eq!(owner, Some(PeerRecord { id: wall, label: "walled".to_owned() }));
    for (to, seat) in seats {
        host.take_seat(to, wall, seat);
    }
    let opened = to(walled, Notice::Opened { channel: ChannelNumber(7) });
    assert_eq!(host.send(wall, Request::Joined { seat }, &[]), Ok(vec![opened]));
    // One that comes later is offered the copies, and sees one publisher.
    let answers = host.send(b, subscribe("topic", "numbers"), &[]).unwrap();
    assert_eq!(offered(&answers).len(), 1);
    let select = Selection::Named("topic".to_owned());
    let asked = host.send(b, Request::Topics { request: 3, selection: select }, &[]).unwrap();
    let [Outgoing { to: reporter, notice: Notice::Report { query, channels }, .. }] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!((*reporter, &channels[..]), (wall, &[copies_of(seat)][..]));
    let answer = host.ask_for(b, wall, Request::Report { query: *query, counters: vec![] });
    let Notice::Topics { topics, .. } = answer else { panic!("{answer:?}") };
    let processes: Vec<_> = topics[0].publishers.iter().map(|publisher| &publisher.process[..]).collect();
    assert_eq!((processes, topics[0].omitted), (vec!["walled"], 0));
}

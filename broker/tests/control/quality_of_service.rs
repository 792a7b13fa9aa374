//! The options of publishers and subscribers, shown on a broker.

use std::time::{Duration, Instant};

use blockcast_blocks::{LoanError, Overflow, Pod, SizeClass, Timestamps};
use blockcast_broker::Broker;
use blockcast_publisher::{Publisher, PublisherOptions, SendError};
use blockcast_subscriber::{Latest, RecvError, Subscriber, SubscriberOptions, wait_any};

type Numbers = Pod<u32>;

fn send(publisher: &mut Publisher<Numbers>, number: u32) {
    publisher.try_loan().unwrap().send(&[number][..]).unwrap();
}

fn receive(subscriber: &mut Subscriber<Numbers>) -> Result<u32, RecvError> {
    Ok(subscriber.try_recv_ref()?.view()[0])
}

#[test]
fn a_pool_grows_to_its_limit_and_no_further() {
    let broker = Broker::new();
    let _slow = broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap();
    let options = PublisherOptions::new().block_size(64).blocks(2).max_blocks(5);
    let mut publisher = broker.publisher::<Numbers>("t", options).unwrap();
    (0..5).for_each(|number| send(&mut publisher, number));
    assert_eq!(publisher.try_loan().unwrap_err(), LoanError::Exhausted { blocks: 5 });
    let stats = &broker.topic("t").unwrap().publishers[0];
    assert_eq!((stats.blocks, stats.max_blocks, stats.free, stats.exhausted), (5, 5, 0, 1));
}

#[test]
fn a_subscriber_that_leaves_before_it_receives_stops_nobody() {
    let broker = Broker::new();
    let mut publisher =
        broker.publisher::<Numbers>("t", PublisherOptions::new().block_size(64).blocks(2)).unwrap();
    // In either order of joining, and without reading statistics in between.
    drop(broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap());
    (0..10).for_each(|number| send(&mut publisher, number));
    let early = broker.subscriber::<Numbers>("u", SubscriberOptions::new()).unwrap();
    let mut publisher =
        broker.publisher::<Numbers>("u", PublisherOptions::new().block_size(64).blocks(2)).unwrap();
    drop(early);
    (0..10).for_each(|number| send(&mut publisher, number));
    assert_eq!(publisher.subscriber_count(), 0);
}

#[test]
fn hostile_number_of_subscriptions_does_not_lock_out_publishers() {
    let broker = Broker::new();
    let mut many: Vec<_> =
        (0..200).map(|_| broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap()).collect();
    let options = PublisherOptions::new().block_size(64).max_subscribers(2);
    let mut publisher = broker.publisher::<Numbers>("t", options).expect("all of them are admitted");
    send(&mut publisher, 7);
    assert!(many.iter_mut().all(|subscriber| receive(subscriber) == Ok(7)));
    // From then on, the publisher's own limit applies.
    assert!(broker.subscriber::<Numbers>("t", SubscriberOptions::new()).is_err());
    many.truncate(1);
    assert!(broker.subscriber::<Numbers>("t", SubscriberOptions::new()).is_ok());
}

#[test]
fn a_message_goes_into_the_smallest_block_that_fits() {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap();
    let large = SizeClass { block_size: 4096, blocks: 2, max_blocks: 2 };
    let options = PublisherOptions::new().block_size(64).blocks(2).larger_blocks(large);
    let mut publisher = broker.publisher::<Numbers>("t", options).unwrap();
    assert_eq!(publisher.block_size(), 4096);
    let many: Vec<u32> = (0..1000).collect();
    assert_eq!(publisher.try_loan().unwrap().capacity(), 64);
    publisher.try_loan().unwrap().send(&many[..]).expect("it moves to a larger block");
    assert_eq!(subscriber.try_recv_ref().unwrap().view(), many);
    assert!(matches!(publisher.try_loan().unwrap().send(&[0; 1025][..]), Err(SendError::Build(_))));
    for round in 0..100 {
        publisher.try_loan_sized(4000).unwrap().send(&many[..]).unwrap();
        send(&mut publisher, round);
        assert_eq!(subscriber.try_recv_ref().unwrap().view(), many);
        assert_eq!(receive(&mut subscriber), Ok(round));
    }
    assert_eq!(
        publisher.try_loan_sized(5000).unwrap_err(),
        LoanError::TooLarge { needed: 5000, block_size: 4096 }
    );
}

#[test]
fn the_latest_value_is_available_at_once_and_follows_the_publisher() {
    let broker = Broker::new();
    let mut publisher = broker.publisher::<Numbers>("t", PublisherOptions::latest(64)).unwrap();
    let early = broker.subscriber::<Numbers>("t", SubscriberOptions::latest()).unwrap();
    let mut early = Latest::new(early);
    assert!(early.get().unwrap().is_none());
    (0..1000).for_each(|number| send(&mut publisher, number));
    let mut late = Latest::new(broker.subscriber::<Numbers>("t", SubscriberOptions::latest()).unwrap());
    for cell in [&mut early, &mut late] {
        assert_eq!(cell.get().unwrap().unwrap().view(), [999]);
        assert_eq!(cell.get().unwrap().unwrap().view(), [999], "it stays");
    }
    send(&mut publisher, 1000);
    assert_eq!(late.get().unwrap().unwrap().view(), [1000]);
    drop(publisher);
    assert_eq!(late.get().unwrap().unwrap().view(), [1000], "even after its publisher has left");
}

#[test]
fn a_late_subscriber_gets_the_history_it_asked_for() {
    let broker = Broker::new();
    let mut publisher = broker.publisher::<Numbers>("t", PublisherOptions::new().history(4)).unwrap();
    (0..10).for_each(|number| send(&mut publisher, number));
    let mut all = broker.subscriber::<Numbers>("t", SubscriberOptions::new().history(100)).unwrap();
    let mut two = broker.subscriber::<Numbers>("t", SubscriberOptions::new().history(2)).unwrap();
    let mut none = broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap();
    send(&mut publisher, 10);
    let drain = |subscriber: &mut Subscriber<Numbers>| {
        std::iter::from_fn(|| receive(subscriber).ok()).collect::<Vec<_>>()
    };
    assert_eq!(drain(&mut all), [6, 7, 8, 9, 10], "the last four and the new one");
    assert_eq!(drain(&mut two), [8, 9, 10]);
    assert_eq!(drain(&mut none), [10]);
}

#[test]
fn losses_are_counted_under_every_policy() {
    let broker = Broker::new();
    let open = |overflow| {
        let options = SubscriberOptions::new().overflow(overflow).depth(4);
        broker.subscriber::<Numbers>("t", options).unwrap()
    };
    let (mut oldest, mut newest) = (open(Overflow::DropOldest), open(Overflow::DropNewest));
    let options = PublisherOptions::new().block_size(64).blocks(32).timestamps(Timestamps::Off);
    let mut publisher = broker.publisher::<Numbers>("t", options).unwrap();
    (0..100).for_each(|number| send(&mut publisher, number));
    assert_eq!(receive(&mut oldest), Err(RecvError::Lost(96)));
    assert_eq!(receive(&mut oldest), Ok(96));
    for number in 0..4 {
        assert_eq!(receive(&mut newest), Ok(number));
    }
    assert_eq!(receive(&mut newest), Err(RecvError::Lost(96)));
    let stats = broker.topic("t").unwrap();
    assert_eq!(stats.lost(), 192);
    assert!(stats.to_string().contains("96 lost"), "{stats}");
}

#[test]
fn one_wait_serves_several_topics() {
    let broker = Broker::new();
    let mut first = broker.subscriber::<Numbers>("a", SubscriberOptions::new()).unwrap();
    let mut second = broker.subscriber::<Pod<u64>>("b", SubscriberOptions::new()).unwrap();
    let soon = Some(Instant::now() + Duration::from_millis(5));
    assert_eq!(wait_any(&mut [&mut first, &mut second], soon), None);
    assert_eq!(wait_any(&mut [], None), None);
    let other = broker.clone();
    let publisher = std::thread::spawn(move || {
        let mut publisher = other.publisher::<Pod<u64>>("b", PublisherOptions::new()).unwrap();
        publisher.try_loan().unwrap().send(&[7_u64][..]).unwrap();
        publisher
    });
    assert_eq!(wait_any(&mut [&mut first, &mut second], None), Some(1));
    assert_eq!(second.try_recv_ref().unwrap().view(), [7]);
    drop(publisher.join().unwrap());
    assert_eq!(
        wait_any(&mut [&mut first, &mut second], None),
        Some(1),
        "the end of a topic ends the wait, too"
    );
    assert_eq!(second.try_recv_ref().unwrap_err(), RecvError::Ended);
}

#[test]
fn statistics_show_forgotten_subscribers_and_samples() {
    let broker = Broker::new();
    let options = PublisherOptions::new().block_size(64).blocks(8);
    let mut publisher = broker.publisher::<Numbers>("t", options).unwrap();
    let options = SubscriberOptions::new().name("careless");
    let mut subscriber = broker.subscriber::<Numbers>("t", options).unwrap();
    send(&mut publisher, 1);
    std::mem::forget(subscriber.try_recv().unwrap());
    drop(subscriber);
    publisher.reclaim();
    let stats = &broker.topic("t").unwrap().publishers[0];
    assert_eq!((stats.held, stats.holds, stats.subscribers.len()), (1, 1, 0));
    assert_eq!((&*stats.holders[0].name, stats.holders[0].messages), ("careless", 1));
    let table = broker.topic("t").unwrap().to_string();
    assert!(table.contains("careless     holds 1 messages, the oldest is #0"), "{table}");
    let lost = SubscriberOptions::new().name("forgotten");
    std::mem::forget(broker.subscriber::<Numbers>("t", lost).unwrap());
    (0..7).for_each(|number| send(&mut publisher, number));
    assert_eq!(publisher.try_loan().unwrap_err(), LoanError::Exhausted { blocks: 8 });
    let stats = &broker.topic("t").unwrap().publishers[0];
    assert_eq!((&*stats.subscribers[0].name, stats.subscribers[0].behind), ("forgotten", 7));
}

#[test]
fn an_idle_subscriber_stops_nobody_once_it_has_left() {
    let broker = Broker::new();
    let options = PublisherOptions::new().block_size(64).blocks(4);
    let mut publisher = broker.publisher::<Numbers>("t", options).unwrap();
    let subscriber = broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap();
    (0..4).for_each(|number| send(&mut publisher, number));
    assert_eq!(publisher.try_loan().unwrap_err(), LoanError::Exhausted { blocks: 4 });
    drop(subscriber);
    (4..100).for_each(|number| send(&mut publisher, number));
    assert_eq!(publisher.subscriber_count(), 0);
}

#[test]
fn a_sample_outlives_its_subscriber_its_publisher_and_the_broker() {
    let broker = Broker::new();
    let options = PublisherOptions::new().block_size(64).blocks(4);
    let mut publisher = broker.publisher::<Numbers>("t", options).unwrap();
    let mut subscriber = broker.subscriber::<Numbers>("t", SubscriberOptions::new()).unwrap();
    send(&mut publisher, 7);
    let sample = subscriber.try_recv().unwrap();
    let clone = sample.clone();
    for number in 0..100 {
        send(&mut publisher, number);
        assert_eq!(receive(&mut subscriber), Ok(number));
    }
    drop(subscriber);
    drop(publisher);
    drop(broker);
    drop(sample);
    let elsewhere = std::thread::spawn(move || (clone.view()[0], clone.publisher(), clone.sequence().get()));
    let (number, _, sequence) = elsewhere.join().unwrap();
    assert_eq!((number, sequence), (7, 0));
}

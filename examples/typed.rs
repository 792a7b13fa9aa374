//! A struct with a derived flat layout, built in place and read in place. Its schema is checked on joining.

use blockcast::{Broker, Flat, Pod, PublisherOptions, SubscriberOptions};

#[derive(Flat)]
struct Position {
    name: String,
    longitude: f64,
    latitude: f64,
    tags: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Flat<Position>>("positions", SubscriberOptions::new())?;
    let mut publisher = broker.publisher::<Flat<Position>>("positions", PublisherOptions::new())?;

    let position = Position {
        name: "ferry".to_owned(),
        longitude: 11.97,
        latitude: 57.71,
        tags: vec!["water".to_owned(), "slow".to_owned()],
    };
    publisher.try_loan()?.send(&position)?;

    let message = subscriber.try_recv_ref()?;
    let seen = message.view();
    println!("{} at {}, {}", seen.name(), seen.longitude(), seen.latitude());
    assert_eq!(seen.tags().get(1), Some("slow"));

    // A subscriber that expects a different type is refused when it joins, not when it reads.
    let refused = broker.subscriber::<Pod<u32>>("positions", SubscriberOptions::new()).unwrap_err();
    println!("{refused}");
    Ok(())
}

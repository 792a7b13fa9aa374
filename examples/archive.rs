//! A Rust type, archived by rkyv directly into the block and read there.

use blockcast::{Broker, PublisherOptions, Rkyv, SubscriberOptions, archive};

/// `#[archive]` derives rkyv's traits and a schema that names each field and its type.
#[archive]
struct Reading {
    sensor: String,
    values: Vec<f64>,
    note: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Rkyv<Reading>>("readings", SubscriberOptions::new())?;
    let mut publisher = broker.publisher::<Rkyv<Reading>>("readings", PublisherOptions::new())?;

    let reading = Reading {
        sensor: "roof".to_owned(),
        values: vec![20.5, 20.75, 21.0],
        note: Some("sunny".to_owned()),
    };
    publisher.try_loan()?.send(&reading)?; // serialized into the block, without a buffer in between

    let message = subscriber.try_recv_ref()?;
    let archived = message.view(); // &ArchivedReading, in the block
    println!("{}: {:?}, {:?}", archived.sensor, archived.values, archived.note);
    assert_eq!(archived.values.len(), 3);
    Ok(())
}

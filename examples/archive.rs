//! A Rust type as it is, archived by rkyv straight into the block and read there.

use blockcast::{ArchiveType, Broker, PublisherOptions, Rkyv, SubscriberOptions};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Reading {
    sensor: String,
    values: Vec<f64>,
    note: Option<String>,
}

// SAFETY: the name belongs to this layout alone.
unsafe impl ArchiveType for Reading {
    const NAME: &'static str = "example.reading.v1";
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
    publisher.try_loan()?.send(&reading)?; // serialised into the block, no buffer in between

    let message = subscriber.try_recv_ref()?;
    let archived = message.view(); // &ArchivedReading, in the block
    println!("{}: {:?}, {:?}", archived.sensor, archived.values, archived.note);
    assert_eq!(archived.values.len(), 3);
    Ok(())
}

//! One publisher, two subscribers and a few integers. No subscriber copies anything.

use blockcast::{Broker, Pod, PublisherOptions, SubscriberOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::new();
    let mut first = broker.subscriber::<Pod<u32>>("numbers", SubscriberOptions::new())?;
    let mut second = broker.subscriber::<Pod<u32>>("numbers", SubscriberOptions::new())?;
    let mut publisher = broker.publisher::<Pod<u32>>("numbers", PublisherOptions::new())?;

    for number in 1..=3 {
        publisher.try_loan()?.send(&[number, number * number][..])?; // written into the block
    }
    drop(publisher); // the topic ends

    for subscriber in [&mut first, &mut second] {
        while let Ok(message) = subscriber.try_recv_ref() {
            println!("{} {:?} at {:p}", message.sequence(), message.view(), message.bytes().as_ptr());
        }
    }
    Ok(())
}

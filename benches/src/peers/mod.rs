//! The candidates, one file each.

mod arcs;
pub(crate) mod blockcast;
mod bus;
mod crossbeam;
mod disruptor;
mod flume;
#[cfg(feature = "iceoryx2")]
pub(crate) mod iceoryx2;
mod kanal;
mod mpsc;
mod rtrb;
mod tokio;
#[cfg(feature = "zenoh")]
mod zenoh;

pub use blockcast::Blockcast;

use crate::work::Candidate;

/// The name of the candidate that ratios refer to.
pub const REFERENCE: &str = "blockcast";

/// All candidates, Blockcast first.
#[must_use]
pub fn all() -> Vec<Box<dyn Candidate>> {
    vec![
        Box::new(Blockcast::plain()),
        Box::new(Blockcast::stamped()),
        Box::new(disruptor::Disruptor),
        Box::new(arcs::Arcs::<rtrb::Rtrb>::new("rtrb")),
        Box::new(arcs::Arcs::<kanal::Kanal>::new("kanal")),
        Box::new(arcs::Arcs::<crossbeam::Crossbeam>::new("crossbeam-channel")),
        Box::new(arcs::Arcs::<flume::Flume>::new("flume")),
        Box::new(arcs::Arcs::<mpsc::Mpsc>::new("std-mpsc")),
        Box::new(arcs::Arcs::<bus::Broadcast>::new("bus")),
        Box::new(arcs::Arcs::<tokio::Broadcast>::new("tokio-broadcast")),
        #[cfg(feature = "iceoryx2")]
        Box::new(iceoryx2::Iceoryx2::<::iceoryx2::prelude::local::Service>::new("iceoryx2-local")),
        #[cfg(feature = "iceoryx2")]
        Box::new(iceoryx2::Iceoryx2::<::iceoryx2::prelude::ipc::Service>::new("iceoryx2-ipc")),
        #[cfg(feature = "zenoh")]
        Box::new(zenoh::Zenoh),
    ]
}

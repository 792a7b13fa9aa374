//! Control segments on the heap, for models: loom's atomics are larger than real ones and must be dropped.

use std::ptr::NonNull;
use std::sync::Arc;

use super::{Control, Publisher};
use crate::direct::Slot;
use crate::engine::remote::{AnnexId, AnnexTerms, Annexes, Bell, RemotePublisher};
use crate::engine::segment::preamble::Preamble;
use crate::engine::segment::side::HeapSide;
use crate::engine::segment::words::{Header, KeptDescriptor};
use crate::primitive::AtomicU64;

/// Keeps the memory of a control segment.
#[derive(Debug)]
pub(super) struct Memory {
    publisher: Publisher,
    segment: Arc<Segment>,
    _side: Arc<HeapSide>,
}

#[derive(Debug)]
struct Segment {
    header: Box<Header>,
    slots: Box<[Slot]>,
    kept: Box<[KeptDescriptor]>,
    missing: Box<[AtomicU64]>,
}

impl Memory {
    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }
}

impl Control {
    /// Creates a control segment for one run of a model.
    pub(crate) fn create(preamble: &Preamble) -> rustix::io::Result<Self> {
        let geometry = preamble.geometry;
        let segment = Arc::new(Segment {
            header: Box::new(Header::new()),
            slots: (0..geometry.slots).map(|_| Slot::new()).collect(),
            kept: (0..geometry.blocks).map(|_| KeptDescriptor::new()).collect(),
            missing: (0..geometry.missing_words()).map(|_| AtomicU64::new(0)).collect(),
        });
        let side = Arc::new(HeapSide::new(geometry.cursors, geometry.blocks));
        Ok(Self {
            header: NonNull::from(&*segment.header),
            slots: NonNull::from(&*segment.slots).cast(),
            kept: NonNull::from(&*segment.kept).cast(),
            missing: NonNull::from(&*segment.missing).cast(),
            mask: u64::from(geometry.slots - 1),
            side: side.handle(),
            geometry,
            memory: Arc::new(Memory { publisher: Publisher::Here(Annexes::new()), segment, _side: side }),
        })
    }

    /// The control segment as another process maps it, with an annex of `seats` cursors.
    pub(crate) fn open(&self, seats: u32, publisher: RemotePublisher) -> (Self, Arc<HeapSide>) {
        let side = Arc::new(HeapSide::new(seats, self.geometry.blocks));
        let memory = Memory {
            publisher: Publisher::Remote(publisher),
            segment: Arc::clone(&self.memory.segment),
            _side: Arc::clone(&side),
        };
        let mut other = self.clone();
        other.side = side.handle();
        other.geometry.cursors = seats;
        other.memory = Arc::new(memory);
        (other, side)
    }

    /// Attaches such an annex.
    pub(crate) fn attach(&self, side: Arc<HeapSide>, terms: AnnexTerms, bell: Bell) -> AnnexId {
        let annexes = self.annexes().expect("this is the publisher's process");
        annexes.attach(self.header(), side.handle(), terms, bell, side)
    }
}

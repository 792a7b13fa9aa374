//! [`HostInspector`]: the host's checks before it connects others.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use blockcast_blocks::{OpenError, Schema, SegmentView};
use rustix::fs::SealFlags;
use rustix::process::{Resource, getrlimit};

use super::NO_ROOM;
use crate::control::shared::Shared;
use crate::peers::protocol::{Refusal, SchemaRecord};
use crate::peers::registry::Inspector;
use crate::peers::socket::File;

/// A host keeps one in this many of its descriptors free for itself and for other processes.
pub(super) const FREE_DESCRIPTORS: u64 = 8;

/// Whether less than one `share`th of the process's descriptors is left, as far as this new one tells: the
/// system numbers descriptors from the lowest free one on.
pub(super) fn leaves_fewer_than(share: u64, new: &impl AsRawFd) -> bool {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u64::try_from(new.as_raw_fd()).unwrap_or(0) >= most - most / share
}

/// Checks the requests of others against the host's own topics.
#[derive(Debug)]
pub(super) struct HostInspector(pub(super) Arc<Shared>);

impl Inspector<File> for HostInspector {
    fn inspect_topic(&self, topic: &str, schema: &Schema) -> Result<(), Refusal> {
        if self.0.is_closed() {
            return Err(Refusal::Closed);
        }
        let Some(topic) = self.0.find_topic(topic) else { return Ok(()) };
        match topic.admits(schema) {
            Err(OpenError::SchemaMismatch { existing: Some(existing), .. }) => {
                Err(Refusal::SchemaMismatch(SchemaRecord::from(&existing).cut_to_fit()))
            }
            Err(error) => Err(Refusal::Other(error.to_string())),
            Ok(()) if topic.is_unsealed() => Err(Refusal::Unsealed),
            Ok(()) => Ok(()),
        }
    }

    fn inspect_channel(&self, control: &File, arena: &File) -> Result<u64, Refusal> {
        let refused = |error: &dyn std::fmt::Display| Refusal::Other(error.to_string());
        if leaves_fewer_than(FREE_DESCRIPTORS, control) || leaves_fewer_than(FREE_DESCRIPTORS, arena) {
            return Err(Refusal::Limit(NO_ROOM.to_owned()));
        }
        // Subscribers check the files again. One that fails there would keep them out of the topic.
        for file in [control, arena] {
            let seals = rustix::fs::fcntl_get_seals(file).map_err(|error| refused(&error))?;
            if !seals.contains(SealFlags::FUTURE_WRITE) {
                return Err(Refusal::Other(
                    "a file of the channel lacks the seal F_SEAL_FUTURE_WRITE".to_owned(),
                ));
            }
        }
        let len = |file: &File| rustix::fs::fstat(file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
        let bytes = len(control).and_then(|control| Ok(control.saturating_add(len(arena)?)));
        let copies = control.try_clone().and_then(|control| Ok((control, arena.try_clone()?)));
        let (control, arena) = copies.map_err(|error| refused(&error))?;
        SegmentView::open(control, arena).map_err(|error| refused(&error))?;
        bytes.map_err(|error| refused(&error))
    }

    fn has_topic(&self, topic: &str) -> bool {
        self.0.find_topic(topic).is_some()
    }

    fn own_topics(&self) -> Vec<(String, Schema)> {
        self.0.named_schemas()
    }
}

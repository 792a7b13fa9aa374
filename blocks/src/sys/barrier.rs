//! The process-wide memory barrier, `membarrier(2)`.

use std::sync::OnceLock;

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

static REGISTERED: OnceLock<bool> = OnceLock::new();

/// Whether the kernel offers expedited private barriers; registers the process for them at the first call.
pub(crate) fn supported() -> bool {
    *REGISTERED.get_or_init(|| {
        let offered = membarrier_query();
        offered.contains(MembarrierQuery::PRIVATE_EXPEDITED)
            && offered.contains(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED)
            && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
    })
}

/// A full fence on this thread and on every running thread of the process.
///
/// Only meaningful where [`supported`] said so; it falls back to a local fence otherwise, and then the
/// other side must use full fences too (see `gate.rs`).
pub(crate) fn process_wide() {
    if !(supported() && membarrier(MembarrierCommand::PrivateExpedited).is_ok()) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

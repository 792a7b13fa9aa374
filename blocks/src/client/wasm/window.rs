//! Address space of the guest's linear memory in which the host maps blocks.

use std::sync::Mutex;

use super::types::MemoryArea;

/// Size and alignment of the areas that the host accepts: a page of linear memory.
const PAGE: u32 = 65_536;

/// Windows of dropped subscriptions. They are ordinary zeroed memory again, and are used first. Linear memory
/// cannot shrink, so this keeps a guest that opens and closes subscriptions from running out.
static FREE: Mutex<Vec<MemoryArea>> = Mutex::new(Vec::new());

/// The windows of one subscription. Must be dropped after the subscription, when the host no longer uses
/// them.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<MemoryArea>);

impl Windows {
    /// Reserves at least `bytes` bytes of address space. `None` if the linear memory cannot grow that much.
    ///
    /// The guest has nothing in it, and will not until it is handed back here.
    pub(super) fn reserve(bytes: u32) -> Option<MemoryArea> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let wanted = pages.checked_mul(PAGE)?;
        reuse(wanted).or_else(|| grow(pages, wanted))
    }

    /// Records that the host accepted `area`.
    pub(super) fn donated(&mut self, area: MemoryArea) {
        self.0.push(area);
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.0.drain(..).for_each(hand_back);
    }
}

/// Keeps an area that the host does not use, or no longer uses, for the next subscription.
pub(super) fn hand_back(area: MemoryArea) {
    if let Ok(mut free) = FREE.lock() {
        free.push(area);
    }
}

/// The smallest free window that is large enough.
fn reuse(wanted: u32) -> Option<MemoryArea> {
    let mut free = FREE.lock().ok()?;
    let (at, _) =
        free.iter().enumerate().filter(|(_, area)| area.size >= wanted).min_by_key(|(_, area)| area.size)?;
    Some(free.swap_remove(at))
}

/// New address space at the end of the linear memory. The allocator gets its memory in the same way, so it
/// never takes this range for its own.
fn grow(pages: u32, size: u32) -> Option<MemoryArea> {
    let first = u32::try_from(core::arch::wasm32::memory_grow::<0>(pages as usize)).ok()?;
    if first == u32::MAX {
        return None;
    }
    Some(MemoryArea { address: first.checked_mul(PAGE)?, size })
}

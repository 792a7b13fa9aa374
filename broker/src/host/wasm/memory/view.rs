//! A guest's partial view of an arena: the messages that it is attached to, and zeros elsewhere.
//!
//! ```text
//! arena   [ message A | old bytes | message B ··· | message C ······················· | … ]
//! view    [ A copied  | 0         | 0             | 0 …                            0  | … ]  a file of this guest's own
//! window  [ A         | 0         | 0             | C, whole pages of the arena mapped | … ]  what the guest reads
//! ```
//! The window has the arena's layout, so addresses are the same as for any other guest. It shows a file of
//! the same length, initially empty. On delivery, a short message is copied into that file; on release, it is
//! erased. Of a long message, the whole pages are mapped from the arena, and only the bytes before and after
//! them are copied. Either way no other bytes of a page become visible: neither a neighbouring message nor
//! old bytes behind the end.
//!
//! That is strict isolation. If everything is to be copied, there is no file: the window is plain memory of
//! the guest, and every message is copied into it.

use std::collections::HashMap;
use std::os::fd::AsFd;

use blockcast_blocks::arena::Arena;

use super::window::{Owner, Place, Span, Window, WindowError, Windows};
use crate::component::isolation::Isolation;
use crate::host::wasm::sys::{self, SharedFile};

/// The most messages that are mapped into one guest at a time, over all its subscriptions; further ones are
/// copied. Each takes up to three of the process's limited mappings (65,530 by default).
const MAX_MAPPED: u32 = 256;

/// One visible message.
#[derive(Clone, Copy, Debug)]
struct Seen {
    len: u32,
    /// How often it was delivered or held, and not released.
    count: u32,
    /// The mapped part: offset and length in bytes.
    mapped: Option<(u64, usize)>,
}

/// Where copied bytes are.
#[derive(Debug)]
enum Copies {
    /// In a file of this guest's own, which its window shows read-only. Long messages are mapped.
    Mapped(SharedFile),
    /// In the window, which is plain memory of the guest for an arena of this many bytes. Nothing is mapped.
    Plain(usize),
}

/// The parts of one arena that the guest sees.
#[derive(Debug)]
pub(crate) struct View {
    copies: Copies,
    /// Visible messages by their offset in the arena.
    seen: HashMap<u64, Seen>,
}

impl View {
    /// A view of an arena of `len` bytes that shows nothing yet.
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        let file = SharedFile::new("blockcast-view", len)?;
        Ok(Self { copies: Copies::Mapped(file), seen: HashMap::new() })
    }

    /// Like [`new`](Self::new), but maps nothing and copies every message.
    pub(crate) fn copied(len: usize) -> Self {
        Self { copies: Copies::Plain(len), seen: HashMap::new() }
    }

    /// Makes the window that shows this view.
    ///
    /// # Safety
    /// The window is unmapped before the view is dropped, or the guest has ended by then.
    pub(crate) unsafe fn open(&self, windows: &mut Windows, owner: Owner) -> Result<Window, WindowError> {
        let file = match &self.copies {
            Copies::Mapped(file) => file,
            Copies::Plain(len) => return windows.set_aside(Place::own(owner), *len as u64),
        };
        let span = Span { file: file.as_fd(), offset: 0, len: file.len() };
        // SAFETY: the view keeps the file, which has that length and is sealed; the caller keeps the view.
        unsafe { windows.map(Place::own(owner), span, span.len) }
    }

    /// The address in this process of the copy of `len` bytes at `offset` of the arena.
    fn copy_of(
        &self,
        windows: &Windows,
        window: Window,
        offset: u64,
        len: usize,
    ) -> Result<*mut u8, WindowError> {
        match &self.copies {
            // Inside the arena, and the file has the arena's length.
            Copies::Mapped(file) => Ok(file.base().wrapping_add(offset as usize)),
            Copies::Plain(_) => windows.plain(window, offset, len),
        }
    }

    /// Shows a message of the arena, or counts one more reason to show it. Returns how many bytes it copied.
    ///
    /// # Safety
    /// The window belongs to this view, and the arena's file stays open while the window exists. The `len`
    /// bytes at `offset` are a message that stays published until it has been [hidden](Self::hide) as often
    /// as it was shown.
    pub(crate) unsafe fn show(
        &mut self,
        windows: &mut Windows,
        window: Window,
        arena: &Arena,
        offset: u64,
        len: u32,
    ) -> Result<u64, WindowError> {
        if let Some(seen) = self.seen.get_mut(&offset) {
            seen.count += 1;
            return Ok(0);
        }
        let end = offset + u64::from(len);
        let mut mapped = self.pages_to_map(windows, offset, end);
        if let Some((first, len)) = mapped {
            // SAFETY: only the window is made from it, which is read-only.
            match unsafe { arena.memfd() } {
                Some(file) => {
                    let span = Span { file: file.as_fd(), offset: first, len };
                    // SAFETY: the caller keeps the arena's file open, and it is as long as the arena.
                    unsafe { windows.show(window, first, span) }?;
                }
                None => mapped = None,
            }
        }
        let mut copied = 0;
        for (start, end) in copied_parts(offset, end, mapped) {
            copied += end - start;
            // Both are inside the arena, so the file has room for them.
            let (at, len) = (start as usize, (end - start) as usize);
            let source = arena.base().as_ptr().wrapping_add(at);
            let target = self.copy_of(windows, window, start, len)?;
            // SAFETY: `len` bytes of a published message, which nobody writes (the caller vouches for that).
            // The target is the file, which has the arena's length, or plain memory of the guest, which
            // nobody else touches during a host call. Neither overlaps the arena.
            unsafe { target.copy_from_nonoverlapping(source, len) };
        }
        self.seen.insert(offset, Seen { len, count: 1, mapped });
        Ok(copied)
    }

    /// Counts one more reason to show a visible message.
    pub(crate) fn retain(&mut self, offset: u64) {
        if let Some(seen) = self.seen.get_mut(&offset) {
            seen.count += 1;
        }
    }

    /// Removes one reason to show a message, and hides it with the last one.
    pub(crate) fn hide(
        &mut self,
        windows: &mut Windows,
        window: Window,
        offset: u64,
    ) -> Result<(), WindowError> {
        let Some(seen) = self.seen.get_mut(&offset) else { return Ok(()) };
        seen.count -= 1;
        if seen.count > 0 {
            return Ok(());
        }
        let Seen { len, mapped, .. } = *seen;
        self.seen.remove(&offset);
        for (start, end) in copied_parts(offset, offset + u64::from(len), mapped) {
            let len = (end - start) as usize;
            let copy = self.copy_of(windows, window, start, len)?;
            // SAFETY: `show` wrote into these bytes, and nobody holds references to them.
            unsafe { copy.write_bytes(0, len) };
        }
        if let (Some((first, len)), Copies::Mapped(file)) = (mapped, &self.copies) {
            let span = Span { file: file.as_fd(), offset: first, len };
            // SAFETY: the view keeps its file. The file is zero there: nothing was ever copied to mapped
            // pages, or it has been erased.
            unsafe { windows.hide(window, first, span) }?;
        }
        Ok(())
    }

    /// The whole pages of a message, if they are to be mapped.
    fn pages_to_map(&self, windows: &Windows, start: u64, end: u64) -> Option<(u64, usize)> {
        let copied = matches!(self.copies, Copies::Plain(_)) || windows.shown() >= MAX_MAPPED;
        if copied || end - start < u64::from(Isolation::STRICT_MAPPED) {
            return None;
        }
        let page = sys::page_size() as u64;
        let (first, last) = (start.next_multiple_of(page), end / page * page);
        // Less than a message, whose length has 31 bits.
        (first < last).then(|| (first, (last - first) as usize))
    }
}

/// The parts of a message that are not mapped.
fn copied_parts(start: u64, end: u64, mapped: Option<(u64, usize)>) -> impl Iterator<Item = (u64, u64)> {
    let (first, last) = match mapped {
        Some((first, len)) => (first, first + len as u64),
        None => (end, end),
    };
    [(start, first), (last, end)].into_iter().filter(|(start, end)| start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_parts_are_copied() {
        let parts = |start, end, mapped| copied_parts(start, end, mapped).collect::<Vec<_>>();
        assert_eq!(parts(64, 128, None), [(64, 128)]);
        assert_eq!(parts(64, 64, None), []);
        assert_eq!(parts(64, 12_388, Some((4096, 8192))), [(64, 4096), (12_288, 12_388)]);
        assert_eq!(parts(4096, 12_288, Some((4096, 8192))), []);
    }

    #[test]
    fn long_messages_are_mapped_where_they_fill_pages() {
        let view = View::new(1 << 20).expect("memory");
        let windows = Windows::new(std::sync::Arc::default(), 0);
        let page = sys::page_size() as u64;
        let long = u64::from(Isolation::STRICT_MAPPED) + 2 * page;
        assert_eq!(
            view.pages_to_map(&windows, 64, 64 + long),
            Some((page, (long + 64) as usize / page as usize * page as usize - page as usize))
        );
        assert_eq!(view.pages_to_map(&windows, 0, u64::from(Isolation::STRICT_MAPPED) - 1), None);
    }
}

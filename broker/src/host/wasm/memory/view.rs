//! What a guest sees of an arena that it is not shown as a whole: the messages that it is attached to, and zeros.
//!
//! ```text
//! arena   [ message A | old bytes | message B ··· | message C ······················· | … ]
//! view    [ A copied  | 0         | 0             | 0 …                            0  | … ]  a file of this guest's own
//! window  [ A         | 0         | 0             | C, whole pages of the arena mapped | … ]  what the guest reads
//! ```
//! The window has the arena's layout, so addresses are those of any other guest. It shows a file of the same length that is
//! empty at first. A short message is copied into that file when it is delivered and erased when the guest has released it.
//! Of a long one the pages that it fills are mapped from the arena in between, and only its first and last bytes are
//! copied. Either way nothing else of a page becomes visible: neither a neighbour nor what lies behind the message's end.
//!
//! That is strict isolation. Where all is to be copied there is no file: the window is plain memory of the guest, and
//! every message is copied into it.

use std::collections::HashMap;
use std::os::fd::AsFd;

use blockcast_blocks::arena::Arena;

use super::window::{Owner, Place, Span, Window, WindowError, Windows};
use crate::component::isolation::Isolation;
use crate::host::wasm::sys::{self, SharedFile};

/// Messages that are mapped into one guest at a time, whatever it subscribes to; further ones are copied. Each takes up to
/// three of the mappings of which a process has a limited number (65,530 by default).
const MAX_MAPPED: u32 = 256;

/// One message that the guest sees.
#[derive(Clone, Copy, Debug)]
struct Seen {
    len: u32,
    /// How often it was delivered and held, and not released.
    count: u32,
    /// The part of it that is mapped: offset and length in bytes.
    mapped: Option<(u64, usize)>,
}

/// Where the bytes lie that were copied.
#[derive(Debug)]
enum Copies {
    /// In a file of this guest's own, which its window shows read-only. Long messages are mapped.
    Mapped(SharedFile),
    /// In the window, which is plain memory of the guest for an arena of that many bytes. Nothing is mapped.
    Plain(usize),
}

/// What the guest sees of one arena.
#[derive(Debug)]
pub(crate) struct View {
    copies: Copies,
    /// By offset in the arena.
    seen: HashMap<u64, Seen>,
}

impl View {
    /// Of an arena of `len` bytes. Nothing is seen yet.
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        let file = SharedFile::new("blockcast-view", len)?;
        Ok(Self { copies: Copies::Mapped(file), seen: HashMap::new() })
    }

    /// As [`new`](Self::new), for a guest to which nothing is mapped.
    pub(crate) fn copied(len: usize) -> Self {
        Self { copies: Copies::Plain(len), seen: HashMap::new() }
    }

    /// Makes the window through which the guest looks.
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

    /// Where the copy of `len` bytes at `offset` of the arena lies in this process.
    fn copy_of(
        &self,
        windows: &Windows,
        window: Window,
        offset: u64,
        len: usize,
    ) -> Result<*mut u8, WindowError> {
        match &self.copies {
            // Inside of the arena, whose length the file has.
            Copies::Mapped(file) => Ok(file.base().wrapping_add(offset as usize)),
            Copies::Plain(_) => windows.plain(window, offset, len),
        }
    }

    /// Shows a message of the arena, once more if it is seen already. Returns how many bytes were copied.
    ///
    /// # Safety
    /// The window is this view's, and the arena's file stays open while it is. The `len` bytes from `offset` on are a message
    /// that stays published until it is [hidden](Self::hide) as often as it was shown.
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
            // SAFETY: what is made of it is the window, which is read-only.
            match unsafe { arena.memfd() } {
                Some(file) => {
                    let span = Span { file: file.as_fd(), offset: first, len };
                    // SAFETY: the caller keeps the arena's file open, which is as long as the arena.
                    unsafe { windows.show(window, first, span) }?;
                }
                None => mapped = None,
            }
        }
        let mut copied = 0;
        for (start, end) in copied_parts(offset, end, mapped) {
            copied += end - start;
            // Both are inside of the arena: what the file has room for.
            let (at, len) = (start as usize, (end - start) as usize);
            let source = arena.base().as_ptr().wrapping_add(at);
            let target = self.copy_of(windows, window, start, len)?;
            // SAFETY: `len` bytes of a published message, which nobody writes (the caller vouches for that). The file
            // has the arena's length; so has plain memory of the guest, which nobody else touches during a host call. Both
            // lie elsewhere.
            unsafe { target.copy_from_nonoverlapping(source, len) };
        }
        self.seen.insert(offset, Seen { len, count: 1, mapped });
        Ok(copied)
    }

    /// One more reason to go on showing a message that is seen.
    pub(crate) fn retain(&mut self, offset: u64) {
        if let Some(seen) = self.seen.get_mut(&offset) {
            seen.count += 1;
        }
    }

    /// Hides a message, if this was the last reason to show it.
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
            // SAFETY: bytes into which `show` has written; nobody holds references to them.
            unsafe { copy.write_bytes(0, len) };
        }
        if let (Some((first, len)), Copies::Mapped(file)) = (mapped, &self.copies) {
            let span = Span { file: file.as_fd(), offset: first, len };
            // SAFETY: the view keeps its file; it is zero there, since nothing was ever copied to pages that are mapped, or it
            // was erased since.
            unsafe { windows.hide(window, first, span) }?;
        }
        Ok(())
    }

    /// The whole pages of a message that are to be mapped.
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
    fn what_is_not_mapped_is_copied() {
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

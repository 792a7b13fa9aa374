//! Strings that a guest passes: [`Text`].

use wasmtime::ValType;
use wasmtime::component::WasmStr;

use super::canonical::{Flat, locate};
use super::link::Argument;
use super::store::{Host, StoreData, trap};
use crate::host::wasm::memory::area::Area;
use crate::hosting::log::shorten;

/// Bytes that the strings and lists of a single host call may have in all.
pub(crate) const CALL_BYTES: usize = 1 << 20;

/// A string of the guest: a copy of its beginning, as far as anyone wants to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    start: String,
    len: usize,
}

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        Self { start: shorten(text).to_owned(), len: text.len() }
    }

    /// All of it, if it is not longer than [`MAX_TEXT`](crate::hosting::log::MAX_TEXT).
    pub(crate) fn whole(&self) -> Option<&str> {
        (self.start.len() == self.len).then_some(self.start.as_str())
    }

    /// The first [`MAX_TEXT`](crate::hosting::log::MAX_TEXT) bytes.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }

    /// The string at `area`. `None` if it lies in donated address space.
    pub(crate) fn read(state: &impl StoreData, area: Area) -> wasmtime::Result<Option<Self>> {
        let (start, len) = (locate(state, area)?, area.size as usize);
        if len > CALL_BYTES {
            return Err(trap("too much data for a host call".to_owned()));
        }
        if !state.is_ordinary(start, len) {
            return Ok(None);
        }
        // SAFETY: accessible bytes of the guest's memory (checked by `locate`), outside of everything that is donated, so
        // that nobody writes to them during a host call.
        let bytes = unsafe { std::slice::from_raw_parts(start, len) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Self::new(text))),
            Err(error) => Err(trap(format!("a string that is not utf-8: {error}"))),
        }
    }
}

/// `None` if it lies in donated address space, where its bytes might change while they are read, or is not encoded in UTF-8. A guest
/// has no reason for either.
///
/// wasmtime 48 tells where a string lies only by decoding it. So bytes in a window are decoded before they are refused, perhaps
/// while a publisher writes them; what comes of it is dropped unread. Core modules are asked first.
impl Argument for Option<Text> {
    type Lifted = WasmStr;
    const FLAT: &'static [ValType] = &[ValType::I32, ValType::I32];

    fn lift<S: StoreData>(lifted: WasmStr, host: &Host<'_, S>) -> wasmtime::Result<Self> {
        Ok(match lifted.to_str(host)? {
            std::borrow::Cow::Borrowed(text) => {
                host.data().is_ordinary(text.as_ptr(), text.len()).then(|| Text::new(text))
            }
            std::borrow::Cow::Owned(_) => None,
        })
    }

    fn read<S: StoreData>(flat: &mut Flat<'_>, state: &S) -> wasmtime::Result<Self> {
        Text::read(state, flat.area())
    }
}

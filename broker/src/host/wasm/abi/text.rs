//! Strings that a guest passes: [`Text`].

use wasmtime::ValType;
use wasmtime::component::WasmStr;

use super::canonical::{Flat, locate};
use super::link::Argument;
use super::store::{Host, StoreData, trap};
use crate::host::wasm::memory::area::Area;
use crate::hosting::log::shorten;

/// The most bytes that the strings and lists of a single host call may have together.
pub(crate) const CALL_BYTES: usize = 1 << 20;

/// A string of the guest: a copy of its beginning, up to the longest text that anyone reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    start: String,
    len: usize,
}

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        Self { start: shorten(text).to_owned(), len: text.len() }
    }

    /// The whole string, unless it is longer than [`MAX_TEXT`](crate::hosting::log::MAX_TEXT).
    pub(crate) fn whole(&self) -> Option<&str> {
        (self.start.len() == self.len).then_some(self.start.as_str())
    }

    /// At most the first [`MAX_TEXT`](crate::hosting::log::MAX_TEXT) bytes.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }

    /// Reads the string at `area`. Returns `None` if it lies in donated address space.
    pub(crate) fn read(state: &impl StoreData, area: Area) -> wasmtime::Result<Option<Self>> {
        let (start, len) = (locate(state, area)?, area.size as usize);
        if len > CALL_BYTES {
            return Err(trap("too much data for a host call".to_owned()));
        }
        if !state.is_ordinary(start, len) {
            return Ok(None);
        }
        // SAFETY: accessible bytes of the guest's memory (checked by `locate`), outside all donated address
        // space, so nobody writes to them during a host call.
        let bytes = unsafe { std::slice::from_raw_parts(start, len) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Self::new(text))),
            Err(error) => Err(trap(format!("a string that is not utf-8: {error}"))),
        }
    }
}

/// `None` if the string is not encoded in UTF-8, or lies in donated address space, where its bytes might
/// change while they are read. A guest has no reason for either.
///
/// wasmtime 48 reveals the location of a string only by decoding it. So a string in a window is decoded
/// before it is refused, perhaps while a publisher writes it, and the result is dropped unread. For core
/// modules, the location is checked first.
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

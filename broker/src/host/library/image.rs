//! A library's code in this process: [`Image`], and the file it is loaded from: [`Code`].
//!
//! Every image is loaded from its own copy of the file, in memory. Thus two components of one library, and
//! two runs of one component, share no static variables, just as two instances of a guest share none.
//! Replacing the file on disk while it runs does no harm either.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockcast_blocks::abi::{App, ENTRY, Entry, Misfit};
use blockcast_blocks::shield::event;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, memfd_create};

use super::elf::{self, LibraryFile};
use super::error::LibraryError;
use super::imports::{self, Slot};
use super::threads;
use crate::file;

/// The bytes of a library's file.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    path: Arc<Path>,
    bytes: Arc<[u8]>,
    /// Where the loader puts the address of `pthread_create`.
    creates: Arc<[Slot]>,
}

impl Code {
    /// Reads a file and checks that it can be an app.
    pub(crate) fn read(path: &Path) -> Result<Self, LibraryError> {
        let bytes = elf::read(path)?;
        LibraryFile::examine(path, &bytes)?;
        let damaged = |error: object::Error| LibraryError::NotALibrary {
            path: path.to_owned(),
            reason: format!("it is damaged or cut off: {error}"),
        };
        let creates = imports::slots(&bytes, "pthread_create").map_err(damaged)?;
        Ok(Self { path: path.into(), bytes: bytes.into(), creates: creates.into() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn owned_path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    /// Copies the file into memory. The copy's name appears in the list of the process's mappings.
    fn copy(&self) -> io::Result<OwnedFd> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // The system accepts names of up to 249 bytes without zeros.
        let name: String = name.chars().filter(|c| *c != '\0').take(60).collect();
        file::check_size(self.bytes.len() as u64)?;
        let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        file.write_all(&self.bytes)?;
        Ok(file.into())
    }
}

/// A loaded library. Dropping it closes the library: no thread may still run its code or use its data.
#[derive(Debug)]
pub(crate) struct Image {
    library: Option<Library>,
    app: App,
    /// The file in memory. The loader knows the image by a name that contains the file's descriptor number.
    file: Option<OwnedFd>,
}

impl Image {
    /// Loads a copy of the code and runs its constructors. Takes about a millisecond.
    ///
    /// # Safety
    /// The code's constructors, destructors and `blockcast_app` may be run in this process, and keep the
    /// contract of `blockcast_blocks::abi`.
    pub(crate) unsafe fn open(code: &Code) -> Result<Self, LibraryError> {
        let file =
            code.copy().map_err(|source| LibraryError::NoMemory { path: code.owned_path(), source })?;
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let refused = |error: libloading::Error| {
            // The loader's message names the copy.
            let reason = error.to_string().replace(&format!("{name}: "), "").replace(&name, "the library");
            LibraryError::Refused { path: code.owned_path(), reason }
        };
        // SAFETY: the caller vouches for the code that this runs.
        let library = unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
        // SAFETY: the slots come from the file that was just loaded, and none of its code is running.
        let library = unsafe { redirect(library, &code.creates) }.map_err(|error| LibraryError::Refused {
            path: code.owned_path(),
            reason: format!("its threads cannot be tracked: {error}"),
        })?;
        let misfit = |misfit| LibraryError::Misfit { path: code.owned_path(), misfit };
        let mut image = Self { library: Some(library), app: NO_APP, file: Some(file) };
        let library = image.library.as_ref().ok_or_else(|| misfit(Misfit::Missing))?;
        // SAFETY: by the contract, for which the caller vouches, a symbol of this name is this function.
        let entry = unsafe { library.get::<Entry>(ENTRY.as_bytes()) };
        let entry = entry.map_err(|_| LibraryError::NoEntry { path: code.owned_path() })?;
        // SAFETY: by the contract, the function accepts null from a host that only inspects the library.
        let table = unsafe { entry(std::ptr::null()) };
        // SAFETY: by the contract, it is null or a table that stays valid and unchanged while the image is
        // loaded.
        image.app = unsafe { App::read(table) }.map_err(misfit)?;
        Ok(image)
    }

    /// The library's table, with the function that runs the app.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }
}

/// The loader's record of an image: the first field of its `struct link_map`.
#[repr(C)]
struct LinkMap {
    /// Offset between the file's addresses and those in memory.
    start: usize,
}

/// Makes the library call [`threads::create`] to start threads.
///
/// # Safety
/// The loader has put the address of `pthread_create` in `slots`, and no code of the library is running.
unsafe fn redirect(library: Library, slots: &[Slot]) -> io::Result<Library> {
    let handle = library.into_raw();
    // SAFETY: the handle comes from `into_raw`.
    let library = unsafe { Library::from_raw(handle) };
    let mut map: *const LinkMap = std::ptr::null();
    let place: *mut c_void = (&raw mut map).cast();
    // SAFETY: the handle is that of a loaded library. The result is a pointer, and `place` has room for one.
    if unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, place) } != 0 || map.is_null() {
        return Err(io::Error::other("the loader does not say where the library is"));
    }
    // SAFETY: the loader keeps the record for as long as the library is loaded.
    let start = unsafe { (*map).start };
    for slot in slots {
        let address = start.wrapping_add(slot.offset as usize);
        let slot_at = std::ptr::with_exposed_provenance_mut::<usize>(address);
        if slot.is_sealed {
            protect(address, libc::PROT_READ | libc::PROT_WRITE)?;
        }
        // SAFETY: these are 8 aligned bytes of the library's data that hold the address of a function of this
        // type.
        unsafe { slot_at.write_volatile(threads::create as *const () as usize) };
        if slot.is_sealed {
            protect(address, libc::PROT_READ)?;
        }
    }
    Ok(library)
}

/// Changes the protection of the page that contains an address of a library's data.
fn protect(address: usize, allowed: libc::c_int) -> io::Result<()> {
    let page = blockcast_blocks::page_size();
    let start = std::ptr::with_exposed_provenance_mut(address & !(page - 1));
    // SAFETY: the page belongs to a library, the loader has made it read-only after relocation, and only this
    // thread uses it now.
    match unsafe { libc::mprotect(start, page, allowed) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Placeholder until the library's own table has been read.
const NO_APP: App = App { version: 0, size: 0, run: never, name: blockcast_blocks::abi::Text::EMPTY };

unsafe extern "C" fn never(_host: *const blockcast_blocks::abi::Host) -> u32 {
    blockcast_blocks::abi::RUN_REFUSED
}

impl Drop for Image {
    fn drop(&mut self) {
        let (Some(library), Some(file)) = (self.library.take(), self.file.take()) else { return };
        drop(library);
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: with this flag, the call only looks the library up. It loads nothing and runs no code.
        let found = unsafe { Library::open(Some(&name), RTLD_NOW | libc::RTLD_NOLOAD) };
        if let Ok(still_loaded) = found {
            // The loader keeps the library, because it was built that way or because a thread still has its
            // thread-local variables. The loader knows it by the descriptor's number, so no other copy may
            // get this number.
            event(|| {
                tracing::warn!("a library stays loaded: it was built that way, or has left a thread behind")
            });
            drop(still_loaded);
            std::mem::forget(file);
        }
    }
}

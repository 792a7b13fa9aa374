//! A folder, and files in it that only we can change.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use crate::file;
use crate::host::wasm::sys;

/// Size of the largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// The names of files that are being written.
const UNFINISHED: Naming = Naming { prefix: "blockcast-", digits: 16, suffix: ".new" };

/// Age in seconds after which an unfinished file is given up.
const ABANDONED: i64 = 3600;

/// The names of one kind of files: hexadecimal digits between two texts.
#[derive(Debug)]
pub(crate) struct Naming {
    pub(crate) prefix: &'static str,
    pub(crate) digits: usize,
    pub(crate) suffix: &'static str,
}

impl Naming {
    fn matches(&self, name: &str) -> bool {
        let digits = name.strip_prefix(self.prefix).and_then(|name| name.strip_suffix(self.suffix));
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.is_some_and(|digits| digits.len() == self.digits && digits.bytes().all(is_digit))
    }
}

/// An open folder. All files are reached through it, so it stays the same folder even if its path changes.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// One file of a folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) len: u64,
    /// When it was last used, in seconds of the system's clock.
    pub(crate) used: i64,
}

impl Folder {
    /// Opens a folder that only we can change, and creates it if necessary. The folder itself must not be a
    /// symbolic link; its parents may be.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Without a trailing slash, which would follow a link.
        let path: PathBuf = path.components().collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let folder = Self::with_flags(&path, OFlags::NOFOLLOW).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => refused("it is a symbolic link"),
            error => error.into(),
        })?;
        ours(&rustix::fs::fstat(&folder.0)?, 0o022)?;
        Ok(folder)
    }

    /// Opens an existing folder, regardless of its owner.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::with_flags(path, OFlags::empty())?)
    }

    fn with_flags(path: &Path, more: OFlags) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Reads a file that nobody else can write, nor read if it is `secret`.
    pub(crate) fn read(&self, name: &str, secret: bool) -> io::Result<Vec<u8>> {
        // A pipe in its place must not block us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(refused("it is not a file"));
        }
        ours(&stat, if secret { 0o077 } else { 0o022 })?;
        let mut bytes = Vec::new();
        File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(refused("it is too large"));
        }
        Ok(bytes)
    }

    /// Puts a file in place atomically.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_beside(bytes, |temporary| Ok(rustix::fs::renameat(&self.0, temporary, &self.0, name)?))
    }

    /// Like [`replace`](Self::replace), but leaves an existing file alone.
    pub(crate) fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_beside(bytes, |temporary| {
            match rustix::fs::linkat(&self.0, temporary, &self.0, name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => self.remove(temporary),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn write_beside(&self, bytes: &[u8], place: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
        file::check_size(bytes.len() as u64)?;
        let Naming { prefix, digits, suffix } = UNFINISHED;
        let temporary = format!("{prefix}{:0digits$x}{suffix}", u64::from_le_bytes(random()?));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        let written = file.write_all(bytes).and_then(|()| file.sync_data()).and_then(|()| place(&temporary));
        if written.is_err() {
            // Best effort: the file is given up after a while in any case.
            let _ = self.remove(&temporary);
        }
        written
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Records that a file was used.
    pub(crate) fn touch(&self, name: &str) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        Ok(rustix::fs::utimensat(&self.0, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Lists our files of this kind, and removes our unfinished files that are old.
    pub(crate) fn entries(&self, naming: &Naming) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            // Another process may have just removed it.
            let Ok(stat) = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
            if !is_file || stat.st_uid != sys::effective_user() {
                continue;
            }
            #[allow(clippy::unnecessary_cast, reason = "types differ between machines")]
            let used = stat.st_mtime as i64;
            if UNFINISHED.matches(name) {
                if now.saturating_sub(used) > ABANDONED {
                    let _ = self.remove(name);
                }
            } else if naming.matches(name) {
                let len = u64::try_from(stat.st_size).unwrap_or(0);
                entries.push(Entry { name: name.to_owned(), len, used });
            }
        }
        Ok(entries)
    }
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Checks that we own something and that it grants others nothing of `access`.
fn ours(stat: &Stat, access: u32) -> io::Result<()> {
    if stat.st_uid != sys::effective_user() {
        return Err(refused("it belongs to another user"));
    }
    if stat.st_mode & access != 0 {
        return Err(refused(&format!("others have access to it (mode {:o})", stat.st_mode & 0o777)));
    }
    Ok(())
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

//! Uses a message in safe code of a library after `run` has returned: in a thread-local destructor, and in a
//! thread that it started. It reports to the test through files in the folder that the parameter `folder`
//! names.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use blockcast::{AppError, Sample, Session};

use crate::{Numbers, input};

/// A message that is read when this is dropped.
struct Late {
    sample: Sample<Numbers>,
    folder: PathBuf,
}

impl Drop for Late {
    fn drop(&mut self) {
        let numbers: &[u64] = self.sample.view();
        let before = numbers[0];
        tell(&self.folder, "reads", "");
        // Wait until the publisher could have reused the block. The test bounds the wait.
        while !self.folder.join("go on").exists() {
            thread::sleep(Duration::from_millis(1));
        }
        let after = std::hint::black_box(numbers)[0];
        tell(&self.folder, "read", &format!("{before} {after}"));
    }
}

thread_local! {
    static KEPT: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Writes a file atomically, so that readers see all of it or nothing.
fn tell(folder: &Path, name: &str, text: &str) {
    let unfinished = folder.join(format!("{name}.new"));
    // Without the file the test fails.
    let _ = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, folder.join(name)));
}

fn late(session: &Session) -> Result<Late, AppError> {
    let mut numbers = input(session, "in")?;
    let sample = numbers.blocking_recv(None)?;
    let folder = session.parameter("folder").ok_or("no folder")?.into();
    Ok(Late { sample, folder })
}

/// Returns with a message in a thread-local variable.
pub(crate) fn in_a_destructor(session: &Session) -> Result<(), AppError> {
    let late = late(session)?;
    KEPT.with(|kept| *kept.borrow_mut() = Some(late));
    Ok(())
}

/// Returns while a thread still waits for a message.
pub(crate) fn in_a_call(session: &Session) -> Result<(), AppError> {
    let mut numbers = input(session, "in")?;
    let folder: PathBuf = session.parameter("folder").ok_or("no folder")?.into();
    let waits = folder.join("waits");
    thread::spawn(move || {
        tell(&folder, "waits", "");
        // Once `run` has returned, this fails or the thread is unwound.
        if numbers.blocking_recv(None).is_ok() {
            tell(&folder, "received", "");
        }
    });
    while !waits.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Returns while a thread still has a message.
pub(crate) fn in_a_thread(session: &Session) -> Result<(), AppError> {
    let late = late(session)?;
    let reads = late.folder.join("reads");
    thread::spawn(move || drop(late));
    while !reads.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

//! Runs code in a forked child.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `child` in a forked child. Fails if the child panics, is killed, or does not exit within five
/// minutes.
pub fn in_forked_child(child: impl FnOnce()) {
    // SAFETY: the child calls code that does not rely on other threads of this process, and exits without
    // returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // The alarm kills a child that hangs.
        // SAFETY: sets an alarm in this process, which has no handler for it.
        unsafe { libc::alarm(300) };
        let code = match catch_unwind(AssertUnwindSafe(child)) {
            Ok(()) => 0,
            Err(_) => 1,
        };
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child, and `status` is valid for the write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the child ended with status {status:#x}"
    );
}

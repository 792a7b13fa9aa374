//! The first Ctrl-C asks guests to finish, the second one ends them.

use super::{Folder, POLITE, Running, STUBBORN, component};

#[test]
fn the_first_interrupt_asks_guests_to_finish() {
    let folder = Folder::new("polite");
    let guest = folder.file("polite.wat", &component(POLITE));
    let running = Running::until(&["run", &guest], "ready");
    assert!(running.said.iter().any(|line| line.starts_with("polite INFO  ready")), "{:?}", running.said);
    running.interrupt();
    let (status, printed) = running.end();
    assert!(status.success(), "{status}");
    assert!(printed.contains("finished"), "{printed}");
}

#[test]
fn a_guest_that_goes_on_after_the_first_interrupt_has_failed() {
    let folder = Folder::new("grace");
    folder.file("stubborn.wat", &component(STUBBORN));
    let manifest = folder
        .file("grace.toml", "[[guest]]\nsource = \"stubborn.wat\"\nlimits = { shutdown-grace = \"50ms\" }\n");
    let running = Running::until(&["run", &manifest], "ready");
    running.interrupt();
    let (status, printed) = running.end();
    assert_eq!(status.code(), Some(1));
    assert!(printed.contains("it did not stop when asked to"), "{printed}");
}

#[test]
fn the_second_interrupt_ends_guests_at_once() {
    let folder = Folder::new("stubborn");
    folder.file("stubborn.wat", &component(STUBBORN));
    let manifest = folder.file(
        "stubborn.toml",
        "[[guest]]\nsource = \"stubborn.wat\"\nlimits = { shutdown-grace = \"1h\" }\n",
    );
    let mut running = Running::until(&["run", &manifest], "ready");
    running.interrupt();
    running.says("asked all to finish");
    running.interrupt();
    let (status, printed) = running.end();
    assert_eq!(status.code(), Some(130));
    assert!(printed.contains("cancelled"), "{printed}");
}

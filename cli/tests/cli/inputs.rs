//! Inputs that wait for readers.

use rustix::process::{Pid, Signal, kill_process};

use super::{Folder, POLITE, Running, component, output, stderr};

#[test]
fn an_input_without_readers_ends_when_all_components_have_ended() {
    let folder = Folder::new("unread");
    let guest = folder.file("short.wat", &component(r#"(func (export "run") (result i32) (i32.const 0))"#));
    let run = output(&["run", &guest, "--input", "nobody=README.md"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(stderr(&run).contains("all components have ended, but topic \"nobody\""), "{run:?}");
}

#[test]
fn the_tool_says_which_input_waits_and_one_signal_ends_it() {
    let folder = Folder::new("waiting");
    let guest = folder.file("polite.wat", &component(POLITE));
    for signal in [Signal::INT, Signal::TERM] {
        let waiting = "input nobody waits for 1 subscribers of the topic";
        let running = Running::until(&["run", &guest, "--input", "nobody=README.md"], waiting);
        kill_process(Pid::from_raw(running.child.id() as i32).expect("a process"), signal).expect("sent");
        // `end` bounds a hang: the guest ends when it is asked to.
        let (status, _) = running.end();
        assert!(status.success(), "{status}");
    }
}

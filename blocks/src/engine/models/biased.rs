//! The owner of a biased lock against another thread: they are never both inside, and each sees what the
//! other did.

use std::sync::Arc;

use loom::thread;

use crate::engine::biased::Biased;
use crate::primitive::{begin, offline, with_process_wide_barrier};

fn owner_against_another() {
    loom::model(|| {
        begin();
        let lock = Arc::new(Biased::new(0));
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.from_elsewhere(|value| *value += 1).expect("it is not inside"))
        };
        for _ in 0..2 {
            // SAFETY: this thread alone is the owner.
            unsafe { lock.as_owner(|value| *value += 1) }.expect("it is not inside");
        }
        offline();
        other.join().expect("no panic");
        // SAFETY: as above.
        assert_eq!(unsafe { lock.as_owner(|value| *value) }, Ok(3));
    });
}

#[test]
fn biased_owner_and_another_with_fences() {
    owner_against_another();
}

#[test]
fn biased_owner_and_another_with_a_process_wide_barrier() {
    with_process_wide_barrier(owner_against_another);
}

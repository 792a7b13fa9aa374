//! The protocols, explored by loom under every interleaving and every stale read that its bounds allow.
//!
//! `.ci/models` runs them. Each is known to find what it looks for: `.ci/mutations` weakens one ordering or
//! one check of the engine at a time (`BLOCKCAST_MUTATION=name`) and expects the models named there
//! to fail.
//!
//! What they leave out: the search is bounded to few preemptions per run (`LOOM_MAX_PREEMPTIONS`), SeqCst fences
//! order a little more in loom than in the language, the roster's `crossbeam-epoch` and the reference counts of
//! `Arc` are real and not explored, and `membarrier(2)` is taken to do what its manual says (see `primitive`).
//! `tests/stress.rs` runs the same promises on real threads.

mod biased;
mod claim;
mod close;
mod gate;
mod hold;
mod join;
mod line;
mod ring;
mod wake;

use crate::primitive::with_process_wide_barrier;

/// Checks a model in which nobody sleeps: its gates stay quiet, so that no fence of theirs hides what the
/// protocol itself forgets.
fn quietly(model: impl Fn() + Send + Sync + 'static) {
    with_process_wide_barrier(|| loom::model(model));
}

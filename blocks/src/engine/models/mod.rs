//! The protocols, explored by loom under every interleaving and every stale read that its bounds allow.
//!
//! `.ci/models` runs them. Each is known to find what it looks for: `.ci/mutations` weakens one ordering or
//! check of the engine at a time (`BLOCKCAST_MUTATION=name`), and expects the model named there to fail.
//!
//! They have limits. The search is bounded to few preemptions per run (`LOOM_MAX_PREEMPTIONS`). SeqCst fences
//! order a little more in loom than in the language. The lists of subscribers and processes are not explored
//! (see `snapshot`), and neither are the reference counts of `Arc`. `membarrier(2)` is assumed to do what its
//! manual says (see `primitive`). `tests/stress` checks the same promises on real threads.

mod biased;
mod claim;
mod close;
mod direct;
mod hold;
mod join;
mod notify;
mod relay;
mod remote;
mod ring;
mod sleep;
mod wake;

use crate::primitive::with_process_wide_barrier;

/// Checks a model in which nobody sleeps. Its event counts stay quiet, so that their fences do not hide one
/// that the protocol itself lacks.
fn quietly(model: impl Fn() + Send + Sync + 'static) {
    with_process_wide_barrier(|| loom::model(model));
}

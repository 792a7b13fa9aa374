//! Native components: apps in shared libraries that the broker loads, each run on a thread of its own.
//!
//! ```text
//!  file ── load ──▶ LibraryProgram ── run ──▶ thread: Image::open ─▶ app.run(&Host) ─▶ report, close image
//!                    (its bytes)                       │                  │
//!                                       copy of the file in memory        └─ table ─▶ Instance ─▶ LibraryState
//! ```
//! - `elf` reads a file without running it, `image` loads the code, `program` keeps the file's bytes, and
//!   `error` says why a file cannot be loaded;
//! - `run` drives one run and watches its time; its threads and watchers share the `instance`;
//! - `table`, `direct_table` and `block_table` are the functions that a component calls, `pointers` checks
//!   what it passes, `validation` checks the messages it publishes, and `wait` lets it sleep;
//! - `state` keeps what the component has open, under checked `handles`: subscriptions (`subscription`,
//!   `space`), publishers (`publisher`), loans and memory blocks (`loans`, `blocks`);
//! - `threads` counts the threads that the component starts, and `retained` keeps memory that they may still
//!   use.
//!
//! Deliveries, publishing, memory blocks and limits share their code with guests: see `hosting`.
//!
//! # Direct publishing
//! A channel is shared memory, which a native component has mapped already. So the host tells it once where
//! the descriptors, the head and the event count of its publisher are. The component then takes blocks,
//! several small ones at a time, and publishes them with the same stores, and the same code
//! (`DirectPublisher` in `blockcast_blocks`), as a linked publisher. It calls the host only to take blocks
//! and to wake a waiting subscriber. Before the host's publisher does anything itself, it adopts what was
//! published directly.
//!
//! ```text
//!  component   take blocks ─▶ fill, descriptor, head, waiters? ─▶ fill, descriptor, head, waiters? ─▶ …
//!                  │                                    └─ somebody waits ──┐
//!  host        free blocks, reclaim                                         wake
//! ```
//! Direct publishing bypasses the host's checks. So the component must call the host for each message if its
//! grant limits the rate of publishing, if the topic is unsealed, or if the component does not vouch for the
//! bytes.
//!
//! # What a native component can do to others
//! Anything, since it is code in this process. Its grants and limits are a contract that its calls must keep.
//! Its handles are checked, so that a mistake is an error, except in direct publishing, which works on bare
//! memory. A store through a wild pointer, `exit` or a signal harms the whole process, and memory that it
//! allocates is not counted. Run code that you would not link into your program as a guest.
//!
//! # The C library
//! On aarch64, glibc needs the fix for its bug 29039: 2.39 and newer have it, and so has the 2.36 of an
//! updated Debian 12. Without it, a thread may crash when it uses a thread-local variable of a library that
//! was loaded after the thread had started, if other libraries had been closed before.

mod block_table;
mod blocks;
mod direct_table;
mod elf;
mod error;
mod image;
mod imports;
mod instance;
mod loans;
mod pointers;
mod program;
mod publisher;
mod retained;
mod run;
mod space;
mod state;
mod subscription;
mod table;
mod threads;
mod validation;
mod wait;

pub use elf::LibraryFile;
pub use error::LibraryError;
pub(crate) use instance::LibrarySetup;
pub use program::LibraryProgram;
pub(crate) use run::STACK;

//! Native components: apps in shared libraries, which the broker loads and runs on threads of their own.
//!
//! ```text
//!  file ── load ──▶ LibraryProgram ── run ──▶ thread: Image::open ─▶ app.run(&Host) ─▶ report, then the image is closed
//!                     (its bytes)                       │                 │
//!                                          a copy of the file in memory   └─ table ─▶ Instance ─▶ LibraryState
//! ```
//! - `elf` looks at a file without running it, `image` loads the code, `program` keeps the file's bytes, `error` says why one cannot be loaded;
//! - `run` drives one run and watches its time, `instance` is what its threads and its watchers share;
//! - `table`, `line_table` and `block_table` are the functions that a component calls, `pointers` looks at what it passes, `wait` lets it sleep;
//! - `state` keeps what it has open, under `handles` that are checked: subscriptions (`subscription`, `space`), publishers (`publisher`), loans and
//!   memory blocks (`lending`, `blocks`).
//!
//! Deliveries, publishing, memory blocks and limits use the same code as for guests: see `hosting`.
//!
//! # Lines
//! A channel is shared memory, and a native component has it mapped already. So it is given the
//! publisher's *line*, once: where descriptors, head and gate are. It takes blocks, many small ones at a time, and publishes them by the stores that a linked
//! publisher makes, with the same code (`blockcast_blocks`, `line.rs`); a call is made for blocks, and where somebody waits for a
//! message. The host's own publisher takes in what was published past it before it does anything itself.
//!
//! ```text
//!  component   take blocks ─▶ fill, descriptor, head, gate? ─▶ fill, descriptor, head, gate? ─▶ …
//!                  │                                 └─ somebody waits ──┐
//!  host        free blocks, reclaims                                     wakes
//! ```
//! What cannot be held to on this way takes the other one: where the grant limits rates of publishing, where an unsealed topic's
//! messages are not to be vouched for, where the component does not vouch for the bytes.
//!
//! # What a native component can do to others
//! Anything: it is code of this process. Its grants and limits are a contract, which its calls are held to; its handles are
//! checked, so a mistake is an error, but for the line, which is memory. But a store through a wild pointer, `exit` or a signal harms the whole process, and memory that
//! it takes is not counted. Code that one would not link into the program belongs into a guest.

mod block_table;
mod blocks;
mod elf;
mod error;
mod image;
mod imports;
mod instance;
mod left_behind;
mod lending;
mod line_table;
mod pointers;
mod program;
mod publisher;
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
